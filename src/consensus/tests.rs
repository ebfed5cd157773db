//! One member through crashes, lost writes and damaged files: what it acknowledged it has, or it says that it has not.

use std::{collections::BTreeSet, fs, path::Path};

use futures::future::join_all;

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
};

use super::*;
use crate::store::{EnclaveId, Kind, RecordKey, StoreError};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

pub(super) struct Nobody;

impl Observer for Nobody {
    fn applied(&self, _change: &Change, _outcome: Outcome) {}
}

pub(super) fn owner() -> Owner {
    Owner { cluster: "c".into(), member: 1 }
}

pub(super) fn id() -> EnclaveId {
    EnclaveId::from_random([1; 8])
}

pub(super) fn create(name: &str) -> Change {
    Change::Create { key: RecordKey::of_enclave(Kind::Key, id(), name), value: vec![7; 150] }
}

pub(super) const SMALL: Limits = Limits { table: 64 << 10, batches: 100 };

async fn open(dir: &Path) -> Result<Consensus, Error> {
    let member = open_quietly(dir).await?;
    member.recover().await?;
    Ok(member)
}

/// As `open`, without waiting until it leads.
async fn open_quietly(dir: &Path) -> Result<Consensus, Error> {
    let log = Arc::new(log_file::File(dir.join(LOG_FILE)));
    Consensus::open_with(dir.join(RECORDS_DIR), log, &owner(), Arc::new(Nobody), SMALL).await
}

/// A member with one enclave.
async fn bootstrap(dir: &Path) -> Consensus {
    log_file::create(&dir.join(LOG_FILE)).unwrap();
    let member = open_quietly(dir).await.unwrap();
    member.bootstrap(Member::default()).await.unwrap();
    let change = Change::CreateEnclave { name: "e".into(), id: id(), value: vec![1] };
    assert_eq!(member.propose(change).await.unwrap(), Outcome::Done);
    member
}

pub(super) async fn make(member: &Consensus, names: impl Iterator<Item = String>) {
    for name in names {
        assert_eq!(member.propose(create(&name)).await.unwrap(), Outcome::Done, "{name}");
    }
}

pub(super) fn names(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|n| format!("k{n:05}"))
}

pub(super) fn present(member: &Consensus) -> BTreeSet<String> {
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

/// The records as they are on the disk, without what would change them meanwhile.
fn copy_records(member: &Consensus, from: &Path, to: &Path) {
    member.records().end_upkeep();
    copy(&from.join(RECORDS_DIR), &to.join(RECORDS_DIR));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_records_lost_in_a_power_cut_the_log_has() {
    let (dir, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let member = bootstrap(dir.path()).await;
    make(&member, names(0..30)).await;
    member.records().persist().unwrap();
    // the records as they were synced last, and the log as it is later
    copy_records(&member, dir.path(), cut.path());
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

pub(super) async fn wait_for_purge(member: &Consensus) {
    let purged = |m: &openraft::RaftMetrics<TypeConfig>| m.purged.is_some();
    member.raft.wait(Some(RECOVER_TIMEOUT)).metrics(purged, "the log is purged").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_at_once_than_memory_may_hold_is_written_out_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let member = bootstrap(dir.path()).await;
    let large = |name: String| {
        let key = RecordKey::of_enclave(Kind::Key, id(), &name);
        member.propose(Change::Create { key, value: vec![7; 200 << 10] })
    };
    for outcome in join_all(names(0..40).map(large)).await {
        assert_eq!(outcome.unwrap(), Outcome::Done);
    }
    assert_eq!(present(&member).len(), 40);
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_large_entries_the_log_keeps_bytes_and_not_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let member = bootstrap(dir.path()).await;
    for name in names(0..300) {
        let key = RecordKey::of_enclave(Kind::Key, id(), &name);
        let change = Change::Create { key, value: vec![7; 64 << 10] };
        assert_eq!(member.propose(change).await.unwrap(), Outcome::Done);
    }
    let last = member.log.reach().last.unwrap();
    let kept = |m: &openraft::RaftMetrics<TypeConfig>| m.purged.is_some_and(|id| id.index + 80 > last);
    member.raft.wait(Some(RECOVER_TIMEOUT)).metrics(kept, "80 entries at most").await.unwrap();
    assert!(fs::metadata(dir.path().join(LOG_FILE)).unwrap().len() < 16 << 20, "of 19 MiB");
    member.close().await;
    let member = open(dir.path()).await.unwrap();
    assert_eq!(present(&member).len(), 300);
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_older_than_the_log_are_refused() {
    let (dir, half) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let member = bootstrap(dir.path()).await;
    make(&member, names(0..10)).await;
    member.records().persist().unwrap();
    copy_records(&member, dir.path(), half.path());
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
async fn an_entry_that_is_needed_counts_also_after_a_gap_of_those_that_are_not() {
    let (dir, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let member = bootstrap(dir.path()).await;
    make(&member, names(0..30)).await;
    member.records().persist().unwrap();
    copy_records(&member, dir.path(), cut.path());
    let applied = member.log.reach().last.unwrap();
    make(&member, names(30..31)).await;
    member.log.close();
    fs::copy(dir.path().join(LOG_FILE), cut.path().join(LOG_FILE)).unwrap();
    member.close().await;
    let damaged = tempfile::tempdir().unwrap();
    copy(cut.path(), damaged.path());
    tamper(cut.path(), applied, |_| false);
    for _ in 0..2 {
        let member = open(cut.path()).await.unwrap();
        assert_eq!(present(&member), names(0..31).collect());
        member.close().await;
    }
    // and is refused when it is damaged
    tamper(damaged.path(), applied, |_| false);
    tamper(damaged.path(), applied + 1, |bytes| {
        bytes.pop();
        true
    });
    let error = open(damaged.path()).await.err().unwrap();
    assert!(error.to_string().contains(&format!("entry {}", applied + 1)), "{error}");
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
    log_file::create(&dir.path().join(LOG_FILE)).unwrap();
    let error = open(dir.path()).await.err().unwrap();
    assert!(matches!(error, Error::Records(StoreError::Damaged { .. })), "{error}");
    assert!(error.to_string().contains("log position"), "{error}");
}

/// Flips a byte in the middle of every table of records that has many, and of the largest: some may not count any more, a
/// small one has the log position in its middle, and on a busy machine there may be several instead of one.
fn damage_records(dir: &Path) {
    let mut tables: Vec<_> = fs::read_dir(dir.join(RECORDS_DIR).join("tables"))
        .unwrap()
        .map(|table| table.unwrap().path())
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    let largest = tables.iter().map(|(bytes, _)| bytes.len()).max().unwrap();
    for (bytes, path) in &mut tables {
        if bytes.len() > 12 << 10 || bytes.len() == largest {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }
    }
}

/// The first of these names whose record cannot be read.
fn unreadable(member: &Consensus, mut names: impl Iterator<Item = String>) -> String {
    names.find(|name| member.records().get(&RecordKey::of_enclave(Kind::Key, id(), name)).is_err()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_damage_leaves_undecided_is_refused_when_new_and_ends_the_start_when_acknowledged() {
    let (dir, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let member = bootstrap(dir.path()).await;
    make(&member, names(0..1000)).await;
    member.records().persist().unwrap();
    copy_records(&member, dir.path(), cut.path());
    // what is there has to be read, whereas a filter may know what is not
    for name in names(0..1000).step_by(2) {
        let delete = Change::Delete { key: RecordKey::of_enclave(Kind::Key, id(), &name) };
        assert_eq!(member.propose(delete).await.unwrap(), Outcome::Done, "{name}");
    }
    member.close().await;
    fs::copy(dir.path().join(LOG_FILE), cut.path().join(LOG_FILE)).unwrap();
    // acknowledged, lost from the records by a power cut, and what decides about it damaged: not a word would be said
    damage_records(cut.path());
    let error = open(cut.path()).await.err().unwrap();
    assert!(matches!(&error, Error::Replay(StoreError::Unreadable { .. })), "{error}");
    assert!(error.to_string().contains("Key 'k0"), "{error}");
    // new: refused before it is in the log, and the member goes on
    damage_records(dir.path());
    let member = open(dir.path()).await.unwrap();
    let name = unreadable(&member, names(0..1000));
    let last = member.log.reach().last;
    assert_eq!(member.propose(create(&name)).await.unwrap(), Outcome::Unreadable);
    assert_eq!(member.log.reach().last, last);
    make(&member, ["other".to_owned()].into_iter()).await;
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_because_of_damage_is_on_the_disk_before_anybody_hears_of_it() {
    let (dir, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let member = bootstrap(dir.path()).await;
    make(&member, names(0..1000)).await;
    member.close().await;
    damage_records(dir.path());
    let member = open(dir.path()).await.unwrap();
    let name = unreadable(&member, names(0..1000));
    // the damage comes after the look at it that precedes the log
    let [first, second] = [0, 1].map(|_| member.batcher.propose(create(&name)));
    let outcomes = futures::future::join(first, second).await;
    assert!(matches!(outcomes, (Ok(Outcome::Unreadable), Ok(Outcome::Unreadable))), "{outcomes:?}");
    assert_eq!(member.batcher.propose(create(&name)).await.unwrap(), Outcome::Unreadable);
    // killed now
    copy_records(&member, dir.path(), next.path());
    member.log.close();
    fs::copy(dir.path().join(LOG_FILE), next.path().join(LOG_FILE)).unwrap();
    member.close().await;
    let member = open(next.path()).await.unwrap();
    assert_eq!(unreadable(&member, names(0..1000)), name);
    make(&member, ["other".to_owned()].into_iter()).await;
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_decided_now_waits_and_is_decided_once() {
    let dir = tempfile::tempdir().unwrap();
    let member = bootstrap(dir.path()).await;
    // the stamp and the position are in other tables than the keys: those are not opened before they are needed
    member.records().persist().unwrap();
    make(&member, names(0..50)).await;
    member.records().persist().unwrap();
    make(&member, ["newest".to_owned()].into_iter()).await;
    member.close().await;
    let member = open(dir.path()).await.unwrap();
    member.records().end_upkeep();
    let [tables, away] = ["tables", "away"].map(|name| dir.path().join(RECORDS_DIR).join(name));
    fs::rename(&tables, &away).unwrap();
    let refused = member.propose(create("k00007")).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    let (waiting, ()) = futures::future::join(member.batcher.propose(create("k00007")), async {
        let committed =
            |m: &openraft::RaftMetrics<TypeConfig>| m.last_log_index > m.last_applied.map(|id| id.index);
        member.raft.wait(Some(RECOVER_TIMEOUT)).metrics(committed, "it waits").await.unwrap();
        fs::rename(&away, &tables).unwrap();
    })
    .await;
    assert_eq!(waiting.unwrap(), Outcome::Exists);
    make(&member, ["other".to_owned()].into_iter()).await;
    member.close().await;
}
