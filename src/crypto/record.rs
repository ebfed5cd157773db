//! Records at rest: what the store keeps of a key, an enclave or a secret.
//!
//! ```text
//! ┌─────────┬───────────┬────────────┬──────────────────────────┐
//! │ version │ salt      │ nonce      │ AES-256-GCM ct ‖ tag     │
//! │ 1 byte  │ 16 random │ 12 random  │ plaintext + 16 bytes     │   45 bytes longer than the plaintext
//! └─────────┴───────────┴────────────┴──────────────────────────┘
//! sub-key = HMAC-SHA-256(key, "kes record v1" ‖ salt)
//! AAD     = "kes record aad v1" ‖ kind ‖ version (u32) ‖ each of cluster, enclave, name as (length u64 ‖ bytes)
//! ```
//! Numbers are little-endian. NIST SP 800-38D §8.3 allows 2³² messages under one key with random 96-bit nonces. Here
//! each record has a sub-key of its own: among n records the chance that any two share salt *and* nonce is
//! n²/2²²⁵, below 2⁻¹²⁵ for 2⁵⁰ records, and no sub-key reaches 2³² messages before that.
//!
//! The AAD binds a record to its place: a copy under another name, version, kind, enclave or cluster does not open.

use zeroize::Zeroizing;

use super::{
    algorithm::Algorithm,
    cipher::{self, Deriver, NONCE, NotAuthentic, SALT, TAG},
    secret::SecretKey,
};
use crate::world::Random;

const VERSION: u8 = 1;
const HEAD: usize = 1 + SALT + NONCE;
const SUB_KEY_LABEL: &[u8] = b"kes record v1";
const AAD_LABEL: &[u8] = b"kes record aad v1";

/// The place that a record belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordAad<'a> {
    /// Id of the cluster.
    pub cluster: &'a str,
    /// Name of the enclave, or empty for what belongs to none.
    pub enclave: &'a str,
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
    UnknownVersion(u8),
    /// Changed bytes, another place, or another key.
    #[error("failed to open record: it was changed, moved, or sealed under another key")]
    NotAuthentic,
}

impl RecordAad<'_> {
    fn encode(&self) -> Vec<u8> {
        let Self { cluster, enclave, kind, name, version } = self;
        let texts = [cluster, enclave, name];
        let length = AAD_LABEL.len() + 1 + 4 + texts.iter().map(|text| 8 + text.len()).sum::<usize>();
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(AAD_LABEL);
        out.push(*kind);
        out.extend_from_slice(&version.to_le_bytes());
        for text in texts {
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }
}

/// Seals `plaintext` into a record for the place `aad`.
#[must_use]
pub fn seal_record(key: &SecretKey, aad: &RecordAad<'_>, plaintext: &[u8], random: &dyn Random) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + plaintext.len() + TAG);
    out.push(VERSION);
    out.resize(HEAD, 0);
    random.fill(&mut out[1..]);
    let mut salt = [0; SALT];
    let mut nonce = [0; NONCE];
    salt.copy_from_slice(&out[1..1 + SALT]);
    nonce.copy_from_slice(&out[1 + SALT..]);
    out.extend_from_slice(plaintext);
    let sub_key = Deriver::new(key.expose()).derive(SUB_KEY_LABEL, &salt);
    let tag = cipher::seal(Algorithm::Aes256Gcm, &sub_key, &nonce, &aad.encode(), &mut out[HEAD..]);
    out.extend_from_slice(&tag);
    out
}

/// Opens a record of the place `aad`.
///
/// # Errors
/// See [`RecordError`].
pub fn open_record(
    key: &SecretKey,
    aad: &RecordAad<'_>,
    record: &[u8],
) -> Result<Zeroizing<Vec<u8>>, RecordError> {
    let (version, rest) = record.split_first().ok_or(RecordError::Truncated)?;
    if *version != VERSION {
        return Err(RecordError::UnknownVersion(*version));
    }
    let (salt, rest) = rest.split_first_chunk::<SALT>().ok_or(RecordError::Truncated)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(RecordError::Truncated)?;
    let (sealed, tag) = rest.split_last_chunk::<TAG>().ok_or(RecordError::Truncated)?;
    let mut plaintext = Zeroizing::new(sealed.to_vec());
    let sub_key = Deriver::new(key.expose()).derive(SUB_KEY_LABEL, salt);
    cipher::open(Algorithm::Aes256Gcm, &sub_key, nonce, &aad.encode(), &mut plaintext, tag)
        .map_err(|NotAuthentic| RecordError::NotAuthentic)?;
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::System;

    const AAD: RecordAad<'static> =
        RecordAad { cluster: "c1", enclave: "e1", kind: 2, name: "n1", version: 3 };

    fn key() -> SecretKey {
        SecretKey::from_bytes([5; 32])
    }

    #[test]
    fn what_is_sealed_opens_and_is_45_bytes_longer() {
        for length in [0, 1, 32, 5000] {
            let plaintext = vec![3; length];
            let record = seal_record(&key(), &AAD, &plaintext, &System);
            assert_eq!(record.len(), length + 45);
            assert_eq!(**open_record(&key(), &AAD, &record).unwrap(), *plaintext);
        }
    }

    #[test]
    fn a_record_opens_in_no_other_place() {
        let record = seal_record(&key(), &AAD, b"secret", &System);
        for other in [
            RecordAad { cluster: "c2", ..AAD },
            RecordAad { enclave: "e2", ..AAD },
            RecordAad { kind: 3, ..AAD },
            RecordAad { name: "n2", ..AAD },
            RecordAad { version: 4, ..AAD },
            // the same bytes, divided differently
            RecordAad { cluster: "c1e", enclave: "1", ..AAD },
            RecordAad { enclave: "e1n", name: "1", ..AAD },
            RecordAad { enclave: "", name: "e1n1", ..AAD },
        ] {
            assert_eq!(
                open_record(&key(), &other, &record).err(),
                Some(RecordError::NotAuthentic),
                "{other:?}"
            );
        }
        let foreign = SecretKey::from_bytes([6; 32]);
        assert_eq!(open_record(&foreign, &AAD, &record).err(), Some(RecordError::NotAuthentic));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let record = seal_record(&key(), &AAD, b"secret", &System);
        for at in 0..record.len() {
            assert!(open_record(&key(), &AAD, &record[..at]).is_err(), "cut at {at}");
            let mut bad = record.clone();
            bad[at] ^= 0x10;
            assert!(open_record(&key(), &AAD, &bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_record_of_a_later_release_says_so() {
        assert_eq!(open_record(&key(), &AAD, &[2; 60]).err(), Some(RecordError::UnknownVersion(2)));
        assert_eq!(open_record(&key(), &AAD, &[]).err(), Some(RecordError::Truncated));
    }

    #[test]
    fn the_format_of_version_1_never_changes() {
        let random = crate::crypto::Scripted::new(0..28);
        let record = seal_record(&key(), &AAD, b"secret", &random);
        let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "01000102030405060708090a0b0c0d0e0f101112131415161718191a1b8f71cc3446729c427dda126291736f0c4de4cdecc98c"
        );
    }
}
