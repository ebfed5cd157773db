//! One AEAD call under a sub-key that is used once: the primitive below both ciphertexts and records.

use aes_gcm::{Aes256Gcm, KeyInit as _, aead::AeadInOut as _};
use chacha20poly1305::ChaCha20Poly1305;
use hmac::{Hmac, Mac as _, digest::FixedOutput as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::algorithm::Algorithm;

/// Bytes of an authentication tag.
pub(super) const TAG: usize = 16;
/// Bytes of a nonce.
pub(super) const NONCE: usize = 12;
/// Bytes of an IV or salt from which a sub-key is derived.
pub(super) const SALT: usize = 16;

/// A 256-bit key for one message, wiped when dropped.
pub(super) type SubKey = Zeroizing<[u8; 32]>;

/// The bytes are not what was sealed, or not under this key and associated data.
pub(super) struct NotAuthentic;

/// HMAC-SHA-256 keyed once; both hash states of the key are precomputed and wiped when dropped.
#[derive(Clone)]
pub(super) struct Deriver(Hmac<Sha256>);

impl Deriver {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        // `new_from_slice` only fails for MACs that limit the key's length; the fixed-size constructor would
        // want a copy of the key padded to a block.
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104 §2)")]
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of every length"))
    }

    /// The sub-key for `label ‖ salt`.
    pub(super) fn derive(&self, label: &[u8], salt: &[u8; SALT]) -> SubKey {
        let mut mac = self.0.clone();
        mac.update(label);
        mac.update(salt);
        let mut out = SubKey::default();
        mac.finalize_into((&mut *out).into());
        out
    }
}

/// HChaCha20 (draft-irtf-cfrg-xchacha-03 §2.2).
pub(super) fn hchacha(key: &[u8; 32], salt: &[u8; SALT]) -> SubKey {
    Zeroizing::new(chacha20::hchacha::<chacha20::R20>(key.into(), salt.into()).into())
}

/// Encrypts `bytes` in place and returns the tag.
///
/// # Panics
/// Beyond the 64 GiB (AES-GCM) or 256 GiB (ChaCha20) that one message may have; bodies and records are a millionth of it.
pub(super) fn seal(
    algorithm: Algorithm,
    key: &SubKey,
    nonce: &[u8; NONCE],
    aad: &[u8],
    bytes: &mut [u8],
) -> [u8; TAG] {
    let sealed = match algorithm {
        Algorithm::Aes256Gcm => {
            Aes256Gcm::new((&**key).into()).encrypt_inout_detached(nonce.into(), aad, bytes.into())
        }
        Algorithm::XChaCha20Poly1305 => {
            ChaCha20Poly1305::new((&**key).into()).encrypt_inout_detached(nonce.into(), aad, bytes.into())
        }
    };
    #[expect(clippy::expect_used, reason = "messages are bounded by the body limit, far below the AEAD's")]
    sealed.expect("a message is below the AEAD's length limit").into()
}

/// Decrypts `bytes` in place; on failure they hold nothing secret.
pub(super) fn open(
    algorithm: Algorithm,
    key: &SubKey,
    nonce: &[u8; NONCE],
    aad: &[u8],
    bytes: &mut [u8],
    tag: &[u8; TAG],
) -> Result<(), NotAuthentic> {
    match algorithm {
        Algorithm::Aes256Gcm => Aes256Gcm::new((&**key).into()).decrypt_inout_detached(
            nonce.into(),
            aad,
            bytes.into(),
            tag.into(),
        ),
        Algorithm::XChaCha20Poly1305 => ChaCha20Poly1305::new((&**key).into()).decrypt_inout_detached(
            nonce.into(),
            aad,
            bytes.into(),
            tag.into(),
        ),
    }
    .map_err(|_| NotAuthentic)
}
