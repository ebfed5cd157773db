//! What a record is called, and the bytes of that name in the index.
//!
//! ```text
//! 1 byte   kind (see `Kind`)
//! 8 bytes  id of the enclave, big-endian; 0 for records of the cluster itself
//! n bytes  name
//! 1 byte   0x00
//! 4 bytes  version, big-endian, from 1
//! ```
//! Names have no zero byte (`api::name`), so the form is unambiguous and sorts by kind, enclave, name, version.
//! Names stand in clear in the index; values are sealed, but for the two kinds that hold no more than a name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Tells an enclave from every other that there ever was, also from an earlier one of the same name. Random.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct EnclaveId(u64);

impl EnclaveId {
    /// What stands where an enclave's id would be in records of the cluster itself.
    pub const CLUSTER: Self = Self(0);

    /// The id made of these random bytes, never [`Self::CLUSTER`].
    #[must_use]
    pub fn from_random(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes).max(1))
    }

    /// As it stands in the index and in the seal's associated data.
    #[must_use]
    pub fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for EnclaveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a record holds. The number is part of the format on disk and of the seal's associated data.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum Kind {
    /// The root key under the seal; one per version of it.
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
    /// An enclave's id while the enclave exists; the value is the enclave's name.
    EnclaveId = 8,
    /// The id of a deleted enclave until its records are removed; the value is empty.
    Remains = 9,
    /// The lowest version of an enclave's key, or of the root key, that a record may be sealed under; 4 bytes,
    /// little-endian.
    Floor = 10,
}

impl Kind {
    /// Every kind whose records belong to an enclave, and vanish with it.
    pub const OF_ENCLAVE: [Self; 4] = [Self::Key, Self::Policy, Self::Identity, Self::Secret];
}

impl Kind {
    /// Whether its records belong to an enclave.
    #[must_use]
    pub fn is_of_enclave(self) -> bool {
        Self::OF_ENCLAVE.contains(&self)
    }
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
            8 => Self::EnclaveId,
            9 => Self::Remains,
            10 => Self::Floor,
            other => return Err(format!("record kind {other} is unknown to this release")),
        })
    }
}

/// The full name of one record.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct RecordKey {
    /// What it holds.
    pub kind: Kind,
    /// Whose it is.
    pub enclave: EnclaveId,
    /// Its name within the enclave.
    pub name: String,
    /// Its version, from 1; only keys have more than one.
    pub version: u32,
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} '{}' of enclave {}", self.kind, self.name, self.enclave)
    }
}

impl RecordKey {
    /// The first version of a record of an enclave.
    #[must_use]
    pub fn of_enclave(kind: Kind, enclave: EnclaveId, name: &str) -> Self {
        Self { kind, enclave, name: name.into(), version: 1 }
    }

    /// A record of the cluster itself.
    #[must_use]
    pub fn of_cluster(kind: Kind, name: &str) -> Self {
        Self::of_enclave(kind, EnclaveId::CLUSTER, name)
    }

    /// The record that is there exactly as long as the enclave is.
    #[must_use]
    pub fn of_id(enclave: EnclaveId) -> Self {
        Self::of_enclave(Kind::EnclaveId, enclave, "")
    }

    /// The record of the lowest version of the owner's key that counts.
    #[must_use]
    pub fn floor_of(owner: EnclaveId) -> Self {
        Self::of_enclave(Kind::Floor, owner, "")
    }

    /// Whose key seals this record; nothing when the root key does not, nor any below it.
    #[must_use]
    pub(super) fn sealed_by(&self) -> Option<EnclaveId> {
        match self.kind {
            Kind::Key | Kind::Policy | Kind::Identity | Kind::Secret => Some(self.enclave),
            Kind::Enclave | Kind::Cluster => Some(EnclaveId::CLUSTER),
            Kind::Root | Kind::EnclaveId | Kind::Remains | Kind::Floor => None,
        }
    }

    /// The record that is there while records of a deleted enclave are left.
    #[must_use]
    pub(super) fn remains_of(enclave: EnclaveId) -> Self {
        Self::of_enclave(Kind::Remains, enclave, "")
    }

    /// The bytes in the index.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Self::prefix(self.kind, self.enclave, &self.name);
        bytes.push(0);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes
    }

    /// The bytes that all records of `kind` in `enclave` whose name begins with `name` begin with.
    #[must_use]
    pub fn prefix(kind: Kind, enclave: EnclaveId, name: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 8 + name.len() + 5);
        bytes.push(kind as u8);
        bytes.extend_from_slice(&enclave.0.to_be_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes
    }

    /// The bytes between which all records of `kind` in `enclave` lie whose name begins with `prefix` and comes after
    /// `after`: from the first, up to and without the second. Empty when there can be none.
    #[must_use]
    pub(super) fn range(
        kind: Kind,
        enclave: EnclaveId,
        prefix: &str,
        after: Option<&str>,
    ) -> (Vec<u8>, Vec<u8>) {
        let mut first = Self::prefix(kind, enclave, prefix);
        let mut end = first.clone();
        // carries through bytes of 0xff, which an id may end with; the kind is never one
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
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

    /// The bytes between which all records of `kind` lie, whosever they are.
    #[must_use]
    pub(super) fn range_of_kind(kind: Kind) -> (Vec<u8>, Vec<u8>) {
        (vec![kind as u8], vec![kind as u8 + 1])
    }

    /// Reads the bytes of the index back, or nothing when they are none of ours.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let (enclave, rest) = rest.split_first_chunk::<8>()?;
        let (rest, version) = rest.split_last_chunk::<4>()?;
        let (end, name) = rest.split_last()?;
        (*end == 0 && !name.contains(&0)).then_some(())?;
        Some(Self {
            kind: Kind::try_from(kind).ok()?,
            enclave: EnclaveId(u64::from_be_bytes(*enclave)),
            name: String::from_utf8(name.to_vec()).ok()?,
            version: u32::from_be_bytes(*version),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const E: EnclaveId = EnclaveId(0x0102_0304_0506_07ff);

    #[test]
    fn the_name_of_a_record_survives_its_encoding() {
        for key in [
            RecordKey::of_enclave(Kind::Key, E, "my-key"),
            RecordKey::of_cluster(Kind::Root, "root"),
            RecordKey::of_id(EnclaveId(u64::MAX)),
            RecordKey { version: u32::MAX, ..RecordKey::of_enclave(Kind::Identity, E, "i") },
        ] {
            assert_eq!(RecordKey::decode(&key.encode()), Some(key));
        }
        assert_eq!(RecordKey::decode(b"\x04default"), None);
        assert_eq!(RecordKey::decode(b"\xff12345678n\0\0\0\0\x01"), None);
        assert_eq!(RecordKey::decode(b"\x0412345678n\0m\0\0\0\0\x01"), None);
    }

    #[test]
    fn a_range_holds_the_records_of_its_enclave_and_no_others() {
        for enclave in [E, EnclaveId(1), EnclaveId(u64::MAX), EnclaveId(0xff)] {
            let inside = |kind, id, name: &str| {
                let (first, end) = RecordKey::range(Kind::Key, enclave, "", None);
                let key = RecordKey::of_enclave(kind, id, name).encode();
                first <= key && key < end
            };
            assert!(inside(Kind::Key, enclave, "") && inside(Kind::Key, enclave, "zz"));
            assert!(!inside(Kind::Policy, enclave, "x") && !inside(Kind::Enclave, enclave, "x"));
            assert!(!inside(Kind::Key, EnclaveId(enclave.0 - 1), "zz"));
            assert!(!inside(Kind::Key, EnclaveId(enclave.0.wrapping_add(1)), ""));
        }
    }

    #[test]
    fn the_id_of_an_enclave_is_never_that_of_the_cluster() {
        assert_ne!(EnclaveId::from_random([0; 8]), EnclaveId::CLUSTER);
        assert_eq!(EnclaveId::from_random([0, 0, 0, 0, 0, 0, 1, 2]).to_string(), "0000000000000102");
    }
}
