//! One change to the records, and what became of it. Deciding is here, pure; writing is in `records`.

use serde::{Deserialize, Serialize};

use super::{Kind, RecordKey};

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
    /// Removes a record that must exist.
    Delete {
        /// Its name.
        key: RecordKey,
    },
    /// Removes an enclave and every record in it.
    DeleteEnclave {
        /// Its name.
        enclave: String,
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
}

/// What `decide` may ask of the records as they are at this point of the log.
pub(super) trait Present {
    type Error;
    fn present(&self, key: &RecordKey) -> Result<bool, Self::Error>;
}

impl Change {
    /// The record that the change is about.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Create { key, .. } | Self::Put { key, .. } | Self::Delete { key } => key.clone(),
            Self::DeleteEnclave { enclave } => RecordKey::of_cluster(Kind::Enclave, enclave),
        }
    }

    /// What becomes of the change, given which records are present.
    pub(super) fn decide<P: Present>(&self, records: &P) -> Result<Outcome, P::Error> {
        let key = self.key();
        if let Some(parent) = key.parent()
            && !records.present(&parent)?
        {
            return Ok(Outcome::NoEnclave);
        }
        Ok(match self {
            Self::Put { .. } => Outcome::Done,
            Self::Create { .. } if records.present(&key)? => Outcome::Exists,
            Self::Create { .. } => Outcome::Done,
            Self::Delete { .. } | Self::DeleteEnclave { .. } if records.present(&key)? => Outcome::Done,
            Self::Delete { .. } | Self::DeleteEnclave { .. } => Outcome::Missing,
        })
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
    use std::collections::HashSet;

    use super::*;

    struct Set(HashSet<RecordKey>);

    impl Present for Set {
        type Error = std::convert::Infallible;
        fn present(&self, key: &RecordKey) -> Result<bool, Self::Error> {
            Ok(self.0.contains(key))
        }
    }

    #[test]
    fn what_becomes_of_a_change_depends_only_on_what_is_present() {
        let enclave = RecordKey::of_cluster(Kind::Enclave, "e");
        let key = RecordKey::of_enclave(Kind::Key, "e", "k");
        let create = Change::Create { key: key.clone(), value: vec![1] };
        let put = Change::Put { key: key.clone(), value: vec![1] };
        let delete = Change::Delete { key: key.clone() };
        let drop_enclave = Change::DeleteEnclave { enclave: "e".into() };
        let nothing = Set(HashSet::new());
        let empty = Set([enclave.clone()].into());
        let full = Set([enclave, key].into());
        for (records, change, outcome) in [
            (&nothing, &create, Outcome::NoEnclave),
            (&nothing, &put, Outcome::NoEnclave),
            (&nothing, &delete, Outcome::NoEnclave),
            (&nothing, &drop_enclave, Outcome::Missing),
            (&empty, &create, Outcome::Done),
            (&empty, &delete, Outcome::Missing),
            (&full, &create, Outcome::Exists),
            (&full, &put, Outcome::Done),
            (&full, &delete, Outcome::Done),
            (&full, &drop_enclave, Outcome::Done),
        ] {
            assert_eq!(change.decide(records), Ok(outcome), "{change:?}");
        }
    }

    #[test]
    fn a_change_survives_its_encoding_in_the_log() {
        let change =
            Change::Create { key: RecordKey::of_enclave(Kind::Key, "e", "k"), value: (0..=255).collect() };
        let bytes = rmp_serde::to_vec(&change).unwrap();
        assert!(bytes.len() < 256 + 40, "{} bytes: the value is not one run of bytes", bytes.len());
        assert_eq!(rmp_serde::from_slice::<Change>(&bytes).unwrap(), change);
    }
}
