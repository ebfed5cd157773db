//! A data-plane key, expanded once and used millions of times.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    algorithm::Algorithm,
    cipher::{self, Deriver, NONCE, NotAuthentic, SALT, SubKey, TAG},
    layout::{self, Layout, Parts},
    secret::SecretKey,
};
use crate::world::Random;

/// A ciphertext that this key did not make, or not with this context: which one is not said.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("decryption failed: ciphertext is not authentic")]
pub struct OpenError;

/// A key that encrypts and decrypts for clients, with everything precomputed that does not depend on the message.
///
/// Every message gets a fresh 16-byte IV, from which a sub-key is derived, and a fresh 12-byte nonce (contract §6.3);
/// both must repeat for a nonce to be used twice. About 500 bytes of memory, wiped when dropped.
pub struct Key {
    secret: SecretKey,
    algorithm: Option<Algorithm>,
    deriver: Deriver,
    id: [u8; 32],
}

impl Key {
    /// Expands `secret`. Without an algorithm, which only imported keys lack, ciphertexts say theirs when opened and
    /// new ones use the machine's default, as in KES v0.22.3.
    #[must_use]
    pub fn new(secret: SecretKey, algorithm: Option<Algorithm>) -> Self {
        let deriver = Deriver::new(secret.expose());
        let id = hex_id(secret.expose());
        Self { secret, algorithm, deriver, id }
    }

    /// Lower-case hex of the first 16 bytes of SHA-256 over the key: 32 characters.
    #[must_use]
    pub fn id(&self) -> &str {
        // hex digits are UTF-8
        std::str::from_utf8(&self.id).unwrap_or_default()
    }

    /// How it encrypts; `None` when it was imported without an algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// The key material, for sealing it into a record.
    #[must_use]
    pub fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// Encrypts `plaintext`, bound to `aad`, in one allocation.
    #[must_use]
    pub fn seal(&self, layout: Layout, plaintext: &[u8], aad: &[u8], random: &dyn Random) -> Vec<u8> {
        let mut fresh = [0; SALT + NONCE];
        random.fill(&mut fresh);
        self.seal_with(layout, plaintext, aad, &fresh)
    }

    /// A new data key, and the same encrypted and bound to `aad`. All its randomness is asked for at once, because that
    /// is a system call.
    #[must_use]
    pub fn generate(
        &self,
        layout: Layout,
        aad: &[u8],
        random: &dyn Random,
    ) -> (Zeroizing<[u8; 32]>, Vec<u8>) {
        let mut fresh = Zeroizing::new([0; SALT + NONCE + 32]);
        random.fill(&mut *fresh);
        let mut nonces = [0; SALT + NONCE];
        let mut key = Zeroizing::new([0; 32]);
        nonces.copy_from_slice(&fresh[..SALT + NONCE]);
        key.copy_from_slice(&fresh[SALT + NONCE..]);
        let sealed = self.seal_with(layout, &*key, aad, &nonces);
        (key, sealed)
    }

    fn seal_with(&self, layout: Layout, plaintext: &[u8], aad: &[u8], fresh: &[u8; SALT + NONCE]) -> Vec<u8> {
        let mut iv = [0; SALT];
        let mut nonce = [0; NONCE];
        iv.copy_from_slice(&fresh[..SALT]);
        nonce.copy_from_slice(&fresh[SALT..]);

        let algorithm = self.algorithm.unwrap_or_else(Algorithm::default_for_cpu);
        let mut out = Vec::new();
        layout::write_head(layout, algorithm, self.id(), &iv, &nonce, plaintext.len() + TAG, &mut out);
        let start = out.len();
        out.extend_from_slice(plaintext);
        let tag = cipher::seal(algorithm, &self.sub_key(algorithm, &iv), &nonce, aad, &mut out[start..]);
        out.extend_from_slice(&tag);
        layout::write_tail(layout, &iv, &nonce, &mut out);
        out
    }

    /// Decrypts a ciphertext of any layout.
    ///
    /// A key id in the ciphertext must be this key's and an algorithm must be this key's, if it has one.
    ///
    /// # Errors
    /// [`OpenError`] whatever the reason.
    pub fn open(&self, ciphertext: &[u8], aad: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let parts = Parts::parse(ciphertext).ok_or(OpenError)?;
        if let Some(claim) = &parts.claim
            && !claim.key_id.is_empty()
            && *claim.key_id != *self.id()
        {
            return Err(OpenError);
        }
        match (self.algorithm, parts.claim.as_ref().map(|claim| claim.algorithm)) {
            (Some(own), Some(claimed)) if own != claimed => Err(OpenError),
            (Some(algorithm), _) | (None, Some(algorithm)) => self.open_as(algorithm, &parts, aad),
            // neither says: the writer used the default of its machine
            (None, None) => self
                .open_as(Algorithm::Aes256Gcm, &parts, aad)
                .or_else(|_| self.open_as(Algorithm::XChaCha20Poly1305, &parts, aad)),
        }
    }

    fn open_as(
        &self,
        algorithm: Algorithm,
        parts: &Parts<'_>,
        aad: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (sealed, tag) = parts.sealed.split_last_chunk::<TAG>().ok_or(OpenError)?;
        let mut plaintext = Zeroizing::new(sealed.to_vec());
        let key = self.sub_key(algorithm, &parts.iv);
        cipher::open(algorithm, &key, &parts.nonce, aad, &mut plaintext, tag)
            .map_err(|NotAuthentic| OpenError)?;
        Ok(plaintext)
    }

    fn sub_key(&self, algorithm: Algorithm, iv: &[u8; SALT]) -> SubKey {
        match algorithm {
            Algorithm::Aes256Gcm => self.deriver.derive(&[], iv),
            Algorithm::XChaCha20Poly1305 => cipher::hchacha(self.secret.expose(), iv),
        }
    }
}

fn hex_id(key: &[u8; 32]) -> [u8; 32] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(key);
    let mut id = [0; 32];
    for (pair, byte) in id.chunks_exact_mut(2).zip(digest.iter()) {
        pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    id
}

#[cfg(test)]
mod tests {
    //! The vectors are appendix A and B of the contract.
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::{crypto::Scripted, world::System};

    use Algorithm::{Aes256Gcm as Aes, XChaCha20Poly1305 as ChaCha};

    struct Vector {
        algorithm: Algorithm,
        sealed: &'static str,
        raw: &'static str,
        message_pack: &'static str,
        json: &'static str,
    }

    const VECTORS: [Vector; 2] = [
        Vector {
            algorithm: Aes,
            sealed: "39daf373ba49c5b25a4535474700a4b2e48aa53c5e",
            raw: "Odrzc7pJxbJaRTVHRwCksuSKpTxeQEFCQ0RFRkdISUpLTE1OT4CBgoOEhYaHiImKiw==",
            message_pack: "lbFBRVMyNTYtR0NNX1NIQTI1NtkgNjMwZGNkMjk2NmM0MzM2NjkxMTI1NDQ4YmJiMjViNGbEEEBBQkNERUZHSElKS0xNTk/EDICBgoOEhYaHiImKi8QVOdrzc7pJxbJaRTVHRwCksuSKpTxe",
            json: r#"{"aead":"AES-256-GCM-HMAC-SHA-256","id":"630dcd2966c4336691125448bbb25b4f","iv":"QEFCQ0RFRkdISUpLTE1OTw==","nonce":"gIGCg4SFhoeIiYqL","bytes":"Odrzc7pJxbJaRTVHRwCksuSKpTxe"}"#,
        },
        Vector {
            algorithm: ChaCha,
            sealed: "abc3964eef6ce89337963b22c64d581db15024fe66",
            raw: "q8OWTu9s6JM3ljsixk1YHbFQJP5mQEFCQ0RFRkdISUpLTE1OT4CBgoOEhYaHiImKiw==",
            message_pack: "lbJYQ0hBQ0hBMjAtUE9MWTEzMDXZIDYzMGRjZDI5NjZjNDMzNjY5MTEyNTQ0OGJiYjI1YjRmxBBAQUJDREVGR0hJSktMTU5PxAyAgYKDhIWGh4iJiovEFavDlk7vbOiTN5Y7IsZNWB2xUCT+Zg==",
            json: r#"{"aead":"ChaCha20Poly1305","id":"630dcd2966c4336691125448bbb25b4f","iv":"QEFCQ0RFRkdISUpLTE1OTw==","nonce":"gIGCg4SFhoeIiYqL","bytes":"q8OWTu9s6JM3ljsixk1YHbFQJP5m"}"#,
        },
    ];

    fn secret() -> SecretKey {
        SecretKey::from_bytes(std::array::from_fn(|i| i as u8))
    }

    fn decode(text: &str) -> Vec<u8> {
        STANDARD.decode(text).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The IV and nonce of the vectors.
    fn script() -> Scripted {
        Scripted::new((0x40..0x50).chain(0x80..0x8c))
    }

    #[test]
    fn the_id_is_the_start_of_the_keys_digest() {
        assert_eq!(Key::new(secret(), None).id(), "630dcd2966c4336691125448bbb25b4f");
        assert_eq!(Key::new(SecretKey::from_bytes([0; 32]), None).id(), "66687aadf862bd776c8fc18b8e9f8e20");
    }

    #[test]
    fn both_written_layouts_are_byte_for_byte_those_of_kes() {
        for v in VECTORS {
            let key = Key::new(secret(), Some(v.algorithm));
            let raw = key.seal(Layout::Raw, b"hello", b"{}", &script());
            assert_eq!(hex(&raw[..21]), v.sealed);
            assert_eq!(STANDARD.encode(raw), v.raw);
            assert_eq!(
                STANDARD.encode(key.seal(Layout::MessagePack, b"hello", b"{}", &script())),
                v.message_pack
            );
        }
    }

    #[test]
    fn all_three_layouts_are_read_also_by_a_key_without_algorithm() {
        for v in VECTORS {
            for algorithm in [Some(v.algorithm), None] {
                let key = Key::new(secret(), algorithm);
                for ciphertext in [decode(v.raw), decode(v.message_pack), v.json.into()] {
                    assert_eq!(**key.open(&ciphertext, b"{}").unwrap(), *b"hello");
                }
            }
        }
    }

    #[test]
    fn a_ciphertext_of_the_stateful_kes_server_opens() {
        let app_1: [u8; 32] = std::array::from_fn(|i| {
            u8::from_str_radix(
                &"f93a7aa7bde830dc969a264d240a7c6587daafcf4d1494263636bcdc0d4f5fed"[2 * i..2 * i + 2],
                16,
            )
            .unwrap()
        });
        let ciphertext = decode(
            "lbFBRVMyNTYtR0NNX1NIQTI1NtkgNGQwMjZmMTFjOGU5YzhhZDRkZTlhZWQ2YjM3MGFjMDDEEHeDyisQVN7wYyPXcyyZ+R/EDHfxHNYAiAifiylAG8QwPs5HdL8wQw3idI9Sk10df8dHkgqYbHuEaAaDEHic6EfQ/7Wz5tRVfrhG9bxiyOiR",
        );
        let plaintext = Key::new(SecretKey::from_bytes(app_1), Some(Aes)).open(&ciphertext, b"{}").unwrap();
        assert_eq!(STANDARD.encode(&*plaintext), "gYVa2GgdDYbR6R4AFnk5y2aU0sQirNIIoAcpOUh/aZk=");
    }

    #[test]
    fn ciphertexts_of_kes_0_23_open_though_they_spell_the_algorithm_otherwise() {
        for (algorithm, ciphertext) in [
            (
                Aes,
                "laZBRVMyNTbZIDYzMGRjZDI5NjZjNDMzNjY5MTEyNTQ0OGJiYjI1YjRmxBALOsNSBOEZ/ANngaNep7x8xAwrqMUC6vsc2AFBC6jEFXnPruIf0m9e/67XzvjQeR+4rRb7zQ==",
            ),
            (
                ChaCha,
                "lahDaGFDaGEyMNkgNjMwZGNkMjk2NmM0MzM2NjkxMTI1NDQ4YmJiMjViNGbEEKRo0dGFwbE7RoU3ciuCFKPEDISKtEzIxsVa/4buDMQVTxY06WAXXQ0GvmSBl2/Wqkt0+0gH",
            ),
        ] {
            for known in [Some(algorithm), None] {
                let plaintext = Key::new(secret(), known).open(&decode(ciphertext), b"{}").unwrap();
                assert_eq!(**plaintext, *b"hello");
            }
        }
    }

    #[test]
    fn what_is_sealed_opens_at_every_length_of_the_message_pack_header() {
        for algorithm in [Aes, ChaCha] {
            let key = Key::new(secret(), Some(algorithm));
            for length in [0, 1, 32, 239, 240, 65_519, 65_520, 70_000] {
                let plaintext = vec![7; length];
                for (layout, overhead) in [(Layout::Raw, 44), (Layout::MessagePack, 103)] {
                    let sealed = key.seal(layout, &plaintext, b"context", &System);
                    assert_eq!(**key.open(&sealed, b"context").unwrap(), *plaintext);
                    if length <= 239 {
                        let name = usize::from(layout == Layout::MessagePack && algorithm == ChaCha);
                        assert_eq!(sealed.len(), length + overhead + name);
                    }
                }
            }
        }
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused_in_every_layout() {
        for v in VECTORS {
            let key = Key::new(secret(), Some(v.algorithm));
            for good in [decode(v.raw), decode(v.message_pack), v.json.into()] {
                for at in 0..good.len() {
                    assert!(key.open(&good[..at], b"{}").is_err(), "cut at {at}");
                    for flip in [0x01, 0x80] {
                        let mut bad = good.clone();
                        bad[at] ^= flip;
                        // the name of a field of JSON that may be absent
                        let harmless = good[0] == b'{' && !bad.windows(4).any(|w| w == b"\"id\"");
                        assert!(harmless || key.open(&bad, b"{}").is_err(), "byte {at} ^ {flip:#x}");
                    }
                }
                let longer = [&good[..], &[0]].concat();
                assert!(key.open(&longer, b"{}").is_err());
            }
        }
    }

    #[test]
    fn a_generated_data_key_is_random_and_comes_back_from_its_ciphertext() {
        let key = Key::new(secret(), Some(Aes));
        let random = Scripted::new((0x40..0x50).chain(0x80..0x8c).chain([9; 32]));
        let (plaintext, sealed) = key.generate(Layout::Raw, b"{}", &random);
        assert_eq!(*plaintext, [9; 32]);
        assert_eq!(
            sealed,
            key.seal(Layout::Raw, &[9; 32], b"{}", &script()),
            "IV and nonce are the first 28 bytes"
        );
        let (other, sealed) = key.generate(Layout::MessagePack, b"{}", &System);
        assert_ne!(*other, *plaintext);
        assert_eq!(**key.open(&sealed, b"{}").unwrap(), *other);
    }

    #[test]
    fn another_context_key_or_algorithm_does_not_open() {
        for v in VECTORS {
            let other = if v.algorithm == Aes { ChaCha } else { Aes };
            for good in [decode(v.raw), decode(v.message_pack), v.json.into()] {
                assert_eq!(Key::new(secret(), Some(v.algorithm)).open(&good, b"{ }").err(), Some(OpenError));
                assert_eq!(Key::new(secret(), Some(other)).open(&good, b"{}").err(), Some(OpenError));
                let foreign = Key::new(SecretKey::from_bytes([9; 32]), Some(v.algorithm));
                assert_eq!(foreign.open(&good, b"{}").err(), Some(OpenError));
            }
        }
        assert_eq!(Key::new(secret(), None).open(b"", b"").err(), Some(OpenError));
    }

    #[test]
    fn a_raw_ciphertext_that_begins_like_another_layout_is_still_raw() {
        let key = Key::new(secret(), Some(Aes));
        for first in [0x95, b'{'] {
            let found = (0..=u16::MAX).any(|n| {
                let [a, b] = n.to_be_bytes();
                let random = Scripted::new([a, b].into_iter().chain(std::iter::repeat_n(1, 26)));
                let sealed = key.seal(Layout::Raw, b"hello", b"", &random);
                sealed[0] == first && **key.open(&sealed, b"").unwrap() == *b"hello"
            });
            assert!(found, "some IV makes the first byte {first:#x}");
        }
    }
}
