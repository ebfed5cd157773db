//! A typed client of the key API, for the command line, the operator and the tests.
//!
//! One connection per client is kept and shared (HTTP/2 where the server offers it); a call that meets a broken
//! connection or a 503 is sent up to two times more, as the SDKs of KES do (contract §8.5).

mod any_server;
mod call;
mod connection;
mod endpoint;
mod error;
mod identities;
mod keys;
mod lines;
mod listing;
mod logs;
mod policies;
mod secrets;
mod system;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

pub(crate) use any_server::AnyServer;
pub use error::Error;
pub use identities::IdentityEntry;
pub use lines::Lines;
pub use tls::Trust;

use crate::{api::EnclaveName, pki::ClientIdentity};

/// Where to connect, as whom, and whom to trust.
pub struct Config {
    /// `https://host:port`; the host is what the server's certificate must name. Several, separated by commas, are servers
    /// of which any will do: the next one is asked when one is away.
    pub endpoint: String,
    /// Connect here instead of resolving the endpoint's host.
    pub connect_to: Option<SocketAddr>,
    /// Certificate and key of the caller.
    pub identity: ClientIdentity,
    /// Which server certificates are accepted.
    pub trust: Trust,
    /// Sent as `?enclave=`; without it the server takes its default enclave.
    pub enclave: Option<EnclaveName>,
    /// The longest that one call may take, its retries included.
    pub timeout: Duration,
}

/// A client of one server, or of several that are alike. Cheap to share behind a reference or an [`std::sync::Arc`].
pub struct Client {
    /// One per address.
    connectors: Vec<connection::Connector>,
    /// The one that answered last.
    current: AtomicUsize,
    enclave: Option<EnclaveName>,
    timeout: Duration,
}

impl Client {
    /// Prepares a client; nothing is sent before the first call.
    ///
    /// # Errors
    /// [`Error::Endpoint`] and [`Error::Trust`].
    pub fn new(config: Config) -> Result<Self, Error> {
        let Config { endpoint, connect_to, identity, trust, enclave, timeout } = config;
        let tls = tls::config(&identity, &trust)?;
        let endpoints = endpoint::parse_list(&endpoint)?;
        let connectors = endpoints
            .into_iter()
            .map(|endpoint| connection::Connector::new(endpoint, connect_to, Arc::clone(&tls)))
            .collect();
        Ok(Self { connectors, current: AtomicUsize::new(0), enclave, timeout })
    }
}
