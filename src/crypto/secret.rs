//! 32 secret bytes that are wiped when nobody needs them any more.

use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::world::Random;

/// A 256-bit key. It lives on the heap, so that moving it leaves no copy behind, and is wiped when dropped.
///
/// It cannot be printed or serialised:
/// ```compile_fail,E0277
/// let key = kes::crypto::SecretKey::from_bytes([7; 32]);
/// println!("{key:?}");
/// ```
pub struct SecretKey(Box<Zeroizing<[u8; 32]>>);

/// Key material that is not 32 bytes long.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid key size")]
pub struct WrongSize;

impl SecretKey {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// A new key that nobody can predict.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let mut key = Self(Box::new(Zeroizing::new([0; 32])));
        random.fill(&mut key.0[..]);
        key
    }

    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let key = Self(Box::new(Zeroizing::new(bytes)));
        bytes.zeroize();
        key
    }

    /// The bytes. Whoever copies them wipes the copy.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are the same key, in constant time.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl TryFrom<&[u8]> for SecretKey {
    type Error = WrongSize;

    fn try_from(bytes: &[u8]) -> Result<Self, WrongSize> {
        if bytes.len() != Self::LEN {
            return Err(WrongSize);
        }
        let mut key = Self(Box::new(Zeroizing::new([0; 32])));
        key.0.copy_from_slice(bytes);
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::Scripted, world::System};

    #[test]
    fn a_key_has_exactly_32_bytes() {
        assert!(SecretKey::try_from(&[1; 32][..]).is_ok_and(|key| key.expose() == &[1; 32]));
        for wrong in [0, 31, 33] {
            assert!(SecretKey::try_from(&vec![1; wrong][..]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn generated_keys_are_the_random_bytes_and_differ() {
        assert_eq!(SecretKey::generate(&Scripted::new(0..32)).expose()[31], 31);
        let (a, b) = (SecretKey::generate(&System), SecretKey::generate(&System));
        assert!(!a.same_as(&b));
        assert!(a.same_as(&SecretKey::from_bytes(*a.expose())));
    }
}
