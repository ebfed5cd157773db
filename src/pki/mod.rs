//! Certificates and identities: issue them, read them, take their fingerprint, and turn API keys into both.
//!
//! An identity is the SHA-256 of a public key (contract §2.1), so renewing a certificate with the same key keeps
//! the identity. Types that hold a private key have no `Debug` and wipe it when dropped.

mod api_key;
mod authority;
mod client_identity;
mod ed25519;
mod encrypted;
mod error;
mod identity;
mod pem;
mod self_signed;
mod server_certificate;
#[cfg(test)]
mod wycheproof;

pub use api_key::ApiKey;
pub use authority::{AUTHORITY_VALIDITY, Authority, ServerNames};
pub use client_identity::ClientIdentity;
pub use encrypted::Password;
pub use error::Error;
pub use identity::{identity_of_der, identity_of_pem, identity_of_spki, only_certificate_of_pem};
pub use self_signed::{SelfSigned, Usage, self_signed, self_signed_client, self_signed_for};
pub use server_certificate::{ServerCertificate, not_after_of_pem, validity_of_pem, verify_server};

/// A certificate and its private key as PEM text.
pub struct PemPair {
    /// One `CERTIFICATE` block.
    pub certificate: String,
    /// One `PRIVATE KEY` block (PKCS#8).
    pub key: zeroize::Zeroizing<String>,
}

impl PemPair {
    /// The same with its key under `password`, as KES writes it.
    ///
    /// # Errors
    /// When the key is under a password already.
    pub fn encrypted(self, password: &Password) -> Result<Self, Error> {
        let der = pem::private_key(self.key.as_bytes(), "private key", None)?;
        let key = encrypted::encrypt(der.secret_der(), password, &crate::world::System);
        Ok(Self { key, ..self })
    }
}
