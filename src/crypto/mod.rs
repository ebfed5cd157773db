//! Keys and what they seal: the data plane's ciphertexts, records at rest, the root key under its seal provider.
//!
//! ```text
//! seal provider (variable, file) ──wrap──► root key ──record──► enclave key ──record──► data-plane key ──► ciphertext
//! ```
//!
//! Everything here is a pure function of its arguments; randomness comes in as [`crate::world::Random`]. Types that
//! hold key material have no `Debug`, `Display` or `Serialize` and are wiped when dropped. This is the only room that
//! may hold `unsafe`; today it holds none.

mod algorithm;
mod cipher;
mod key;
mod layout;
mod mac;
mod memory;
mod record;
pub mod seal;
mod secret;
#[cfg(test)]
mod wycheproof;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use key::{Key, OpenError};
pub use layout::Layout;
pub use mac::hmac_sha256;
pub use memory::{MemoryLock, harden};
pub use record::{RecordAad, RecordError, SealingKeys, sealed_under};
pub use seal::{SealError, SealProvider};
pub use secret::{SecretKey, WrongSize};

/// A source of bytes that are known beforehand, so that tests can compare ciphertexts.
#[cfg(test)]
pub(crate) struct Scripted(pub(crate) std::sync::Mutex<Vec<u8>>);

#[cfg(test)]
impl Scripted {
    pub(crate) fn new(bytes: impl IntoIterator<Item = u8>) -> Self {
        Self(std::sync::Mutex::new(bytes.into_iter().collect()))
    }
}

#[cfg(test)]
impl crate::world::Random for Scripted {
    fn fill(&self, bytes: &mut [u8]) {
        let mut script = self.0.lock().unwrap();
        let rest = script.split_off(bytes.len());
        bytes.copy_from_slice(&script);
        *script = rest;
    }
}
