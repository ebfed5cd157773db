//! The two AEAD constructions of the data plane and their many names (contract §6.1).

use std::{fmt, str::FromStr};

/// How a data-plane key encrypts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// AES-256-GCM under a sub-key that HMAC-SHA-256 derives from the key and a 16-byte IV.
    Aes256Gcm,
    /// ChaCha20-Poly1305 under a sub-key that HChaCha20 derives from the key and a 16-byte IV.
    XChaCha20Poly1305,
}

/// A name that no KES ever used for an algorithm.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("algorithm '{0}' is not supported")]
pub struct UnknownAlgorithm(String);

impl Algorithm {
    /// What a new key uses on this machine: AES where the CPU does it in hardware, ChaCha20 elsewhere.
    #[must_use]
    pub fn default_for_cpu() -> Self {
        if has_aes() { Self::Aes256Gcm } else { Self::XChaCha20Poly1305 }
    }

    /// The name in the API and in MessagePack ciphertexts (KES v0.22.3); all clients understand it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "AES256-GCM_SHA256",
            Self::XChaCha20Poly1305 => "XCHACHA20-POLY1305",
        }
    }

    /// Parses the algorithm of an import: empty and `undefined` mean that ciphertexts decide.
    ///
    /// # Errors
    /// A name that no KES ever used.
    pub fn parse_optional(name: &str) -> Result<Option<Self>, UnknownAlgorithm> {
        if name.is_empty() || name == "undefined" { Ok(None) } else { name.parse().map(Some) }
    }

    /// The name in JSON ciphertexts (KES before v0.19.2).
    pub(super) fn from_json_name(name: &str) -> Option<Self> {
        match name {
            "AES-256-GCM-HMAC-SHA-256" => Some(Self::Aes256Gcm),
            "ChaCha20Poly1305" => Some(Self::XChaCha20Poly1305),
            _ => None,
        }
    }

    /// The name in MessagePack ciphertexts: v0.22.3 and v0.23.0 spell it differently.
    pub(super) fn from_message_pack_name(name: &[u8]) -> Option<Self> {
        std::str::from_utf8(name).ok()?.parse().ok()
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Accepts the spelling of KES v0.22.3 and that of KES 2024.
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        match name {
            "AES256-GCM_SHA256" | "AES256" => Ok(Self::Aes256Gcm),
            "XCHACHA20-POLY1305" | "ChaCha20" => Ok(Self::XChaCha20Poly1305),
            _ => Err(UnknownAlgorithm(name.into())),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    cfg!(any(target_arch = "s390x", target_arch = "powerpc64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_parsed_and_the_old_one_is_written() {
        for (name, algorithm) in [
            ("AES256-GCM_SHA256", Algorithm::Aes256Gcm),
            ("AES256", Algorithm::Aes256Gcm),
            ("XCHACHA20-POLY1305", Algorithm::XChaCha20Poly1305),
            ("ChaCha20", Algorithm::XChaCha20Poly1305),
        ] {
            assert_eq!(name.parse(), Ok(algorithm));
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
        assert_eq!(Algorithm::parse_optional(""), Ok(None));
        assert_eq!(Algorithm::parse_optional("undefined"), Ok(None));
        assert_eq!(
            "aes256".parse::<Algorithm>().unwrap_err().to_string(),
            "algorithm 'aes256' is not supported"
        );
    }
}
