//! What is sent: the JSON forms, the wire forms, and that bytes from anywhere do no harm.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in tests that are not marked as such

#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod json;
mod msgpack;
mod protobuf;
mod recordings;
mod values;
