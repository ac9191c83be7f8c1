//! How to reach etcd, and what is kept there under which name.

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use std::time::Duration;

/// How a node reaches etcd.
#[derive(Clone, Debug)]
#[must_use]
pub struct EtcdOptions {
    pub(crate) endpoints: Vec<String>,
    pub(crate) name: String,
    pub(crate) lease: Duration,
    pub(crate) attempt: Duration,
    pub(crate) compact: bool,
    login: Option<(String, String)>,
    tls: Option<TlsOptions>,
}

impl EtcdOptions {
    /// With the members of the etcd cluster, as `http://host:2379` or `https://...`, and the name of the dictionary: the
    /// beginning of all its keys.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>, name: impl Into<String>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            name: name.into(),
            lease: Duration::from_secs(5),
            attempt: Duration::from_secs(2),
            compact: false,
            login: None,
            tls: None,
        }
    }

    /// How long a node may be out of touch with etcd before the others hold it for gone; 5 s by default, 2 s at least.
    /// Whole seconds: the rest is rounded up.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_secs(2));
        self
    }

    /// After which time a request is sent again, to another member; 2 s by default.
    pub fn attempt(mut self, limit: Duration) -> Self {
        self.attempt = limit;
        self
    }

    /// This etcd is the dictionary's own, so whoever writes a checkpoint compacts etcd's history up to the checkpoint
    /// before. Otherwise its database grows, unless somebody else compacts it.
    pub fn compact(mut self, compact: bool) -> Self {
        self.compact = compact;
        self
    }

    /// A user and a password, if etcd asks for them.
    pub fn login(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Some((user.into(), password.into()));
        self
    }

    /// The certificate of the authority that has signed the members' certificates, in PEM.
    pub fn authority(mut self, pem: impl AsRef<[u8]>) -> Self {
        let tls = self.tls.unwrap_or_default();
        self.tls = Some(tls.ca_certificate(Certificate::from_pem(pem)));
        self
    }

    /// This node's own certificate and key, in PEM, if etcd asks for them.
    pub fn certificate(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        let tls = self.tls.unwrap_or_default();
        self.tls = Some(tls.identity(Identity::from_pem(certificate, key)));
        self
    }

    pub(crate) fn connect(&self) -> ConnectOptions {
        let second = Duration::from_secs(1);
        let mut options = ConnectOptions::new()
            .with_require_leader(true)
            .with_connect_timeout(second)
            .with_keep_alive(second, second)
            .with_keep_alive_while_idle(true);
        if let Some((user, password)) = &self.login {
            options = options.with_user(user, password);
        }
        if let Some(tls) = &self.tls {
            options = options.with_tls(tls.clone());
        }
        options
    }
}
