//! What a record is called, and the bytes of that name in the index.
//!
//! ```text
//! 1 byte   kind (see `Kind`)
//! n bytes  enclave, empty for records of the cluster itself
//! 1 byte   0x00
//! n bytes  name
//! 1 byte   0x00
//! 4 bytes  version, big-endian, from 1
//! ```
//! Names have no zero byte (`api::name`), so the form is unambiguous and sorts by kind, enclave, name, version.
//! Names stand in clear in the index; values are always sealed.

use serde::{Deserialize, Serialize};

/// What a record holds. The number is part of the format on disk and of the seal's associated data.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum Kind {
    /// The root key under the seal; one per cluster.
    Root = 1,
    /// The system admin and the date of birth; one per cluster.
    Cluster = 2,
    /// An enclave: its key and its admin.
    Enclave = 3,
    /// A key version.
    Key = 4,
    /// A policy.
    Policy = 5,
    /// An identity and the name of its policy.
    Identity = 6,
    /// A secret.
    Secret = 7,
}

impl Kind {
    /// Every kind whose records belong to an enclave, and vanish with it.
    pub const OF_ENCLAVE: [Self; 4] = [Self::Key, Self::Policy, Self::Identity, Self::Secret];
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        kind as Self
    }
}

impl TryFrom<u8> for Kind {
    type Error = String;
    fn try_from(number: u8) -> Result<Self, String> {
        Ok(match number {
            1 => Self::Root,
            2 => Self::Cluster,
            3 => Self::Enclave,
            4 => Self::Key,
            5 => Self::Policy,
            6 => Self::Identity,
            7 => Self::Secret,
            other => return Err(format!("record kind {other} is unknown to this release")),
        })
    }
}

/// The full name of one record.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct RecordKey {
    /// What it holds.
    pub kind: Kind,
    /// Whose it is; empty for records of the cluster itself.
    pub enclave: String,
    /// Its name within the enclave.
    pub name: String,
    /// Its version, from 1; only keys have more than one.
    pub version: u32,
}

impl RecordKey {
    /// The first version of a record of an enclave.
    #[must_use]
    pub fn of_enclave(kind: Kind, enclave: &str, name: &str) -> Self {
        Self { kind, enclave: enclave.into(), name: name.into(), version: 1 }
    }

    /// A record of the cluster itself.
    #[must_use]
    pub fn of_cluster(kind: Kind, name: &str) -> Self {
        Self { kind, enclave: String::new(), name: name.into(), version: 1 }
    }

    /// The record that must exist for this one to be written.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        Kind::OF_ENCLAVE.contains(&self.kind).then(|| Self::of_cluster(Kind::Enclave, &self.enclave))
    }

    /// The bytes in the index.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Self::prefix(self.kind, &self.enclave, &self.name);
        bytes.push(0);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes
    }

    /// The bytes that all records of `kind` in `enclave` whose name begins with `name` begin with.
    #[must_use]
    pub fn prefix(kind: Kind, enclave: &str, name: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(enclave.len() + name.len() + 7);
        bytes.push(kind as u8);
        bytes.extend_from_slice(enclave.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(name.as_bytes());
        bytes
    }

    /// The bytes between which all records of `kind` in `enclave` lie whose name begins with `prefix` and comes after
    /// `after`: from the first, up to and without the second. Empty when there can be none.
    #[must_use]
    pub(super) fn range(kind: Kind, enclave: &str, prefix: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        let mut first = Self::prefix(kind, enclave, prefix);
        let mut end = first.clone();
        // the last byte is a letter or the 0x00 after the enclave, so there is always a next one
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        if let Some(after) = after {
            let mut next = Self::prefix(kind, enclave, after);
            // beyond the 0x00 that stands before each version, and before every longer name
            next.push(1);
            first = first.max(next).min(end.clone());
        }
        (first, end)
    }

    /// Reads the bytes of the index back, or nothing when they are none of ours.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let (rest, version) = rest.split_last_chunk::<4>()?;
        let mut parts = rest.splitn(3, |&b| b == 0);
        let (enclave, name, end) = (parts.next()?, parts.next()?, parts.next()?);
        end.is_empty().then_some(())?;
        Some(Self {
            kind: Kind::try_from(kind).ok()?,
            enclave: String::from_utf8(enclave.to_vec()).ok()?,
            name: String::from_utf8(name.to_vec()).ok()?,
            version: u32::from_be_bytes(*version),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_record_survives_its_encoding() {
        for key in [
            RecordKey::of_enclave(Kind::Key, "default", "my-key"),
            RecordKey::of_cluster(Kind::Root, "root"),
            RecordKey { version: u32::MAX, ..RecordKey::of_enclave(Kind::Identity, "e", "i") },
        ] {
            assert_eq!(RecordKey::decode(&key.encode()), Some(key));
        }
        assert_eq!(RecordKey::decode(b"\x04default"), None);
        assert_eq!(RecordKey::decode(b"\xffe\0n\0\0\0\0\x01"), None);
    }

    #[test]
    fn records_of_one_enclave_are_no_prefix_of_anothers() {
        let a = RecordKey::prefix(Kind::Key, "a", "");
        assert!(!RecordKey::of_enclave(Kind::Key, "ab", "x").encode().starts_with(&a));
        assert!(RecordKey::of_enclave(Kind::Key, "a", "bx").encode().starts_with(&a));
    }
}
