//! Who a client is: a certificate chain and the private key that proves it.

use std::{path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};

use super::{
    ApiKey, Error, Password, SelfSigned, Usage, identity_of_der, pem, self_signed,
    server_certificate::{certified, read},
};
use crate::api::Identity;

/// How long the certificate of an API key is valid, as in the SDKs.
const API_KEY_VALIDITY: Duration = Duration::from_secs(90 * 86_400);

/// A client certificate with its key, ready for a TLS handshake.
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    identity: Identity,
}

impl ClientIdentity {
    /// Reads a certificate chain and its key.
    ///
    /// # Errors
    /// For text that is no PEM, and for a key that does not match the certificate.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, Error> {
        Self::new((certificate, "client certificate"), (key, "client key"), None)
    }

    /// Reads a certificate chain and its key from files.
    ///
    /// # Errors
    /// As [`Self::from_pem`], and for a file that cannot be read.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        Self::load_under(certificate, key, None)
    }

    /// The same with a key that may be under a password.
    ///
    /// # Errors
    /// As [`Self::load`], and [`Error::Encrypted`] and [`Error::Password`] for no password and a wrong one.
    pub fn load_under(certificate: &Path, key: &Path, password: Option<&Password>) -> Result<Self, Error> {
        let names = [
            format!("client certificate '{}'", certificate.display()),
            format!("client key '{}'", key.display()),
        ];
        let certificate = read("client certificate", certificate)?;
        let key = zeroize::Zeroizing::new(read("client key", key)?);
        Self::new((&certificate, &names[0]), (&key, &names[1]), password)
    }

    /// Makes the certificate of an API key: common name is the identity, valid for 90 days from now.
    ///
    /// # Errors
    /// Only when the cryptographic library refuses.
    pub fn from_api_key(key: &ApiKey) -> Result<Self, Error> {
        let content = SelfSigned {
            common_name: key.identity().to_string(),
            dns: Vec::new(),
            ip: Vec::new(),
            validity: API_KEY_VALIDITY,
            usage: Usage::Client,
        };
        let pair = self_signed::sign(&content, key.seed(), Timestamp::now())?;
        Self::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes())
    }

    /// What servers know it by.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Chain and key in the form that `rustls` takes.
    #[must_use]
    pub fn to_rustls(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), self.key.clone_key())
    }

    /// Of texts and what they are called.
    fn new(
        (certificate, certificate_name): (&[u8], &str),
        (key, key_name): (&[u8], &str),
        password: Option<&Password>,
    ) -> Result<Self, Error> {
        let chain = pem::certificates(certificate, certificate_name)?;
        let key = pem::private_key(key, key_name, password)?;
        let identity = identity_of_der(&chain)?;
        let _: Arc<CertifiedKey> = certified(&chain, &key, certificate_name, key_name)?;
        Ok(Self { chain, key, identity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{identity, self_signed_client};

    #[test]
    fn the_certificate_of_an_api_key_is_that_of_the_contract() {
        let key = ApiKey::parse("kes:v1:AAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f").unwrap();
        let client = key.client_identity().unwrap();
        assert_eq!(client.identity(), key.identity());
        let (chain, _) = client.to_rustls();
        let certificate = identity::parse(&chain[0], "test").unwrap();
        assert_eq!(certificate.subject().to_string(), format!("CN={}", key.identity()));
        assert_eq!(certificate.subject(), certificate.issuer());
        assert!(certificate.subject_alternative_name().unwrap().is_none());
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        let validity = certificate.validity();
        assert_eq!(validity.not_after.timestamp() - validity.not_before.timestamp(), 90 * 86_400);
        assert!(certificate.verify_signature(None).is_ok());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let day = Duration::from_secs(86_400);
        let (one, two) = (self_signed_client("a", day).unwrap(), self_signed_client("b", day).unwrap());
        let mixed = ClientIdentity::from_pem(one.certificate.as_bytes(), two.key.as_bytes());
        assert!(matches!(mixed, Err(Error::KeyMismatch { .. })));
        let swapped = ClientIdentity::from_pem(one.key.as_bytes(), one.certificate.as_bytes());
        assert!(matches!(swapped, Err(Error::NoPem { .. })));
    }
}
