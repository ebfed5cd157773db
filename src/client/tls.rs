//! TLS as a client: who the server must be, and who we are.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{AnyServer, Error};
use crate::pki::ClientIdentity;

/// Which server certificates are accepted.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those that the machine's certificate store vouches for.
    System,
    /// Those that one of these PEM certificates vouches for, and no other.
    Pem(Vec<u8>),
    /// Any. The connection is encrypted, but nobody knows to whom: for tests.
    Insecure,
}

/// The configuration of every connection of one client.
pub(super) fn config(identity: &ClientIdentity, trust: &Trust) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::Identity)?;
    let builder = match trust {
        Trust::System => builder.with_root_certificates(system()?),
        Trust::Pem(text) => builder.with_root_certificates(pem(text)?),
        Trust::Insecure => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer::new(provider)))
        }
    };
    let (chain, key) = identity.to_rustls();
    let mut config = builder.with_client_auth_cert(chain, key).map_err(Error::Identity)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn system() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Error::Trust("this machine has no certificate store".into()));
    }
    Ok(roots)
}

fn pem(text: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|_| Error::Trust("the PEM text is broken".into()))?;
        roots.add(certificate).map_err(|error| Error::Trust(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(Error::Trust("no PEM block 'CERTIFICATE' found".into()));
    }
    Ok(roots)
}
