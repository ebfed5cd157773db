//! One binary for all fuzz targets; `FUZZ_TARGET` says which. `fuzz/run.sh` builds and runs it.

#![no_main]
#![expect(clippy::expect_used, reason = "a property that does not hold ends the target")]

mod targets;

use std::sync::LazyLock;

/// The target that was asked for.
static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    match targets::ALL.iter().find(|(known, _)| *known == name) {
        Some((_, run)) => *run,
        None => {
            let known: Vec<_> = targets::ALL.iter().map(|(known, _)| *known).collect();
            panic!("FUZZ_TARGET='{name}' is none of {known:?}")
        }
    }
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
