//! One member through crashes, lost writes and damaged files: what it acknowledged it has, or it says that it has not.

use std::{collections::BTreeSet, fs, path::Path};

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
};

use super::*;
use crate::store::{EnclaveId, Kind, RecordKey, StoreError};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

struct Nobody;

impl Observer for Nobody {
    fn applied(&self, _change: &Change, _outcome: Outcome) {}
}

fn owner() -> Owner {
    Owner { cluster: "c".into(), member: 1 }
}

fn id() -> EnclaveId {
    EnclaveId::from_random([1; 8])
}

fn create(name: &str) -> Change {
    Change::Create { key: RecordKey::of_enclave(Kind::Key, id(), name), value: vec![7; 150] }
}

const SMALL: Limits = Limits { table: 64 << 10, batches: 100 };

async fn open(dir: &Path) -> Result<Consensus, Error> {
    let member = Consensus::open_with(dir, &owner(), Arc::new(Nobody), SMALL).await?;
    member.recover().await?;
    Ok(member)
}

/// A member with one enclave.
async fn bootstrap(dir: &Path) -> Consensus {
    Log::create(&dir.join(LOG_FILE)).unwrap();
    let member = Consensus::open_with(dir, &owner(), Arc::new(Nobody), SMALL).await.unwrap();
    member.bootstrap(Member::default()).await.unwrap();
    let change = Change::CreateEnclave { name: "e".into(), id: id(), value: vec![1] };
    assert_eq!(member.propose(change).await.unwrap(), Outcome::Done);
    member
}

async fn make(member: &Consensus, names: impl Iterator<Item = String>) {
    for name in names {
        assert_eq!(member.propose(create(&name)).await.unwrap(), Outcome::Done, "{name}");
    }
}

fn names(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|n| format!("k{n:05}"))
}

fn present(member: &Consensus) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let visit = |key: RecordKey, _: &[u8]| found.insert(key.name);
    member.records().visit(Kind::Key, id(), "", visit).unwrap();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_records_lost_in_a_power_cut_the_log_has() {
    let (dir, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let member = bootstrap(dir.path()).await;
    make(&member, names(0..30)).await;
    member.records().persist().unwrap();
    // the records as they were synced last, and the log as it is later
    copy(&dir.path().join(RECORDS_DIR), &cut.path().join(RECORDS_DIR));
    make(&member, names(30..60)).await;
    let delete = Change::Delete { key: RecordKey::of_enclave(Kind::Key, id(), "k00001") };
    assert_eq!(member.propose(delete).await.unwrap(), Outcome::Done);
    member.log.close();
    fs::copy(dir.path().join(LOG_FILE), cut.path().join(LOG_FILE)).unwrap();
    member.close().await;
    let expected: BTreeSet<_> = names(0..60).filter(|name| name != "k00001").collect();
    for _ in 0..2 {
        let member = open(cut.path()).await.unwrap();
        assert_eq!(present(&member), expected);
        member.close().await;
    }
}

async fn wait_for_purge(member: &Consensus) {
    let purged = |m: &openraft::RaftMetrics<TypeConfig>| m.purged.is_some();
    member.raft.wait(Some(RECOVER_TIMEOUT)).metrics(purged, "the log is purged").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_older_than_the_log_are_refused() {
    let (dir, half) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let member = bootstrap(dir.path()).await;
    make(&member, names(0..10)).await;
    member.records().persist().unwrap();
    copy(&dir.path().join(RECORDS_DIR), &half.path().join(RECORDS_DIR));
    make(&member, names(10..1500)).await;
    wait_for_purge(&member).await;
    member.close().await;
    fs::copy(dir.path().join(LOG_FILE), half.path().join(LOG_FILE)).unwrap();
    let error = open(half.path()).await.err().unwrap();
    assert!(matches!(error, Error::Mixed(Mismatch::RecordsBehind { .. })), "{error}");
    // the other half is refused too: a log without its records
    fs::remove_dir_all(half.path().join(RECORDS_DIR)).unwrap();
    let error = open(half.path()).await.err().unwrap();
    assert!(matches!(error, Error::Mixed(Mismatch::RecordsBehind { applied: 0, .. })), "{error}");
    let member = open(dir.path()).await.unwrap();
    assert_eq!(present(&member).len(), 1500);
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_purged_as_the_records_are_written_and_neither_grows_without_bound() {
    let dir = tempfile::tempdir().unwrap();
    let member = bootstrap(dir.path()).await;
    let size = || fs::metadata(dir.path().join(LOG_FILE)).unwrap().len();
    let mut sizes = Vec::new();
    for round in 0..6 {
        make(&member, names(round * 1000..(round + 1) * 1000)).await;
        // the first thousand is less than what is always kept and what is purged at least
        if round > 0 {
            wait_for_purge(&member).await;
        }
        sizes.push(size());
    }
    // what is kept: 500 entries, what came since the last snapshot, and redb's own room
    assert!(sizes[5] <= sizes[2] * 3 / 2, "{sizes:?}");
    member.close().await;
    let db = Database::open(dir.path().join(LOG_FILE)).unwrap();
    let left = db.begin_read().unwrap().open_table(LOG).unwrap().len().unwrap();
    assert!(left < 2_000, "{left} entries are left of 6,000");
    drop(db);
    let member = open(dir.path()).await.unwrap();
    assert_eq!(present(&member).len(), 6000);
    member.close().await;
}

/// Changes one entry of a closed log, or removes it.
fn tamper(dir: &Path, entry: u64, change: fn(&mut Vec<u8>) -> bool) {
    let db = Database::open(dir.join(LOG_FILE)).unwrap();
    let write = db.begin_write().unwrap();
    {
        let mut log = write.open_table(LOG).unwrap();
        let mut bytes = log.get(entry).unwrap().unwrap().value().to_vec();
        if change(&mut bytes) {
            log.insert(entry, bytes.as_slice()).unwrap();
        } else {
            log.remove(entry).unwrap();
        }
    }
    write.commit().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_entry_that_is_needed_is_refused_and_one_that_is_not_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let member = bootstrap(dir.path()).await;
    make(&member, names(0..40)).await;
    member.close().await;
    let flip = |bytes: &mut Vec<u8>| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        true
    };
    let gone = |_: &mut Vec<u8>| false;
    for change in [flip as fn(&mut Vec<u8>) -> bool, gone] {
        let (needed, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // everything is in the records: nothing is lost
        copy(dir.path(), kept.path());
        tamper(kept.path(), 20, change);
        for _ in 0..2 {
            let member = open(kept.path()).await.unwrap();
            assert_eq!(present(&member), names(0..40).collect());
            member.close().await;
        }
        // nothing is in the records
        fs::copy(dir.path().join(LOG_FILE), needed.path().join(LOG_FILE)).unwrap();
        tamper(needed.path(), 20, change);
        let error = open(needed.path()).await.err().unwrap();
        assert!(matches!(error, Error::Log(LogError::Damaged { .. })), "{error}");
        assert!(error.to_string().contains("entry 2"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_cut_short_empty_or_something_else_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let member = bootstrap(dir.path()).await;
    make(&member, names(0..40)).await;
    member.close().await;
    let path = dir.path().join(LOG_FILE);
    let good = fs::read(&path).unwrap();
    for bad in [&[][..], &good[..100], &good[..good.len() / 2], b"hello", &vec![0; good.len()]] {
        fs::write(&path, bad).unwrap();
        let error = open(dir.path()).await.err().unwrap();
        assert!(matches!(error, Error::Log(LogError::Damaged { .. })), "{error}");
        assert!(error.to_string().contains("log.redb"), "{error}");
        assert_eq!(fs::read(&path).unwrap().len(), bad.len(), "it was written to");
    }
    fs::write(&path, good).unwrap();
    let member = open(dir.path()).await.unwrap();
    assert_eq!(present(&member).len(), 40);
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_position_that_makes_no_sense_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(&dir.path().join(RECORDS_DIR), SMALL).unwrap();
    records.apply(&[], b"no position").unwrap();
    records.persist().unwrap();
    drop(records);
    Log::create(&dir.path().join(LOG_FILE)).unwrap();
    let error = open(dir.path()).await.err().unwrap();
    assert!(matches!(error, Error::Records(StoreError::Damaged { .. })), "{error}");
    assert!(error.to_string().contains("log position"), "{error}");
}
