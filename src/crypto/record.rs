//! Records at rest: what the store keeps of a key, an enclave or a secret.
//!
//! ```text
//! ┌────────┬─────────────┬───────────┬───────────┬──────────────────────────┐
//! │ format │ key version │ salt      │ nonce     │ AES-256-GCM ct ‖ tag     │
//! │ 1 byte │ 4 bytes     │ 16 random │ 12 random │ plaintext + 16 bytes     │   49 bytes longer than the plaintext
//! └────────┴─────────────┴───────────┴───────────┴──────────────────────────┘
//! sub-key = HMAC-SHA-256(key of that version, "kes record v1" ‖ salt)
//! AAD     = "kes record aad v1" ‖ kind ‖ version (u32) ‖ enclave (8) ‖ each of cluster, name as (length u64 ‖ bytes)
//! ```
//! Numbers are little-endian. NIST SP 800-38D §8.3 allows 2³² messages under one key with random 96-bit nonces. Here
//! each record has a sub-key of its own: among n records the chance that any two share salt *and* nonce is
//! n²/2²²⁵, below 2⁻¹²⁵ for 2⁵⁰ records, and no sub-key reaches 2³² messages before that.
//!
//! The AAD binds a record to its place: a copy under another name, version, kind, enclave or cluster does not open.
//! The version of the key tells which records a rotation still has to seal anew, without opening them.

use zeroize::Zeroizing;

use super::{
    algorithm::Algorithm,
    cipher::{self, Deriver, NONCE, NotAuthentic, SALT, TAG},
    secret::SecretKey,
};
use crate::world::Random;

const FORMAT: u8 = 1;
const KEY_VERSION: usize = 4;
const HEAD: usize = 1 + KEY_VERSION + SALT + NONCE;
const SUB_KEY_LABEL: &[u8] = b"kes record v1";
const AAD_LABEL: &[u8] = b"kes record aad v1";

/// The place that a record belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordAad<'a> {
    /// Id of the cluster.
    pub cluster: &'a str,
    /// Id of the enclave, or zeros for what belongs to none.
    pub enclave: [u8; 8],
    /// What is recorded; the numbers are `store`'s.
    pub kind: u8,
    /// Name of the thing.
    pub name: &'a str,
    /// Version of the thing.
    pub version: u32,
}

/// Why a record does not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Shorter than the smallest record.
    #[error("failed to open record: it is cut short")]
    Truncated,
    /// Written by a later release.
    #[error("failed to open record: its format {0} is newer than this release reads")]
    UnknownFormat(u8),
    /// Sealed under a key that is not here any more, or changed.
    #[error("failed to open record: it was sealed under version {0} of the key, which is not here")]
    UnknownKey(u32),
    /// Changed bytes, another place, or another key.
    #[error("failed to open record: it was changed, moved, or sealed under another key")]
    NotAuthentic,
}

impl RecordAad<'_> {
    fn encode(&self) -> Vec<u8> {
        let Self { cluster, enclave, kind, name, version } = self;
        let texts = [cluster, name];
        let length = AAD_LABEL.len() + 1 + 4 + 8 + texts.iter().map(|text| 8 + text.len()).sum::<usize>();
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(AAD_LABEL);
        out.push(*kind);
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(enclave);
        for text in texts {
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }
}

/// Keys that seal records, expanded once: the newest version seals, every version opens.
pub struct SealingKeys {
    newest: Version,
    former: Vec<Version>,
}

struct Version {
    number: u32,
    secret: SecretKey,
    deriver: Deriver,
}

impl Version {
    fn new(number: u32, secret: SecretKey) -> Self {
        Self { number, deriver: Deriver::new(secret.expose()), secret }
    }
}

impl SealingKeys {
    /// The first version of a key.
    #[must_use]
    pub fn new(secret: SecretKey) -> Self {
        Self { newest: Version::new(1, secret), former: Vec::new() }
    }

    /// These versions of a key, in any order; nothing when there are none.
    #[must_use]
    pub fn from_versions(versions: impl IntoIterator<Item = (u32, SecretKey)>) -> Option<Self> {
        let mut former: Vec<_> = versions.into_iter().map(|(n, secret)| Version::new(n, secret)).collect();
        former.sort_by_key(|version| version.number);
        let newest = former.pop()?;
        Some(Self { newest, former })
    }

    /// The version that seals.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.newest.number
    }

    /// All versions, the newest first.
    pub fn versions(&self) -> impl Iterator<Item = (u32, &SecretKey)> {
        self.all().map(|version| (version.number, &version.secret))
    }

    fn all(&self) -> impl Iterator<Item = &Version> {
        std::iter::once(&self.newest).chain(self.former.iter().rev())
    }

    /// Seals `plaintext` into a record for the place `aad`.
    #[must_use]
    pub fn seal(&self, aad: &RecordAad<'_>, plaintext: &[u8], random: &dyn Random) -> Vec<u8> {
        let mut fresh = [0; SALT + NONCE];
        random.fill(&mut fresh);
        let mut salt = [0; SALT];
        let mut nonce = [0; NONCE];
        salt.copy_from_slice(&fresh[..SALT]);
        nonce.copy_from_slice(&fresh[SALT..]);
        let mut out = Vec::with_capacity(HEAD + plaintext.len() + TAG);
        out.push(FORMAT);
        out.extend_from_slice(&self.newest.number.to_le_bytes());
        out.extend_from_slice(&fresh);
        out.extend_from_slice(plaintext);
        let sub_key = self.newest.deriver.derive(SUB_KEY_LABEL, &salt);
        let tag = cipher::seal(Algorithm::Aes256Gcm, &sub_key, &nonce, &aad.encode(), &mut out[HEAD..]);
        out.extend_from_slice(&tag);
        out
    }

    /// Opens a record of the place `aad`.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn open(&self, aad: &RecordAad<'_>, record: &[u8]) -> Result<Zeroizing<Vec<u8>>, RecordError> {
        let (number, rest) = split_head(record)?;
        let version = self.all().find(|version| version.number == number);
        let version = version.ok_or(RecordError::UnknownKey(number))?;
        let (salt, rest) = rest.split_first_chunk::<SALT>().ok_or(RecordError::Truncated)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(RecordError::Truncated)?;
        let (sealed, tag) = rest.split_last_chunk::<TAG>().ok_or(RecordError::Truncated)?;
        let mut plaintext = Zeroizing::new(sealed.to_vec());
        let sub_key = version.deriver.derive(SUB_KEY_LABEL, salt);
        cipher::open(Algorithm::Aes256Gcm, &sub_key, nonce, &aad.encode(), &mut plaintext, tag)
            .map_err(|NotAuthentic| RecordError::NotAuthentic)?;
        Ok(plaintext)
    }
}

/// The version of the key that `record` was sealed under, as it says itself.
///
/// # Errors
/// When it is no record.
pub fn sealed_under(record: &[u8]) -> Result<u32, RecordError> {
    split_head(record).map(|(version, _)| version)
}

fn split_head(record: &[u8]) -> Result<(u32, &[u8]), RecordError> {
    let (format, rest) = record.split_first().ok_or(RecordError::Truncated)?;
    if *format != FORMAT {
        return Err(RecordError::UnknownFormat(*format));
    }
    let (version, rest) = rest.split_first_chunk::<KEY_VERSION>().ok_or(RecordError::Truncated)?;
    Ok((u32::from_le_bytes(*version), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::System;

    const AAD: RecordAad<'static> =
        RecordAad { cluster: "c1", enclave: *b"enclave1", kind: 2, name: "n1", version: 3 };

    fn key() -> SecretKey {
        SecretKey::from_bytes([5; 32])
    }

    fn keys() -> SealingKeys {
        SealingKeys::new(key())
    }

    #[test]
    fn what_is_sealed_opens_and_is_49_bytes_longer() {
        for length in [0, 1, 32, 5000] {
            let plaintext = vec![3; length];
            let record = keys().seal(&AAD, &plaintext, &System);
            assert_eq!(record.len(), length + 49);
            assert_eq!(**keys().open(&AAD, &record).unwrap(), *plaintext);
        }
    }

    #[test]
    fn a_record_opens_in_no_other_place() {
        let record = keys().seal(&AAD, b"secret", &System);
        for other in [
            RecordAad { cluster: "c2", ..AAD },
            RecordAad { enclave: *b"enclave2", ..AAD },
            RecordAad { kind: 3, ..AAD },
            RecordAad { name: "n2", ..AAD },
            RecordAad { version: 4, ..AAD },
            // the same bytes, divided differently
            RecordAad { cluster: "c1n", name: "1", ..AAD },
            RecordAad { cluster: "", name: "c1n1", ..AAD },
        ] {
            assert_eq!(keys().open(&other, &record).err(), Some(RecordError::NotAuthentic), "{other:?}");
        }
        let foreign = SealingKeys::new(SecretKey::from_bytes([6; 32]));
        assert_eq!(foreign.open(&AAD, &record).err(), Some(RecordError::NotAuthentic));
    }

    #[test]
    fn the_newest_version_seals_and_every_version_opens() {
        let versions = |range: std::ops::RangeInclusive<u32>| {
            SealingKeys::from_versions(range.rev().map(|n| (n, SecretKey::from_bytes([n as u8; 32]))))
                .unwrap()
        };
        let old = versions(1..=1).seal(&AAD, b"secret", &System);
        let both = versions(1..=2);
        assert_eq!((both.newest(), sealed_under(&old)), (2, Ok(1)));
        assert_eq!(**both.open(&AAD, &old).unwrap(), *b"secret");
        let new = both.seal(&AAD, b"secret", &System);
        assert_eq!(sealed_under(&new), Ok(2));
        assert_eq!(**versions(2..=3).open(&AAD, &new).unwrap(), *b"secret");
        assert_eq!(versions(2..=3).open(&AAD, &old).err(), Some(RecordError::UnknownKey(1)));
        assert!(SealingKeys::from_versions([]).is_none());
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let record = keys().seal(&AAD, b"secret", &System);
        for at in 0..record.len() {
            assert!(keys().open(&AAD, &record[..at]).is_err(), "cut at {at}");
            let mut bad = record.clone();
            bad[at] ^= 0x10;
            assert!(keys().open(&AAD, &bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_record_of_a_later_release_says_so() {
        assert_eq!(keys().open(&AAD, &[2; 60]).err(), Some(RecordError::UnknownFormat(2)));
        assert_eq!(keys().open(&AAD, &[]).err(), Some(RecordError::Truncated));
    }

    #[test]
    fn the_format_of_version_1_never_changes() {
        let random = crate::crypto::Scripted::new(0..28);
        let record = keys().seal(&AAD, b"secret", &random);
        let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0101000000000102030405060708090a0b0c0d0e0f101112131415161718191a1b8f71cc34467205c53640419e86265a014d910126d24c"
        );
    }
}
