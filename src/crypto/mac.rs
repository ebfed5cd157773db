//! HMAC-SHA-256 for clients, under a key's second key (contract §6.6).

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::secret::SecretKey;

/// HMAC-SHA-256 (RFC 2104) of `message` under `key`.
#[must_use]
pub fn hmac_sha256(key: &SecretKey, message: &[u8]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104 §2)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of every length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    #[test]
    fn the_mac_is_that_of_appendix_a_of_the_contract() {
        let key = SecretKey::from_bytes(std::array::from_fn(|i| i as u8));
        assert_eq!(
            STANDARD.encode(hmac_sha256(&key, b"hello")),
            "U8QCcqcMFcpO4K9N8fFV/WxB4AziMH2Jh+zUuzan6ZA="
        );
    }
}
