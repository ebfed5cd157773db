//! Names and identities, parsed once at the border.
//!
//! The rule is that of KES v0.22.3 (contract §1.3): 1 to 80 bytes of `0-9 A-Z a-z - _`. Nothing is trimmed.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name in bytes.
pub const MAX_NAME_LEN: usize = 80;

/// Why a text is no name. The texts are part of the wire contract.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No byte at all.
    #[error("invalid argument: name is empty")]
    Empty,
    /// More than [`MAX_NAME_LEN`] bytes.
    #[error("invalid argument: name is too long")]
    TooLong,
    /// A byte outside `0-9 A-Z a-z - _`.
    #[error("invalid argument: name contains invalid character")]
    InvalidCharacter,
}

/// Checks `text` against the name rule.
///
/// # Errors
/// The first rule that `text` breaks.
pub fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME_LEN {
        return Err(NameError::TooLong);
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err(NameError::InvalidCharacter);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses `text`.
            ///
            /// # Errors
            /// See [`check_name`].
            pub fn new(text: &str) -> Result<Self, NameError> {
                check_name(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// A key: 1 to 80 bytes of `0-9 A-Z a-z - _`.
    KeyName
}
name! {
    /// A policy: same rule as a key.
    PolicyName
}
name! {
    /// A secret: same rule as a key.
    SecretName
}
name! {
    /// An enclave: same rule as a key.
    EnclaveName
}
name! {
    /// Who calls: usually the 64 lower-case hex digits of SHA-256 over the `SubjectPublicKeyInfo` of the client's
    /// certificate (contract §2.1), but any name can be stored and assigned, as in KES.
    Identity
}

impl EnclaveName {
    /// The enclave that a request without a selector means.
    #[must_use]
    pub fn default_enclave() -> Self {
        Self(super::DEFAULT_ENCLAVE.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_to_eighty_plain_bytes_and_is_never_trimmed() {
        for good in ["a", "Z", "0", "-", "_", "my-key_1", &"x".repeat(80)] {
            assert_eq!(KeyName::new(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", NameError::Empty),
            (&*"x".repeat(81), NameError::TooLong),
            ("a b", NameError::InvalidCharacter),
            ("app-1 ", NameError::InvalidCharacter),
            ("ä", NameError::InvalidCharacter),
            ("a/b", NameError::InvalidCharacter),
            ("..", NameError::InvalidCharacter),
        ] {
            assert_eq!(KeyName::new(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_checked_when_it_is_read_from_json() {
        assert!(serde_json::from_str::<Identity>(r#""ab\u0063""#).is_ok());
        assert!(serde_json::from_str::<Identity>(r#""a b""#).is_err());
    }
}
