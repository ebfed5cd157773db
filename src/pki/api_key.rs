//! API keys: an identity as one line of text (contract §2.2).
//!
//! `kes:v1:` and the base64 of a type byte (0 = Ed25519) and the 32-byte seed. The server never sees it; the client
//! makes a certificate of it that lives for 90 days.

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::PublicKeyData;
use zeroize::Zeroizing;

use super::{
    ClientIdentity, Error,
    ed25519::{SEED_LEN, Seed},
    identity_of_spki, pem,
};
use crate::{api::Identity, world::Random};

const PREFIX: &str = "kes:v1:";
const TYPE_ED25519: u8 = 0;

/// An Ed25519 private key in its textual form.
pub struct ApiKey {
    seed: Seed,
    identity: Identity,
}

impl ApiKey {
    /// Makes a new key from `random`.
    ///
    /// # Errors
    /// Only when the cryptographic library refuses.
    pub fn generate(random: &impl Random) -> Result<Self, Error> {
        Self::from_seed(Seed::generate(random))
    }

    /// Reads `kes:v1:…`, or the base64 part alone.
    ///
    /// # Errors
    /// [`Error::ApiKey`], which does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let body = text.strip_prefix(PREFIX).unwrap_or(text);
        let bytes = Zeroizing::new(STANDARD.decode(body).map_err(|_| Error::ApiKey("not valid base64"))?);
        match bytes.split_first() {
            None => Err(Error::ApiKey("it is empty")),
            Some((&TYPE_ED25519, seed)) => {
                let seed = Seed::from_bytes(seed).ok_or(Error::ApiKey("it has the wrong length"))?;
                Self::from_seed(seed)
            }
            Some(_) => Err(Error::ApiKey("its type is unknown")),
        }
    }

    /// The API key of an Ed25519 private key in PEM form (PKCS#8).
    ///
    /// # Errors
    /// As for reading a private key, and [`Error::ApiKey`] for one that is not Ed25519.
    pub fn from_private_key_pem(text: &[u8]) -> Result<Self, Error> {
        let key = pem::private_key(text, "private key", None)?;
        Self::from_seed(Seed::from_pkcs8(&key).ok_or(Error::ApiKey("the private key is not an Ed25519 key"))?)
    }

    /// Whether `text` claims to be an API key.
    #[must_use]
    pub fn looks_like(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The identity that a server derives from it.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The secret text, `kes:v1:…`.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([TYPE_ED25519; 1 + SEED_LEN]);
        bytes[1..].copy_from_slice(self.seed.as_bytes());
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 44));
        text.push_str(PREFIX);
        STANDARD.encode_string(*bytes, &mut text);
        text
    }

    /// Its client certificate, made now and valid for 90 days.
    ///
    /// # Errors
    /// Only when the cryptographic library refuses.
    pub fn client_identity(&self) -> Result<ClientIdentity, Error> {
        ClientIdentity::from_api_key(self)
    }

    pub(super) fn seed(&self) -> &Seed {
        &self.seed
    }

    pub(super) fn from_seed(seed: Seed) -> Result<Self, Error> {
        let identity = identity_of_spki(&seed.key_pair()?.subject_public_key_info());
        Ok(Self { seed, identity })
    }
}

impl std::str::FromStr for ApiKey {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::System;

    /// Contract §2.2; the second is the public test key of upstream's server tests.
    const VECTORS: [(&str, &str); 2] = [
        (
            "kes:v1:AAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
            "a050837d85070582ccf7394b0988847cc312cb88259b894899f6f239cf1791a5",
        ),
        (
            "kes:v1:AD9E7FSYWrMD+VjhI6q545cYT9YOyFxZb7UnjEepYDRc",
            "3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22",
        ),
    ];

    #[test]
    fn the_vectors_of_the_contract_give_their_identities() {
        for (text, identity) in VECTORS {
            let key = ApiKey::parse(text).unwrap();
            assert_eq!(key.identity().as_str(), identity);
            assert_eq!(&**key.to_text(), text);
            let bare = ApiKey::parse(text.strip_prefix(PREFIX).unwrap()).unwrap();
            assert_eq!(bare.identity(), key.identity());
        }
    }

    #[test]
    fn a_generated_key_round_trips_as_text_and_as_pem() {
        let key = ApiKey::generate(&System).unwrap();
        let again = ApiKey::parse(&key.to_text()).unwrap();
        assert_eq!(again.identity(), key.identity());
        let pem = pem::encode_private_key(&key.seed().to_pkcs8());
        assert_eq!(*ApiKey::from_private_key_pem(pem.as_bytes()).unwrap().to_text(), *key.to_text());
    }

    #[test]
    fn a_text_that_is_no_api_key_is_refused_without_repeating_it() {
        for bad in [
            "",
            "kes:v1:",
            "kes:v1:AAA",
            "kes:v1:AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
            "kes:v1:AAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fIA==",
            "kes:v2:AAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
            "kes:v1:!!",
        ] {
            let error = ApiKey::parse(bad).err().unwrap().to_string();
            assert!(error.starts_with("invalid API key: "), "{error}");
            assert!(bad.len() < 8 || !error.contains(bad), "{error}");
        }
    }
}
