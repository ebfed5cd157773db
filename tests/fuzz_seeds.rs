//! The seeds of the fuzz targets, and whatever once broke one, hold in every run of the tests; so do small changes of them.
//!
//! The search itself, with coverage, is `make test-fuzz`.

#![expect(clippy::expect_used, reason = "a failed step is a failed test")]

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use std::path::Path;

/// Each seed is changed at this many places in as many ways.
const CHANGES: usize = 200;

#[test]
fn every_seed_and_its_neighbours_keep_the_properties_of_their_target() {
    for (name, run) in targets::ALL {
        let mut seeds: Vec<_> = std::fs::read_dir(Path::new("fuzz/seeds").join(name))
            .unwrap_or_else(|error| panic!("fuzz/seeds/{name}: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        seeds.sort();
        assert!(seeds.len() >= 3, "fuzz/seeds/{name} has only {} seeds", seeds.len());
        for seed in seeds {
            let bytes = std::fs::read(&seed).unwrap();
            let changed = (0..CHANGES).map(|nth| change(&bytes, nth as u64));
            for bytes in std::iter::once(bytes.clone()).chain(changed) {
                if std::panic::catch_unwind(|| run(&bytes)).is_err() {
                    panic!("{name} fails on a neighbour of {}: {bytes:?}", seed.display());
                }
            }
        }
    }
}

#[test]
fn every_target_has_seeds_and_every_folder_of_seeds_has_a_target() {
    let mut folders: Vec<_> =
        std::fs::read_dir("fuzz/seeds").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let mut names: Vec<_> = targets::ALL.iter().map(|(name, _)| std::ffi::OsString::from(name)).collect();
    folders.sort();
    names.sort();
    assert_eq!(folders, names);
}

/// `bytes` with one byte set, one removed, or one doubled; the same for the same `nth`.
fn change(bytes: &[u8], nth: u64) -> Vec<u8> {
    // splitmix64
    let mut random = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678);
    random = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    random = (random ^ (random >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    random ^= random >> 31;
    let mut changed = bytes.to_vec();
    if changed.is_empty() {
        return vec![random as u8];
    }
    let at = (random >> 16) as usize % changed.len();
    match nth % 4 {
        0 => changed[at] = random as u8,
        1 => changed[at] ^= 1 << (random % 8),
        2 => drop(changed.remove(at)),
        _ => changed.insert(at, changed[at]),
    }
    changed
}
