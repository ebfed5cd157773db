//! Nanoseconds of one core per cryptographic operation of the data plane and of a record.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed measurement")]

use std::{hint::black_box, time::Instant};

use kes::{
    authz::Policy,
    crypto::{Algorithm, Key, Layout, RecordAad, SealingKeys, SecretKey},
    world::System,
};

fn measure<T>(what: &str, mut call: impl FnMut() -> T) {
    const ROUNDS: u32 = 200_000;
    (0..ROUNDS / 10).for_each(|_| drop(black_box(call())));
    let began = Instant::now();
    (0..ROUNDS).for_each(|_| drop(black_box(call())));
    println!("{what:45} {:6} ns", began.elapsed().as_nanos() / u128::from(ROUNDS));
}

fn main() {
    let context = br#"{"bucket":"bucket/object"}"#;
    for algorithm in [Algorithm::Aes256Gcm, Algorithm::XChaCha20Poly1305] {
        let key = Key::new(SecretKey::generate(&System), Some(algorithm));
        for layout in [Layout::Raw, Layout::MessagePack] {
            let sealed = key.seal(layout, &[7; 32], context, &System);
            measure(&format!("seal 32 bytes, {algorithm}, {layout:?}"), || {
                key.seal(layout, &[7; 32], context, &System)
            });
            measure(&format!("open 32 bytes, {algorithm}, {layout:?}"), || {
                key.open(&sealed, context).unwrap()
            });
        }
    }
    let root = SealingKeys::new(SecretKey::generate(&System));
    let aad = RecordAad { cluster: "cluster", enclave: [1; 8], kind: 1, name: "my-key", version: 1 };
    let record = root.seal(&aad, &[7; 100], &System);
    measure("seal a record of 100 bytes", || root.seal(&aad, &[7; 100], &System));
    measure("open a record of 100 bytes", || root.open(&aad, &record).unwrap());
    measure("expand a key", || Key::new(SecretKey::generate(&System), Some(Algorithm::Aes256Gcm)));
    let allow =
        ["/v1/key/create/*", "/v1/key/generate/*", "/v1/key/decrypt/*", "/v1/status"].map(String::from);
    let deny = vec!["/v1/key/*/internal*".into()];
    let policy = kes::api::message::Policy { allow: allow.into(), deny, ..Default::default() };
    let policy = Policy::compile(&policy).unwrap();
    measure("decide by a policy of 5 patterns", || policy.decide("/v1/key/decrypt/my-key"));
}
