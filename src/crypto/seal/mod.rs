//! What keeps the root key when the server is off: a provider wraps it for the disk and unwraps it at start.

mod environment;
mod file;
mod throwaway;

pub use environment::Environment;
pub use file::File;
pub use throwaway::Throwaway;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    record::{RecordAad, RecordError, SealingKeys},
    secret::SecretKey,
};
use crate::world::Random;

/// Wraps the root key. A provider may do I/O; call it at start and at bootstrap only.
pub trait SealProvider: Send + Sync {
    /// Where the unseal key comes from, e.g. `environment variable 'KES_UNSEAL_KEY'`. Never the key itself.
    fn describe(&self) -> String;

    /// Wraps `root` so that only the same provider and cluster get it back.
    ///
    /// # Errors
    /// When the unseal key cannot be had.
    fn wrap(&self, root: &SecretKey, cluster: &str, random: &dyn Random) -> Result<Vec<u8>, SealError>;

    /// Gives the root key back.
    ///
    /// # Errors
    /// When the unseal key cannot be had, or is not the one that `sealed` was wrapped with.
    fn unwrap(&self, sealed: &[u8], cluster: &str) -> Result<SecretKey, SealError>;
}

/// Why the root key cannot be wrapped or unwrapped: where, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The environment variable is not set.
    #[error(
        "failed to read the unseal key: sys: unseal env. variable '{0}' not found; \
         set {0} to the base64 text of the 32 bytes that this server was initialised with"
    )]
    VariableMissing(String),
    /// The file cannot be read.
    #[error(
        "failed to read the unseal key: file '{}': {error}; \
         make the file readable for this user, with the base64 text of the 32 bytes that this server was initialised with",
        path.display()
    )]
    FileUnreadable {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        #[source]
        error: std::io::Error,
    },
    /// The value is not base64.
    #[error(
        "failed to read the unseal key: {place}: the value is not base64 ({error}); \
         it must be 44 characters of standard base64 for 32 bytes, as `head -c 32 /dev/urandom | base64` prints"
    )]
    NotBase64 {
        /// See [`SealProvider::describe`].
        place: String,
        /// What is wrong with the text, without quoting a byte of it.
        error: &'static str,
    },
    /// The value is base64 of another number of bytes.
    #[error(
        "failed to read the unseal key: {place}: key: invalid key size: {size} bytes instead of 32; \
         `head -c 32 /dev/urandom | base64` prints a new one, an existing server needs the one that it was initialised with"
    )]
    WrongSize {
        /// See [`SealProvider::describe`].
        place: String,
        /// Bytes that the value has.
        size: usize,
    },
    /// The unseal key is well-formed but not the one that sealed this cluster.
    #[error(
        "failed to unseal: {place}: decryption failed: ciphertext is not authentic; \
         this is not the unseal key that cluster '{cluster}' was initialised with, or its sealed root key was changed"
    )]
    WrongKey {
        /// See [`SealProvider::describe`].
        place: String,
        /// Id of the cluster.
        cluster: String,
    },
    /// The sealed root key has a form that this release does not know.
    #[error(
        "failed to unseal: {place}: {error}; start the release that wrote this data, or restore a backup"
    )]
    Unreadable {
        /// See [`SealProvider::describe`].
        place: String,
        /// What is wrong with the sealed root key.
        #[source]
        error: RecordError,
    },
}

/// Parses the text of an unseal key; white space around it is not part of it.
fn parse(place: impl Fn() -> String, text: &[u8]) -> Result<SecretKey, SealError> {
    let bytes = Zeroizing::new(STANDARD.decode(text.trim_ascii()).map_err(|error| SealError::NotBase64 {
        place: place(),
        error: match error {
            base64::DecodeError::InvalidByte(..) => "it has a character outside the alphabet",
            base64::DecodeError::InvalidLength(_) => "its length is impossible",
            base64::DecodeError::InvalidLastSymbol(..) => "its last character is impossible",
            base64::DecodeError::InvalidPadding => "its padding is wrong",
        },
    })?);
    SecretKey::try_from(&**bytes).map_err(|_| SealError::WrongSize { place: place(), size: bytes.len() })
}

fn aad(cluster: &str) -> RecordAad<'_> {
    RecordAad { cluster, enclave: [0; 8], kind: 0, name: "root key", version: 1 }
}

fn wrap_under(unseal: &SealingKeys, root: &SecretKey, cluster: &str, random: &dyn Random) -> Vec<u8> {
    unseal.seal(&aad(cluster), root.expose(), random)
}

fn unwrap_under(
    unseal: &SealingKeys,
    sealed: &[u8],
    cluster: &str,
    place: impl Fn() -> String,
) -> Result<SecretKey, SealError> {
    let wrong_key = || SealError::WrongKey { place: place(), cluster: cluster.into() };
    let root = unseal.open(&aad(cluster), sealed).map_err(|error| match error {
        RecordError::NotAuthentic | RecordError::UnknownKey(_) => wrong_key(),
        error => SealError::Unreadable { place: place(), error },
    })?;
    SecretKey::try_from(&**root).map_err(|_| wrong_key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::System;

    fn place() -> String {
        "environment variable 'KES_UNSEAL_KEY'".into()
    }

    #[test]
    fn a_bad_value_is_refused_with_a_sentence_that_does_not_quote_it() {
        for (value, want) in [
            ("", "key: invalid key size: 0 bytes instead of 32"),
            ("c2hvcnQ=", "key: invalid key size: 5 bytes instead of 32"),
            ("no base64 at all!", "the value is not base64"),
            ("AAAA=AAA", "the value is not base64"),
        ] {
            let error = parse(place, value.as_bytes()).err().unwrap().to_string();
            assert!(error.contains(want), "{error}");
            assert!(error.contains(&place()), "{error}");
            assert!(value.is_empty() || !error.contains(value), "{error}");
        }
    }

    #[test]
    fn white_space_around_the_value_is_not_part_of_it() {
        let text = STANDARD.encode([7; 32]);
        assert_eq!(parse(place, format!(" {text}\r\n").as_bytes()).unwrap().expose(), &[7; 32]);
    }

    #[test]
    fn only_the_same_unseal_key_and_cluster_give_the_root_key_back() {
        let unseal = |n| SealingKeys::new(SecretKey::from_bytes([n; 32]));
        let root = SecretKey::from_bytes([2; 32]);
        let sealed = wrap_under(&unseal(1), &root, "c1", &System);
        assert!(unwrap_under(&unseal(1), &sealed, "c1", place).unwrap().same_as(&root));
        for (unseal, cluster) in [(unseal(3), "c1"), (unseal(1), "c2")] {
            let error = unwrap_under(&unseal, &sealed, cluster, place).err().unwrap().to_string();
            assert!(error.contains("decryption failed: ciphertext is not authentic"), "{error}");
            assert!(error.contains(cluster) && error.contains(&place()), "{error}");
        }
        let error = unwrap_under(&unseal(1), &[9; 80], "c1", place).err().unwrap();
        assert!(matches!(error, SealError::Unreadable { .. }), "{error}");
    }
}
