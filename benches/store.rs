//! What a million records cost: bytes on disk, time to open, memory, a page of names, one record.
//!
//! `cargo bench --bench store`; `BENCH_KEYS` sets how many (1,000,000 unless told).

#![expect(clippy::unwrap_used, reason = "a failed step is a failed measurement")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use kes::store::{Change, EnclaveId, Kind, Limits, RecordKey, Records};

/// Length of a sealed key record.
const VALUE: usize = 160;
const PAGE: usize = 1000;
const BATCH: usize = 500;

fn main() {
    // `cargo test` runs benches once to see that they work
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let asked = std::env::var("BENCH_KEYS").ok().and_then(|count| count.parse().ok());
    let count: u64 = asked.unwrap_or(if is_bench { 1_000_000 } else { 2_000 });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records");
    println!("memory before                {:>10} KiB", resident());
    let records = Records::open(&path, Limits::default()).unwrap();
    println!("memory with an empty store   {:>10} KiB", resident());
    let began = Instant::now();
    fill(&records, count);
    println!("filled                       {:>10.0} records/s", count as f64 / began.elapsed().as_secs_f64());
    println!("memory when filled           {:>10} KiB", resident());
    // merging goes on for a while
    let mut size = 0;
    while size != size_of(&path) {
        size = size_of(&path);
        std::thread::sleep(Duration::from_secs(u64::from(is_bench)));
    }
    println!("on disk                      {:>10.0} bytes per record", size as f64 / count as f64);
    records.end_upkeep();
    drop(records);
    let began = Instant::now();
    let records = Records::open(&path, Limits::default()).unwrap();
    println!("open                         {:>10.1} ms", millis(began));
    println!("memory after opening         {:>10} KiB", resident());
    let mut pages: Vec<_> = (0..50).map(|n| page(&records, count * n / 50)).collect();
    pages.sort_by(f64::total_cmp);
    println!("page of {PAGE} names           {:>10.2} ms (longest {:.2})", pages[25], pages[49]);
    for (what, step) in [("cold", 7919), ("again", 7919)] {
        let began = Instant::now();
        let reads = 20_000.min(count);
        for n in 0..reads {
            assert!(records.get(&key((n * step) % count)).unwrap().is_some());
        }
        println!("one record, {what:<16} {:>10.2} µs", millis(began) * 1000.0 / reads as f64);
    }
    let began = Instant::now();
    for n in 0..20_000 {
        assert!(records.get(&key(count + n)).unwrap().is_none());
    }
    println!("a record that is not there   {:>10.2} µs", millis(began) * 1000.0 / 20_000.0);
    println!("memory at the end            {:>10} KiB", resident());
}

/// Names come in no order: what an LSM tree is for.
fn key(n: u64) -> RecordKey {
    let scattered = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    RecordKey::of_enclave(Kind::Key, enclave(), &format!("key-{scattered:016x}"))
}

fn enclave() -> EnclaveId {
    EnclaveId::from_random([1; 8])
}

fn fill(records: &Records, count: u64) {
    let change = Change::CreateEnclave { name: "e".into(), id: enclave(), value: vec![1] };
    records.apply(&[change], b"position").unwrap();
    let mut state = 1_u64;
    let mut value = || {
        let mut bytes = Vec::with_capacity(VALUE);
        while bytes.len() < VALUE {
            // ciphertext does not compress
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
        }
        bytes
    };
    for first in (0..count).step_by(BATCH) {
        let batch: Vec<_> = (first..count.min(first + BATCH as u64))
            .map(|n| Change::Create { key: key(n), value: value() })
            .collect();
        records.apply(&batch, b"position").unwrap();
        if records.wants_persist() {
            records.persist().unwrap();
        }
    }
    records.persist().unwrap();
}

/// How long a page takes from an offset on.
fn page(records: &Records, from: u64) -> f64 {
    let after = key(from).name;
    let began = Instant::now();
    let mut names = Vec::with_capacity(PAGE);
    records
        .visit_after(Kind::Key, enclave(), "", Some(&after), |key, _| {
            names.push(key.name);
            names.len() < PAGE
        })
        .unwrap();
    millis(began)
}

fn millis(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn size_of(path: &Path) -> u64 {
    let entries =
        fs::read_dir(path).map(|entries| entries.flatten().collect()).unwrap_or_else(|_| Vec::new());
    entries
        .iter()
        .map(|entry| {
            let path = entry.path();
            if path.is_dir() { size_of(&path) } else { path.metadata().map_or(0, |found| found.len()) }
        })
        .sum()
}
