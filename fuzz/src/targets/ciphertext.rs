//! What a key sealed it opens, and nothing else: not with a bit flipped, not cut, not under another key or context.

use std::sync::Mutex;

use kes::{
    crypto::{Algorithm, Key, Layout, RecordAad, SealingKeys, SecretKey},
    world::Random,
};

/// The plaintext of every ciphertext among the seeds.
const KNOWN: &[u8] = b"hello";
/// Their context.
const CONTEXT: &[u8] = b"{}";

/// The first byte chooses what is tried with the rest.
pub(super) fn run(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    match mode % 4 {
        0 | 1 => forge(rest),
        2 => round_trip(*mode, rest),
        _ => record(rest),
    }
}

fn secret() -> SecretKey {
    SecretKey::from_bytes(std::array::from_fn(|n| n as u8))
}

/// Bytes from nowhere open only when they hold a known ciphertext, perhaps written differently.
fn forge(ciphertext: &[u8]) {
    for algorithm in [None, Some(Algorithm::Aes256Gcm), Some(Algorithm::XChaCha20Poly1305)] {
        if let Ok(plaintext) = Key::new(secret(), algorithm).open(ciphertext, CONTEXT) {
            assert_eq!(**plaintext, *KNOWN, "a forged ciphertext opened");
        }
        let foreign = Key::new(SecretKey::from_bytes([9; 32]), algorithm);
        assert!(foreign.open(ciphertext, CONTEXT).is_err());
        assert!(Key::new(secret(), algorithm).open(ciphertext, b"[]").is_err());
    }
}

/// Randomness that the fuzzer chooses; zeros when it has no more.
struct Chosen(Mutex<Vec<u8>>);

impl Random for Chosen {
    fn fill(&self, bytes: &mut [u8]) {
        let mut left = self.0.lock().expect("one thread");
        for byte in bytes {
            *byte = left.pop().unwrap_or_default();
        }
    }
}

fn split(data: &[u8]) -> (&[u8], &[u8]) {
    data.split_at(data.len().min(60))
}

fn round_trip(mode: u8, data: &[u8]) {
    let (chosen, rest) = split(data);
    let (context, plaintext) = rest.split_at(rest.len() / 3);
    let algorithm = if mode & 4 == 0 { Algorithm::Aes256Gcm } else { Algorithm::XChaCha20Poly1305 };
    let layout = if mode & 8 == 0 { Layout::Raw } else { Layout::MessagePack };
    // imported without an algorithm, a key takes the machine's; it must open what any key of the same bytes sealed
    let undefined = Key::new(secret(), None);
    let key = Key::new(secret(), Some(algorithm));
    let sealed = key.seal(layout, plaintext, context, &Chosen(Mutex::new(chosen.to_vec())));
    assert_eq!(**key.open(&sealed, context).expect("opens what it sealed"), *plaintext);
    assert_eq!(**undefined.open(&sealed, context).expect("finds the algorithm"), *plaintext);
    assert!(key.open(&sealed, &[context, b"x"].concat()).is_err(), "another context");
    assert!(Key::new(SecretKey::from_bytes([9; 32]), Some(algorithm)).open(&sealed, context).is_err());
    for bad in damaged(&sealed, chosen) {
        assert!(key.open(&bad, context).is_err() && undefined.open(&bad, context).is_err());
    }
    let (data_key, sealed) = key.generate(layout, context, &Chosen(Mutex::new(chosen.to_vec())));
    assert_eq!(**key.open(&sealed, context).expect("opens what it generated"), *data_key);
}

fn record(data: &[u8]) {
    let (chosen, rest) = split(data);
    let Ok(name) = std::str::from_utf8(&rest[..rest.len() / 3]) else { return };
    let plaintext = &rest[rest.len() / 3..];
    let (keys, enclave) = (SealingKeys::new(secret()), [7; 8]);
    let aad = RecordAad { cluster: "c", enclave, kind: 2, name, version: 1 };
    let sealed = keys.seal(&aad, plaintext, &Chosen(Mutex::new(chosen.to_vec())));
    assert_eq!(**keys.open(&aad, &sealed).expect("opens what it sealed"), *plaintext);
    let moved = format!("{name}x");
    for other in [
        RecordAad { cluster: "d", ..aad },
        RecordAad { enclave: [8; 8], ..aad },
        RecordAad { kind: 3, ..aad },
        RecordAad { name: &moved, ..aad },
        RecordAad { version: 2, ..aad },
    ] {
        assert!(keys.open(&other, &sealed).is_err(), "{other:?}");
    }
    for bad in damaged(&sealed, chosen) {
        assert!(keys.open(&aad, &bad).is_err());
    }
    // and what nobody sealed
    assert!(keys.open(&aad, data).is_err());
}

/// `sealed` with one bit flipped, cut, and made longer, at places that `choice` names.
fn damaged<'s>(sealed: &'s [u8], choice: &[u8]) -> impl Iterator<Item = Vec<u8>> + use<'s> {
    let at = choice.iter().fold(0usize, |n, byte| n.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let flip = move |nth: usize| {
        let mut bad = sealed.to_vec();
        let place = at.wrapping_add(nth.wrapping_mul(7919)) % (8 * bad.len());
        bad[place / 8] ^= 1 << (place % 8);
        bad
    };
    let cut = sealed[..at % sealed.len()].to_vec();
    let longer = [sealed, &[at as u8]].concat();
    (0..3).map(flip).chain([cut, longer])
}
