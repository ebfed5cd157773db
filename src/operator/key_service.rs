//! Reaches the key service of a cluster: as an admin, directly at a member; as a tenant would, by the Service's name.

use std::{net::SocketAddr, time::Duration};

use crate::{
    api::EnclaveName,
    client::{Client, Config, Error, Trust},
    pki::ClientIdentity,
};

/// A call that is not answered by then is tried again in the next pass; no pass may hang.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where a key service is and how it is trusted.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// URL whose host the server's certificate is checked against.
    pub(crate) endpoint: String,
    /// Where to connect instead of looking the host up.
    pub(crate) connect_to: Option<SocketAddr>,
    /// Certificate of the cluster's authority as PEM.
    pub(crate) trust: Vec<u8>,
}

impl Address {
    /// A client with `identity`, for one enclave or for calls outside of any.
    pub(crate) fn client(
        &self,
        identity: ClientIdentity,
        enclave: Option<&EnclaveName>,
    ) -> Result<Client, Error> {
        Client::new(Config {
            endpoint: self.endpoint.clone(),
            connect_to: self.connect_to,
            identity,
            trust: Trust::Pem(self.trust.clone()),
            enclave: enclave.cloned(),
            timeout: TIMEOUT,
        })
    }
}
