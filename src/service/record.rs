//! What is inside a sealed record, and sealing it to its place.
//!
//! A key, in bytes (all numbers big-endian):
//! ```text
//!  1  format, 1
//!  1  algorithm: 0 undefined, 1 AES256-GCM_SHA256, 2 XCHACHA20-POLY1305
//! 32  key
//! 32  HMAC key
//!  8  created at, seconds since 1970 (signed)
//!  4  created at, nanoseconds
//!  1  creator: 1 = 32 bytes follow, to be written as 64 hex digits; 0 = UTF-8 text follows
//!  n  creator
//! ```
//! A secret is a MessagePack map of what is known about it, after its length in 2 bytes, and then the value.
//! Everything else is MessagePack with field names.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::Error;
use crate::{
    api::{Identity, PolicyName, message::Matching},
    crypto::{Algorithm, RecordAad, SealingKeys, SecretKey},
    store::{EnclaveId, RecordKey},
    world::Random,
};

/// The cluster's own facts.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct ClusterBody {
    pub(super) system_admin: Identity,
    pub(super) created_at: Timestamp,
}

/// An enclave's keys and admin.
#[derive(Deserialize, Serialize)]
pub(super) struct EnclaveBody {
    /// Tells an enclave from a later one of the same name.
    pub(super) id: EnclaveId,
    /// Every version of its key that a record may be sealed under.
    pub(super) keys: Vec<EnclaveKey>,
    pub(super) admin: Identity,
    pub(super) created_at: Timestamp,
    pub(super) created_by: Identity,
}

/// One version of an enclave's key. Serialised only into a sealed record; wiped when dropped.
#[derive(Deserialize, Serialize, ZeroizeOnDrop)]
pub(super) struct EnclaveKey {
    pub(super) version: u32,
    pub(super) key: [u8; 32],
}

impl EnclaveKey {
    /// A new key that nobody can predict.
    pub(super) fn generate(version: u32, random: &dyn Random) -> Self {
        let mut key = Self { version, key: [0; 32] };
        random.fill(&mut key.key);
        key
    }
}

impl EnclaveBody {
    /// The keys, ready for use; nothing when the record holds none.
    pub(super) fn sealing_keys(&self) -> Option<SealingKeys> {
        let secret = |key: &EnclaveKey| (key.version, SecretKey::from_bytes(key.key));
        SealingKeys::from_versions(self.keys.iter().map(secret))
    }
}

/// A policy as it was written.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct PolicyBody {
    pub(super) allow: Vec<String>,
    pub(super) deny: Vec<String>,
    /// Absent from records of the first release, which knew only one meaning.
    #[serde(default)]
    pub(super) matching: Matching,
    pub(super) created_at: Timestamp,
    pub(super) created_by: String,
}

/// An identity and its policy.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct IdentityBody {
    pub(super) policy: PolicyName,
    pub(super) created_at: Timestamp,
    pub(super) created_by: String,
}

/// What is known about a secret; its value follows.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct SecretHead {
    pub(super) created_at: Timestamp,
    pub(super) created_by: String,
}

impl SecretHead {
    pub(super) fn encode(&self, value: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let head = rmp_serde::to_vec_named(self).map_err(|e| e.to_string())?;
        let length = u16::try_from(head.len()).map_err(|e| e.to_string())?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 + head.len() + value.len()));
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(value);
        Ok(bytes)
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<(Self, &[u8]), String> {
        let length = u16::from_be_bytes(take::<2>(&mut bytes)?);
        let (head, value) = bytes.split_at_checked(length.into()).ok_or("cut short")?;
        Ok((rmp_serde::from_slice(head).map_err(without_content)?, value))
    }
}

/// A key with what is known about it.
pub(super) struct KeyBody {
    pub(super) algorithm: Option<Algorithm>,
    pub(super) key: SecretKey,
    pub(super) hmac: SecretKey,
    pub(super) created_at: Timestamp,
    pub(super) created_by: String,
}

const KEY_FORMAT: u8 = 1;
const KEY_HEAD: usize = 1 + 1 + 32 + 32 + 8 + 4 + 1;

impl KeyBody {
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_HEAD + self.created_by.len()));
        bytes.push(KEY_FORMAT);
        bytes.push(match self.algorithm {
            None => 0,
            Some(Algorithm::Aes256Gcm) => 1,
            Some(Algorithm::XChaCha20Poly1305) => 2,
        });
        bytes.extend_from_slice(self.key.expose());
        bytes.extend_from_slice(self.hmac.expose());
        bytes.extend_from_slice(&self.created_at.as_second().to_be_bytes());
        bytes.extend_from_slice(&self.created_at.subsec_nanosecond().to_be_bytes());
        match unhex(&self.created_by) {
            Some(raw) => {
                bytes.push(1);
                bytes.extend_from_slice(&raw);
            }
            None => {
                bytes.push(0);
                bytes.extend_from_slice(self.created_by.as_bytes());
            }
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut rest = bytes;
        if take::<1>(&mut rest)? != [KEY_FORMAT] {
            return Err(format!("key format {} is newer than this release", bytes[0]));
        }
        let algorithm = match take::<1>(&mut rest)? {
            [0] => None,
            [1] => Some(Algorithm::Aes256Gcm),
            [2] => Some(Algorithm::XChaCha20Poly1305),
            [other] => return Err(format!("algorithm {other} is unknown")),
        };
        let key = take_secret(&mut rest)?;
        let hmac = take_secret(&mut rest)?;
        let seconds = i64::from_be_bytes(take::<8>(&mut rest)?);
        let nanoseconds = i32::from_be_bytes(take::<4>(&mut rest)?);
        let created_at = Timestamp::new(seconds, nanoseconds).map_err(|e| e.to_string())?;
        let created_by = match take::<1>(&mut rest)? {
            [1] => hex(&take::<32>(&mut rest)?),
            [0] => std::str::from_utf8(std::mem::take(&mut rest)).map_err(|e| e.to_string())?.to_owned(),
            [other] => return Err(format!("creator form {other} is unknown")),
        };
        if !rest.is_empty() {
            return Err(format!("{} bytes too many", rest.len()));
        }
        Ok(Self { algorithm, key, hmac, created_at, created_by })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or("cut short")?;
    *rest = tail;
    Ok(*head)
}

/// Straight from the wiped buffer to the heap, without a copy on the stack.
fn take_secret(rest: &mut &[u8]) -> Result<SecretKey, String> {
    let (head, tail) = rest.split_at_checked(SecretKey::LEN).ok_or("cut short")?;
    *rest = tail;
    SecretKey::try_from(head).map_err(|e| e.to_string())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let lower = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    lower.then_some(())?;
    let mut raw = [0; 32];
    for (byte, pair) in raw.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(raw)
}

/// Why a body does not decode, for the log: some of the library's texts quote what they met, which may be a key.
fn without_content(error: rmp_serde::decode::Error) -> String {
    match error {
        rmp_serde::decode::Error::Syntax(_) => "its content is not that of its kind".into(),
        other => other.to_string(),
    }
}

/// Seals and opens the records of one cluster.
pub(super) struct Sealer<'a> {
    pub(super) cluster: &'a str,
}

impl Sealer<'_> {
    fn aad<'k>(&'k self, key: &'k RecordKey) -> RecordAad<'k> {
        RecordAad {
            cluster: self.cluster,
            enclave: key.enclave.to_be_bytes(),
            kind: key.kind as u8,
            name: &key.name,
            version: key.version,
        }
    }

    pub(super) fn seal(
        &self,
        keys: &SealingKeys,
        key: &RecordKey,
        body: &[u8],
        random: &dyn Random,
    ) -> Vec<u8> {
        keys.seal(&self.aad(key), body, random)
    }

    pub(super) fn open(
        &self,
        keys: &SealingKeys,
        key: &RecordKey,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        keys.open(&self.aad(key), sealed).map_err(|e| Error::damaged(key, e))
    }

    pub(super) fn seal_body<T: Serialize>(
        &self,
        keys: &SealingKeys,
        key: &RecordKey,
        body: &T,
        random: &dyn Random,
    ) -> Result<Vec<u8>, Error> {
        let bytes = Zeroizing::new(rmp_serde::to_vec_named(body).map_err(|e| Error::damaged(key, e))?);
        Ok(self.seal(keys, key, &bytes, random))
    }

    pub(super) fn open_body<T: DeserializeOwned>(
        &self,
        keys: &SealingKeys,
        key: &RecordKey,
        sealed: &[u8],
    ) -> Result<T, Error> {
        let bytes = self.open(keys, key, sealed)?;
        rmp_serde::from_slice(&bytes).map_err(|e| Error::damaged(key, without_content(e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_record_survives_its_encoding_and_is_at_most_111_bytes_for_a_hex_creator() {
        for created_by in ["", "somebody", &"ab".repeat(32), &"AB".repeat(32)] {
            let body = KeyBody {
                algorithm: Some(Algorithm::XChaCha20Poly1305),
                key: SecretKey::from_bytes([1; 32]),
                hmac: SecretKey::from_bytes([2; 32]),
                created_at: "2026-11-23T09:35:00.123456789Z".parse().unwrap(),
                created_by: created_by.to_owned(),
            };
            let bytes = body.encode();
            let back = KeyBody::decode(&bytes).unwrap();
            assert_eq!(back.created_by, created_by);
            assert_eq!(back.created_at, body.created_at);
            assert_eq!(back.algorithm, body.algorithm);
            assert!(back.key.same_as(&body.key) && back.hmac.same_as(&body.hmac));
            assert!(created_by != "ab".repeat(32) || bytes.len() == 111);
            for cut in 0..KEY_HEAD {
                assert!(KeyBody::decode(&bytes[..cut]).is_err());
            }
        }
    }
}
