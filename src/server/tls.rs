//! TLS 1.3 towards clients: any certificate is welcome, but its key must be in the client's hands.
//!
//! Chains, dates, usages and names are not looked at: the identity is the public key (contract §1.1, §2.1), and the
//! certificate of a MinIO API key is self-signed and expires while MinIO runs. What is checked is the signature of the
//! handshake, and that the certificate it was made with is the one whose identity counts. KES takes the identity of
//! the only certificate that is not an authority's, also where another one signed; a client could so put its own
//! authority's certificate before somebody else's leaf.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::access::Access;
use crate::{
    api::{ApiError, Identity},
    pki::{self, Password, ServerCertificate},
};

/// The server's certificate, which may be replaced while connections come in.
pub(super) struct Certificate {
    paths: [PathBuf; 2],
    /// Of the key.
    password: Option<Password>,
    current: ArcSwap<CertifiedKey>,
    /// Modification times of both files when they were last read.
    read: ArcSwap<[Option<SystemTime>; 2]>,
}

impl Certificate {
    /// Reads the certificate and its key.
    pub(super) fn load(
        certificate: PathBuf,
        key: PathBuf,
        password: Option<Password>,
    ) -> Result<Self, pki::Error> {
        let paths = [certificate, key];
        let read = modified(&paths);
        let [certificate, key] = &paths;
        let current = ServerCertificate::load_under(certificate, key, password.as_ref())?.certified_key();
        Ok(Self { paths, password, current: ArcSwap::new(current), read: ArcSwap::from_pointee(read) })
    }

    /// Reads both files again if one of them changed. A pair that cannot be used leaves the old one in place.
    pub(super) fn reload(&self) -> Result<bool, pki::Error> {
        if modified(&self.paths) == **self.read.load() {
            return Ok(false);
        }
        self.read_again().map(|()| true)
    }

    /// Reads both files whether they changed or not. A pair that cannot be used leaves the old one in place.
    pub(super) fn read_again(&self) -> Result<(), pki::Error> {
        let now = modified(&self.paths);
        let [certificate, key] = &self.paths;
        let new = ServerCertificate::load_under(certificate, key, self.password.as_ref())?;
        // only now: the two files of a pair do not change at the same instant
        self.read.store(Arc::new(now));
        self.current.store(new.certified_key());
        Ok(())
    }
}

#[cfg(test)]
impl Certificate {
    pub(super) fn current(&self) -> Vec<CertificateDer<'static>> {
        self.current.load().cert.clone()
    }
}

fn modified(paths: &[PathBuf; 2]) -> [Option<SystemTime>; 2] {
    [0, 1].map(|index| std::fs::metadata(&paths[index]).and_then(|file| file.modified()).ok())
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// The configuration for all connections. Sessions are resumed by encrypted tickets, which carry the client's chain.
pub(super) fn config(certificate: Arc<Certificate>, access: &Access) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(AnyClient {
        signatures: provider.signature_verification_algorithms,
        is_mandatory: !access.takes_anybody(),
        chains: access.verifier(),
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if access.verifies_clients() {
        // the chain of a resumed session is not looked at again
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = aws_lc_rs::Ticketer::new()?;
    }
    Ok(config)
}

/// The identity of a client that completed the handshake with `chain`.
///
/// # Errors
/// The answer to each of its requests: no certificate, or more than one that is not an authority's.
pub(super) fn identity(chain: Option<&[CertificateDer<'_>]>) -> Result<Identity, ApiError> {
    pki::identity_of_der(chain.unwrap_or_default()).map_err(|error| match error {
        pki::Error::TooManyCertificates => ApiError::TOO_MANY_CERTIFICATES,
        _ => ApiError::NO_CERTIFICATE,
    })
}

/// Accepts every certificate whose key signs the handshake, and whose chain is trusted where that is asked for.
#[derive(Debug)]
struct AnyClient {
    signatures: WebPkiSupportedAlgorithms,
    is_mandatory: bool,
    chains: Option<Arc<dyn ClientCertVerifier>>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        if let Some(chains) = &self.chains {
            chains.verify_client_cert(end_entity, intermediates, now)?;
        }
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        let signer = pki::identity_of_spki(spki(end_entity)?.raw());
        match pki::identity_of_der(&chain) {
            // refused request by request, with a text
            Err(pki::Error::TooManyCertificates) => Ok(ClientCertVerified::assertion()),
            Ok(identity) if identity == signer => Ok(ClientCertVerified::assertion()),
            Ok(_) | Err(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let spki = spki(certificate)?;
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(spki.raw()),
            signature,
            &self.signatures,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_schemes()
    }
}

/// A parsed certificate, of which only the public key is of interest.
struct Spki<'c>(X509Certificate<'c>);

impl Spki<'_> {
    fn raw(&self) -> &[u8] {
        self.0.tbs_certificate.subject_pki.raw
    }
}

fn spki<'c>(certificate: &'c CertificateDer<'_>) -> Result<Spki<'c>, TlsError> {
    match X509Certificate::from_der(certificate) {
        Ok((_, certificate)) => Ok(Spki(certificate)),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}
