//! Reads generated Secrets: fingerprints, identities and client certificates. Never logs, never shows them.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::purpose::Purpose;
use crate::{
    api::Identity,
    operator::names,
    pki::{self, Authority, ClientIdentity},
};

pub(crate) const CERTIFICATE: &str = "tls.crt";
pub(crate) const PRIVATE_KEY: &str = "tls.key";
pub(crate) const AUTHORITY: &str = "ca.crt";
pub(crate) const UNSEAL_KEY: &str = "KES_UNSEAL_KEY";

/// Bytes of an unseal key.
const UNSEAL_KEY_LEN: usize = 32;

/// Why a Secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("it has no key '{0}'")]
    Missing(String),
    #[error("'{0}' is not the base64 of 32 bytes")]
    UnsealKey(String),
    #[error("'{0}' is no text")]
    Text(&'static str),
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error("the Secret was not read")]
    Absent,
}

/// Generated Secrets by what they are for.
#[derive(Clone, Default)]
pub(crate) struct Keyring(BTreeMap<Purpose, Secret>);

impl Keyring {
    pub(crate) fn insert(&mut self, purpose: Purpose, secret: Secret) {
        self.0.insert(purpose, secret);
    }

    pub(crate) fn get(&self, purpose: &Purpose) -> Option<&Secret> {
        self.0.get(purpose)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Purpose, &Secret)> {
        self.0.iter()
    }

    /// The identity of a client certificate.
    pub(crate) fn identity(&self, purpose: &Purpose) -> Result<Identity, Error> {
        Ok(self.client(purpose)?.identity().clone())
    }

    /// A client certificate with its key; an error when the two do not match.
    pub(crate) fn client(&self, purpose: &Purpose) -> Result<ClientIdentity, Error> {
        client(self.get(purpose).ok_or(Error::Absent)?)
    }

    /// The certificates of the authorities that clients trust the key service by.
    pub(crate) fn trust(&self) -> Result<Vec<u8>, Error> {
        Ok(bytes(self.get(&Purpose::ServerCertificate).ok_or(Error::Absent)?, AUTHORITY)?.to_vec())
    }
}

/// The client certificate in `secret`.
pub(crate) fn client(secret: &Secret) -> Result<ClientIdentity, Error> {
    Ok(ClientIdentity::from_pem(bytes(secret, CERTIFICATE)?, bytes(secret, PRIVATE_KEY)?)?)
}

/// The authority in `secret`.
pub(crate) fn authority(secret: &Secret) -> Result<Authority, Error> {
    Ok(Authority::from_pem(text(secret, CERTIFICATE)?, text(secret, PRIVATE_KEY)?)?)
}

/// What tells one content from another without giving any of it away: the identity of a certificate, the digest of
/// an unseal key.
pub(crate) fn fingerprint(purpose: &Purpose, secret: &Secret) -> Result<String, Error> {
    match purpose {
        Purpose::Seal => {
            let key = unseal_key(secret, UNSEAL_KEY)?;
            let labelled = zeroize::Zeroizing::new([b"kes-operator unseal key\0".as_slice(), &*key].concat());
            Ok(names::digest(&labelled)[..32].to_owned())
        }
        Purpose::Authority => {
            authority(secret)?;
            Ok(pki::identity_of_spki(&spki_of(secret)?).to_string())
        }
        _ => Ok(client(secret)?.identity().to_string()),
    }
}

/// The 32 bytes of an unseal key.
pub(crate) fn unseal_key(secret: &Secret, key: &str) -> Result<zeroize::Zeroizing<Vec<u8>>, Error> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = bytes(secret, key)?;
    let decoded = STANDARD.decode(text.trim_ascii()).map_err(|_| Error::UnsealKey(key.into()))?;
    let decoded = zeroize::Zeroizing::new(decoded);
    if decoded.len() == UNSEAL_KEY_LEN { Ok(decoded) } else { Err(Error::UnsealKey(key.into())) }
}

/// Content of one key of a Secret.
pub(crate) fn bytes<'a>(secret: &'a Secret, key: &str) -> Result<&'a [u8], Error> {
    let data = secret.data.as_ref().and_then(|data| data.get(key));
    data.map(|ByteString(bytes)| bytes.as_slice()).ok_or_else(|| Error::Missing(key.into()))
}

/// Content of one key of a Secret, as text.
pub(crate) fn text<'a>(secret: &'a Secret, key: &'static str) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes(secret, key)?).map_err(|_| Error::Text(key))
}

fn spki_of(secret: &Secret) -> Result<Vec<u8>, Error> {
    // an authority's certificate is no client certificate, so its identity is not asked for in the usual way
    let (_, pem) = x509_parser::pem::parse_x509_pem(bytes(secret, CERTIFICATE)?)
        .map_err(|_| Error::Text(CERTIFICATE))?;
    let certificate = pem.parse_x509().map_err(|_| Error::Text(CERTIFICATE))?;
    Ok(certificate.tbs_certificate.subject_pki.raw.to_vec())
}
