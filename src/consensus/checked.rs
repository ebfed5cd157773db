//! Values of the log with a checksum, since redb checks its own only after a crash.

use serde::{Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::Xxh3;

const SEAL: usize = 8;

fn digest(key: &[u8], value: &[u8]) -> [u8; SEAL] {
    let mut hasher = Xxh3::new();
    hasher.update(key);
    hasher.update(value);
    hasher.digest().to_le_bytes()
}

/// `value` as MessagePack, behind a checksum of it and of the key that it will stand under.
pub(super) fn seal(key: &[u8], value: &impl Serialize) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut bytes = vec![0; SEAL];
    rmp_serde::encode::write(&mut bytes, value)?;
    let seal = digest(key, &bytes[SEAL..]);
    bytes[..SEAL].copy_from_slice(&seal);
    Ok(bytes)
}

/// The value again.
///
/// # Errors
/// What does not fit.
pub(super) fn open<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, String> {
    let (seal, value) = bytes.split_first_chunk::<SEAL>().ok_or("it is cut short")?;
    if *seal != digest(key, value) {
        return Err("its checksum is wrong".into());
    }
    rmp_serde::from_slice(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_every_cut_and_every_other_key_is_noticed() {
        let bytes = seal(b"k", &(7_u64, "text")).unwrap();
        assert_eq!(open::<(u64, String)>(b"k", &bytes), Ok((7, "text".into())));
        assert!(open::<(u64, String)>(b"l", &bytes).is_err());
        for at in 0..bytes.len() {
            assert!(open::<(u64, String)>(b"k", &bytes[..at]).is_err());
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(open::<(u64, String)>(b"k", &bad).is_err(), "byte {at} bit {bit}");
            }
        }
    }
}
