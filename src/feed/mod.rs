//! WHO has seen what: buffers, each a cursor into the one order of revisions.
//!
//! Writers push nothing to anybody. A buffer remembers how far it has delivered and merges, when it is flushed, what the
//! root of that moment says has changed since. So coalescing and order cannot go wrong, a flush is one consistent
//! instant, and a commit costs the same whether nobody watches or thousands do, but for waking those asleep in a flush.

mod buffer;
mod delivery;
mod difference;
mod subscription;

pub use buffer::{BufferOptions, ChangeBuffer, Tombstones};
pub use delivery::Delivery;
pub use difference::Updates;
pub use subscription::Subscription;
