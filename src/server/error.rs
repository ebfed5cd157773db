//! Why a server does not start.

use std::{io, net::SocketAddr};

use crate::pki;

/// What failed, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server's certificate or key cannot be used.
    #[error("{0}. {next}", next = .0.next_step())]
    Certificate(#[source] pki::Error),
    /// TLS cannot be set up with this build.
    #[error("failed to set up TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// An address cannot be listened on.
    #[error("failed to listen on {address}: {source}; {}", listen_hint(source, *address))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

fn listen_hint(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "another process has port {0}: stop it ('ss -ltnp sport = :{0}' names it) or choose another address",
                address.port()
            )
        }
        io::ErrorKind::PermissionDenied => "this user may not take the port: choose one from 1024 on".into(),
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have the address: use one that it has, or 0.0.0.0".into()
        }
        _ => "choose another address".into(),
    }
}
