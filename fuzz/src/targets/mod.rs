//! What must hold for any bytes from outside. Each target is a function of bytes that panics when its property is broken.
//!
//! `fuzz/run.sh` searches for such bytes with coverage; `tests/fuzz_seeds.rs` runs the committed seeds through the same
//! functions in every `cargo test`.

mod body;
mod ciphertext;
mod config;
mod glob;
mod policy;
mod stateless;
mod target;

/// A target's name and what it does with bytes.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target, by its name.
pub(crate) const ALL: [Target; 6] = [
    ("policy", policy::run),
    ("config", config::run),
    ("stateless", stateless::run),
    ("ciphertext", ciphertext::run),
    ("target", target::run),
    ("body", body::run),
];
