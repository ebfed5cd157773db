#!/bin/sh
# Cargo calls this instead of rustc for the packages of this workspace: with the coverage that libFuzzer reads. These are
# the flags of cargo-fuzz, all of which stable Rust has; its sanitizers need nightly and are left out.
exec "$@" -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares
