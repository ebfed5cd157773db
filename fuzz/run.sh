#!/usr/bin/env bash
# Searches for bytes that break a fuzz target's property: each target for FUZZ_SECONDS (60 unless told), or only those in
# FUZZ_TARGETS. What was found interesting is kept in target/fuzz/, what broke a property too, and its name is printed.
#   make test-fuzz FUZZ_SECONDS=3600 FUZZ_SEED=$RANDOM FUZZ_TARGETS=ciphertext
# Without FUZZ_SEED every run of a build goes the same way, so that what one of them held the next one holds: look for new
# ways with other seeds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! command -v c++ > /dev/null; then
  echo "fuzz: libFuzzer needs a C++ compiler and there is none (apt-get install g++); the seeds are run by 'cargo test --test fuzz_seeds'" >&2
  exit 1
fi
export CARGO_INCREMENTAL=0
RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/rustc.sh cargo build -q -p kes-fuzz
for target in ${FUZZ_TARGETS:-$(ls fuzz/seeds)}; do
  found=target/fuzz/$target
  mkdir -p "$found/corpus"
  echo "fuzz: $target for ${FUZZ_SECONDS:-60} s"
  if ! FUZZ_TARGET=$target target/debug/kes-fuzz -seed="${FUZZ_SEED:-1}" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048 \
    -max_len=4096 -artifact_prefix="$found/" -print_final_stats=1 -verbosity=0 \
    "$found/corpus" "fuzz/seeds/$target" > "$found/log" 2>&1; then
    tail -40 "$found/log" >&2
    echo "fuzz: $target is broken by the file named above; add it to fuzz/seeds/$target when it is fixed" >&2
    exit 1
  fi
  grep -h -E 'number_of_executed_units|new_units_added' "$found/log" | sed "s/^/fuzz: $target /"
done
