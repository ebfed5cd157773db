//! One change to the records, and what became of it. Deciding is here, pure; writing is in `records`.

use serde::{Deserialize, Serialize};

use super::{EnclaveId, Kind, RecordKey};
use crate::crypto::sealed_under;

/// Tells one sealed value from another.
pub type Digest = [u8; 16];

/// The digest of a sealed value. Sealed values are ours and have random bytes in them, so that nobody can choose two with
/// the same.
#[must_use]
pub fn digest(value: &[u8]) -> Digest {
    xxhash_rust::xxh3::xxh3_128(value).to_le_bytes()
}

/// One change. Whoever proposes it has already decided everything that is not a function of the records: time,
/// randomness and ciphertext.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Change {
    /// Writes a record that must not exist. Never overwrites.
    Create {
        /// Its name.
        key: RecordKey,
        /// Its sealed value.
        #[serde(with = "serde_bytes_like")]
        value: Vec<u8>,
    },
    /// Writes a record whether it exists or not. Never used for keys.
    Put {
        /// Its name.
        key: RecordKey,
        /// Its sealed value.
        #[serde(with = "serde_bytes_like")]
        value: Vec<u8>,
    },
    /// Writes a record anew that must still be as it was when its new value was made: the same content, sealed again.
    Replace {
        /// Its name.
        key: RecordKey,
        /// The digest of the value that was sealed again.
        was: Digest,
        /// The new sealed value.
        #[serde(with = "serde_bytes_like")]
        value: Vec<u8>,
    },
    /// Removes a record that must exist.
    Delete {
        /// Its name.
        key: RecordKey,
    },
    /// Writes an enclave that must not exist, under a name and an id that none has.
    CreateEnclave {
        /// Its name.
        name: String,
        /// Its id, from then on part of the name of each of its records.
        id: EnclaveId,
        /// Its sealed value.
        #[serde(with = "serde_bytes_like")]
        value: Vec<u8>,
    },
    /// Removes an enclave and every record in it.
    DeleteEnclave {
        /// Its name.
        name: String,
        /// Its id: a later enclave of the same name is another one.
        id: EnclaveId,
    },
}

/// What became of a change. The same on every member.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Outcome {
    /// It was made.
    Done,
    /// The record existed already: nothing was written.
    Exists,
    /// The record did not exist: nothing was removed.
    Missing,
    /// The record's enclave does not exist: nothing was written.
    NoEnclave,
    /// The record is another than the one that was to be replaced: nothing was written.
    Changed,
    /// It was sealed under a version of a key that is about to be given up: nothing was written.
    Stale,
    /// Whether the record exists cannot be read: nothing was written. Only where no other member has to decide alike.
    Unreadable,
}

/// What `decide` may ask of the records as they are at this point of the log.
pub(super) trait Present {
    type Error;
    fn present(&mut self, key: &RecordKey) -> Result<bool, Self::Error>;
    /// Whether there is an enclave with this id.
    fn exists(&mut self, enclave: EnclaveId) -> Result<bool, Self::Error>;
    /// The digest of a record's value, if there is one.
    fn digest(&mut self, key: &RecordKey) -> Result<Option<Digest>, Self::Error>;
    /// The lowest version of the owner's key that a record may be sealed under.
    fn floor(&mut self, owner: EnclaveId) -> Result<u32, Self::Error>;
    /// The name of the enclave with this id, if there is one.
    fn enclave(&mut self, id: EnclaveId) -> Result<Option<Vec<u8>>, Self::Error>;
}

impl Change {
    /// The record that the change is about.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Create { key, .. }
            | Self::Put { key, .. }
            | Self::Replace { key, .. }
            | Self::Delete { key } => key.clone(),
            Self::CreateEnclave { name, .. } | Self::DeleteEnclave { name, .. } => {
                RecordKey::of_cluster(Kind::Enclave, name)
            }
        }
    }

    /// What becomes of the change, given which records are present.
    ///
    /// A record belongs to an enclave by its id, so a change that was sealed for an enclave is refused once that
    /// enclave is gone, also when another has its name by then.
    pub(super) fn decide<P: Present>(&self, records: &mut P) -> Result<Outcome, P::Error> {
        if let Self::Create { key, .. }
        | Self::Put { key, .. }
        | Self::Replace { key, .. }
        | Self::Delete { key } = self
            && key.kind.is_of_enclave()
            && !records.exists(key.enclave)?
        {
            return Ok(Outcome::NoEnclave);
        }
        if let Some((owner, value)) = self.sealed()
            && let floor @ 1.. = records.floor(owner)?
            && sealed_under(value).is_ok_and(|version| version < floor)
        {
            return Ok(Outcome::Stale);
        }
        Ok(match self {
            Self::Put { .. } => Outcome::Done,
            Self::Create { key, .. } if records.present(key)? => Outcome::Exists,
            Self::Create { .. } => Outcome::Done,
            Self::Replace { key, was, .. } => match records.digest(key)? {
                None => Outcome::Missing,
                Some(now) if now == *was => Outcome::Done,
                Some(_) => Outcome::Changed,
            },
            Self::Delete { key } if records.present(key)? => Outcome::Done,
            Self::Delete { .. } => Outcome::Missing,
            Self::CreateEnclave { id, .. } => {
                let is_taken = records.present(&self.key())? || records.exists(*id)?;
                if is_taken { Outcome::Exists } else { Outcome::Done }
            }
            Self::DeleteEnclave { name, id } => match records.enclave(*id)? {
                Some(found) if found == name.as_bytes() => Outcome::Done,
                _ => Outcome::Missing,
            },
        })
    }
}

impl Change {
    /// The sealed value that it writes, and whose key sealed it.
    fn sealed(&self) -> Option<(EnclaveId, &[u8])> {
        match self {
            Self::Create { key, value } | Self::Put { key, value } | Self::Replace { key, value, .. } => {
                Some((key.sealed_by()?, value))
            }
            Self::CreateEnclave { value, .. } => Some((EnclaveId::CLUSTER, value)),
            Self::Delete { .. } | Self::DeleteEnclave { .. } => None,
        }
    }
}

/// Bytes as one MessagePack `bin` instead of an array of numbers.
mod serde_bytes_like {
    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(1 << 20));
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[derive(Clone)]
    struct Map(HashMap<RecordKey, &'static [u8]>);

    impl Present for Map {
        type Error = std::convert::Infallible;
        fn present(&mut self, key: &RecordKey) -> Result<bool, Self::Error> {
            Ok(self.0.contains_key(key))
        }
        fn exists(&mut self, id: EnclaveId) -> Result<bool, Self::Error> {
            self.present(&RecordKey::of_id(id))
        }
        fn digest(&mut self, key: &RecordKey) -> Result<Option<Digest>, Self::Error> {
            Ok(self.0.get(key).map(|value| digest(value)))
        }
        fn floor(&mut self, owner: EnclaveId) -> Result<u32, Self::Error> {
            let floor = self.0.get(&RecordKey::floor_of(owner));
            Ok(floor.map_or(0, |floor| u32::from_le_bytes((*floor).try_into().unwrap())))
        }
        fn enclave(&mut self, id: EnclaveId) -> Result<Option<Vec<u8>>, Self::Error> {
            Ok(self.0.get(&RecordKey::of_id(id)).map(|name| name.to_vec()))
        }
    }

    #[test]
    fn what_becomes_of_a_change_depends_only_on_what_is_present() {
        let [id, other] = [1, 2].map(|n| EnclaveId::from_random([0, 0, 0, 0, 0, 0, 0, n]));
        let key = RecordKey::of_enclave(Kind::Key, id, "k");
        let create = Change::Create { key: key.clone(), value: vec![1] };
        let put = Change::Put { key: key.clone(), value: vec![1] };
        let delete = Change::Delete { key: key.clone() };
        let make = Change::CreateEnclave { name: "e".into(), id, value: vec![1] };
        let remove = Change::DeleteEnclave { name: "e".into(), id };
        let enclave =
            [(RecordKey::of_cluster(Kind::Enclave, "e"), &b"sealed"[..]), (RecordKey::of_id(id), b"e")];
        let nothing = Map(HashMap::new());
        let empty = Map(enclave.clone().into());
        let full = Map(enclave.iter().cloned().chain([(key, &b"sealed"[..])]).collect());
        // deleted and made anew: the same name, another id
        let anew = Map([(enclave[0].0.clone(), &b"sealed"[..]), (RecordKey::of_id(other), b"e")].into());
        // the same id under another name, which chance may bring about once in the age of the universe
        let taken = Map([(RecordKey::of_id(id), &b"f"[..])].into());
        for (records, change, outcome) in [
            (&nothing, &create, Outcome::NoEnclave),
            (&nothing, &put, Outcome::NoEnclave),
            (&nothing, &delete, Outcome::NoEnclave),
            (&nothing, &remove, Outcome::Missing),
            (&nothing, &make, Outcome::Done),
            (&empty, &create, Outcome::Done),
            (&empty, &delete, Outcome::Missing),
            (&empty, &make, Outcome::Exists),
            (&full, &create, Outcome::Exists),
            (&full, &put, Outcome::Done),
            (&full, &delete, Outcome::Done),
            (&full, &remove, Outcome::Done),
            (&anew, &create, Outcome::NoEnclave),
            (&anew, &put, Outcome::NoEnclave),
            (&anew, &delete, Outcome::NoEnclave),
            (&anew, &remove, Outcome::Missing),
            (&anew, &make, Outcome::Exists),
            (&taken, &make, Outcome::Exists),
            (&taken, &remove, Outcome::Missing),
        ] {
            assert_eq!(change.decide(&mut records.clone()), Ok(outcome), "{change:?}");
        }
    }

    /// What a record looks like that is sealed under this version.
    fn sealed(version: u32) -> Vec<u8> {
        [&[1][..], &version.to_le_bytes(), &[0; 60]].concat()
    }

    #[test]
    fn nothing_gets_in_that_is_sealed_under_a_version_that_is_given_up() {
        let id = EnclaveId::from_random([1; 8]);
        let key = RecordKey::of_enclave(Kind::Key, id, "k");
        let (other, enclave) =
            (RecordKey::of_enclave(Kind::Key, id, "l"), RecordKey::of_cluster(Kind::Enclave, "f"));
        let map = |floors: &[(EnclaveId, &'static [u8])]| {
            let records =
                [(RecordKey::of_id(id), &b"e"[..]), (key.clone(), b"old"), (enclave.clone(), b"old")];
            let floors = floors.iter().map(|(owner, floor)| (RecordKey::floor_of(*owner), *floor));
            Map(records.into_iter().chain(floors).collect())
        };
        let all = |version| {
            let (was, value) = (digest(b"old"), sealed(version));
            [
                Change::Create { key: other.clone(), value: value.clone() },
                Change::Put { key: key.clone(), value: value.clone() },
                Change::Replace { key: key.clone(), was, value: value.clone() },
                Change::Replace { key: enclave.clone(), was, value: value.clone() },
                Change::CreateEnclave { name: "g".into(), id: EnclaveId::from_random([2; 8]), value },
            ]
        };
        use Outcome::{Done, Stale};
        let two: &'static [u8] = &[2, 0, 0, 0];
        for (floors, version, outcomes) in [
            (&[][..], 1, [Done, Done, Done, Done, Done]),
            (&[(id, two)], 1, [Stale, Stale, Stale, Done, Done]),
            (&[(id, two)], 2, [Done, Done, Done, Done, Done]),
            (&[(EnclaveId::CLUSTER, two)], 1, [Done, Done, Done, Stale, Stale]),
            (&[(EnclaveId::CLUSTER, two), (id, two)], 3, [Done, Done, Done, Done, Done]),
        ] {
            let found = all(version).map(|change| change.decide(&mut map(floors)).unwrap());
            assert_eq!(found, outcomes, "floors {floors:?}, version {version}");
        }
    }

    #[test]
    fn a_record_is_replaced_only_while_it_is_what_was_sealed_again() {
        let key = RecordKey::of_cluster(Kind::Root, "root");
        let replace = |was: &[u8]| Change::Replace { key: key.clone(), was: digest(was), value: vec![1] };
        let mut present = Map([(key.clone(), &b"now"[..])].into());
        assert_eq!(replace(b"now").decide(&mut present), Ok(Outcome::Done));
        assert_eq!(replace(b"before").decide(&mut present), Ok(Outcome::Changed));
        assert_eq!(replace(b"now").decide(&mut Map(HashMap::new())), Ok(Outcome::Missing));
    }

    #[test]
    fn a_change_survives_its_encoding_in_the_log() {
        let id = EnclaveId::from_random([9; 8]);
        let change =
            Change::Create { key: RecordKey::of_enclave(Kind::Key, id, "k"), value: (0..=255).collect() };
        let bytes = rmp_serde::to_vec(&change).unwrap();
        assert!(bytes.len() < 256 + 40, "{} bytes: the value is not one run of bytes", bytes.len());
        assert_eq!(rmp_serde::from_slice::<Change>(&bytes).unwrap(), change);
    }
}
