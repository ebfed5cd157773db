//! The records themselves, in an LSM tree, with the log position that they reflect.
//!
//! Changes go to a table in memory; `persist` writes it out, with the position, and syncs. So what is on the volume is
//! always the state at one position, and everything after it is in the Raft log, which is purged only up to there.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use lsm_tree::{AbstractTree, Guard as _, SeqNo, SequenceNumberCounter, Tree};

use super::{Change, EnclaveId, Kind, Outcome, RecordKey, StoreError, change::Present, tree, upkeep::Upkeep};

/// When the table in memory wants to be written out.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At this size, in bytes. Memory holds up to four times as much while the volume does not keep up.
    pub table: u64,
    /// After so many batches: what a restart after a crash has to replay at most.
    pub batches: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { table: 16 << 20, batches: 20_000 }
    }
}

/// How long to wait before a full or sick volume is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// The record of the log position. No record of ours has this name: their first byte is a kind, from 1.
const POSITION: &[u8] = b"\0applied";
/// The record of whose records these are.
const STAMP: &[u8] = b"\0stamp";

/// All records of this member. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    shared: Arc<Shared>,
    /// Ends the upkeep with the last handle.
    upkeep: Arc<Upkeep>,
}

pub(super) struct Shared {
    pub(super) tree: Tree,
    seqno: SequenceNumberCounter,
    /// Readers of one moment see what is below this number.
    visible: AtomicU64,
    /// Moments that somebody still reads, with how many do.
    moments: Mutex<BTreeMap<SeqNo, usize>>,
    writer: Mutex<Writer>,
    limits: Limits,
    full: AtomicBool,
    closing: AtomicBool,
}

/// What only whoever changes records touches.
#[derive(Default)]
struct Writer {
    /// The log position of the records in memory.
    position: Option<Vec<u8>>,
    /// Batches since the table was last written out.
    batches: u64,
    /// Bytes of the table in memory.
    bytes: u64,
}

impl Shared {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moments(&self) -> MutexGuard<'_, BTreeMap<SeqNo, usize>> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is older than this and was replaced since may be forgotten.
    pub(super) fn oldest_moment(&self) -> SeqNo {
        let moments = self.moments();
        moments.keys().next().copied().unwrap_or_else(|| self.visible.load(Ordering::Acquire))
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Writes the table in memory out and syncs it.
    fn persist(&self) -> Result<(), StoreError> {
        {
            let mut writer = self.writer();
            if let Some(position) = &writer.position
                && writer.batches > 0
            {
                // whatever is in the table, the position that belongs to it is in it too
                let _ = self.tree.insert(POSITION, position.as_slice(), self.seqno.next());
                self.tree.rotate_memtable();
                (writer.batches, writer.bytes) = (0, 0);
            }
        }
        // also tables that an earlier attempt could not write
        let lock = self.tree.get_flush_lock();
        let flushed = self.tree.flush(&lock, self.oldest_moment()).map(drop).map_err(StoreError::at("write"));
        self.full.store(flushed.as_ref().is_err_and(StoreError::is_disk_full), Ordering::Release);
        flushed
    }

    /// Removes at most `limit` records of enclaves that are gone; false when none are left.
    ///
    /// Nobody can reach them any more, so this need not be in the log: no change's outcome depends on it.
    pub(super) fn sweep(&self, limit: usize) -> Result<bool, StoreError> {
        let (first, end) = RecordKey::range_of_kind(Kind::Remains);
        let Some(marker) = self.tree.range(first..end, SeqNo::MAX, None).next() else { return Ok(false) };
        let marker = marker.key().map_err(StoreError::at("list"))?.to_vec();
        let Some(RecordKey { enclave, .. }) = RecordKey::decode(&marker) else { return Ok(false) };
        let mut doomed = Vec::new();
        for kind in Kind::OF_ENCLAVE {
            let (first, end) = RecordKey::range(kind, enclave, "", None);
            let rest = limit.saturating_sub(doomed.len());
            for entry in self.tree.range(first..end, SeqNo::MAX, None).take(rest) {
                doomed.push(entry.key().map_err(StoreError::at("list"))?.to_vec());
            }
        }
        if doomed.len() < limit {
            doomed.push(marker);
        }
        let mut writer = self.writer();
        let seqno = self.seqno.next();
        for key in doomed {
            writer.bytes = self.tree.remove(key, seqno).1;
        }
        writer.batches += 1;
        self.visible.fetch_max(seqno + 1, Ordering::AcqRel);
        let is_much = writer.bytes >= self.limits.table;
        drop(writer);
        if is_much {
            self.persist()?;
        }
        Ok(true)
    }
}

impl Records {
    /// Opens the records in `path`, creating the folder if it does not exist. Does not scan.
    ///
    /// # Errors
    /// When the folder cannot be read or written, is damaged or half a copy, or holds something else.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, StoreError> {
        let seqno = SequenceNumberCounter::new(1);
        let tree = tree::open(path, &seqno)?;
        let position = tree.get(POSITION, SeqNo::MAX).map_err(|error| StoreError::Damaged {
            path: path.into(),
            why: format!("the log position that it reflects cannot be read: {error}"),
        })?;
        let shared = Arc::new(Shared {
            visible: AtomicU64::new(seqno.get()),
            seqno,
            moments: Mutex::default(),
            writer: Mutex::new(Writer { position: position.map(|p| p.to_vec()), batches: 0, bytes: 0 }),
            limits,
            full: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            tree,
        });
        let upkeep = Upkeep::start(Arc::clone(&shared)).map_err(|source| StoreError::Io {
            step: "start the upkeep of",
            path: path.into(),
            source,
        })?;
        Ok(Self { shared, upkeep: Arc::new(upkeep) })
    }

    /// The value of one record.
    ///
    /// # Errors
    /// When the volume cannot be read, or the record is damaged.
    pub fn get(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        match self.shared.tree.get(key.encode(), SeqNo::MAX) {
            Ok(value) => Ok(value.map(|value| value.to_vec())),
            Err(source) => Err(StoreError::Unreadable { record: key.to_string(), source }),
        }
    }

    /// Calls `visit` with every record of `kind` in `enclave` whose name begins with `prefix`, ordered by name,
    /// as they are at one moment, until it returns false.
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub fn visit(
        &self,
        kind: Kind,
        enclave: EnclaveId,
        prefix: &str,
        visit: impl FnMut(RecordKey, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.visit_after(kind, enclave, prefix, None, visit)
    }

    /// As [`Self::visit`], from the first name after `after` on, which need not exist any more. Finding it takes the
    /// same time at any offset.
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub fn visit_after(
        &self,
        kind: Kind,
        enclave: EnclaveId,
        prefix: &str,
        after: Option<&str>,
        mut visit: impl FnMut(RecordKey, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let (first, end) = RecordKey::range(kind, enclave, prefix, after);
        let copy = self.copy();
        for entry in self.shared.tree.range(first..end, copy.moment.seqno, None) {
            let (key, value) = entry.into_inner().map_err(StoreError::at("list"))?;
            if let Some(key) = RecordKey::decode(&key)
                && !visit(key, &value)
            {
                break;
            }
        }
        Ok(())
    }

    /// Applies `changes` in order and notes `applied` as the log position reached, all or nothing.
    /// The result is a function of the records and the changes alone.
    ///
    /// In memory only: the log is on the volume, and it is replayed from the position that is found at open.
    ///
    /// # Errors
    /// When the volume cannot be read; then nothing was applied.
    pub fn apply(&self, changes: &[Change], applied: &[u8]) -> Result<Vec<Outcome>, StoreError> {
        self.apply_with(changes, applied, |error| Err(error))
    }

    /// As [`Self::apply`], for a member that decides for itself alone: a change whose record cannot be read is refused
    /// as [`Outcome::Unreadable`], and the others are applied.
    ///
    /// # Errors
    /// None today.
    pub fn apply_alone(&self, changes: &[Change], applied: &[u8]) -> Result<Vec<Outcome>, StoreError> {
        self.apply_with(changes, applied, |error| {
            tracing::error!(%error, "a change is refused because what it depends on cannot be read");
            Ok(Outcome::Unreadable)
        })
    }

    fn apply_with(
        &self,
        changes: &[Change],
        applied: &[u8],
        unreadable: impl Fn(StoreError) -> Result<Outcome, StoreError>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let shared = &*self.shared;
        let mut writer = shared.writer();
        // decide first, write then: nothing can fail half-way
        let mut batch = Batch { tree: &shared.tree, written: HashMap::new(), known: HashMap::new() };
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            let outcome = change.decide(&mut batch).or_else(&unreadable)?;
            if outcome == Outcome::Done {
                batch.take(change);
            }
            outcomes.push(outcome);
        }
        let seqno = shared.seqno.next();
        for (key, value) in batch.written {
            writer.bytes = match value {
                Some(value) => shared.tree.insert(key, value, seqno).1,
                None => shared.tree.remove(key, seqno).1,
            };
        }
        writer.batches += 1;
        writer.position = Some(applied.to_vec());
        shared.visible.fetch_max(seqno + 1, Ordering::AcqRel);
        if changes.iter().any(|change| matches!(change, Change::DeleteEnclave { .. })) {
            self.upkeep.wake();
        }
        Ok(outcomes)
    }

    /// The log position that the records reflect, as `apply` was given it.
    #[must_use]
    pub fn applied(&self) -> Option<Vec<u8>> {
        self.shared.writer().position.clone()
    }

    /// Whose records these are; nothing before [`Self::set_stamp`].
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub fn stamp(&self) -> Result<Option<String>, StoreError> {
        let stamp = self.shared.tree.get(STAMP, SeqNo::MAX).map_err(StoreError::at("read"))?;
        Ok(stamp.map(|stamp| String::from_utf8_lossy(&stamp).into_owned()))
    }

    /// Notes whose records these are. Written out with the next `persist`; it is noted again at the next start if not.
    pub fn set_stamp(&self, stamp: &str) {
        let writer = self.shared.writer();
        let _ = self.shared.tree.insert(STAMP, stamp, self.shared.seqno.next());
        drop(writer);
    }

    /// Whether so much was applied since the last `persist` that it is time for the next.
    #[must_use]
    pub fn wants_persist(&self) -> bool {
        let writer = self.shared.writer();
        writer.bytes >= self.shared.limits.table || writer.batches >= self.shared.limits.batches
    }

    /// Whether memory holds several times what it should, because the volume does not keep up.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.shared.writer().bytes >= 4 * self.shared.limits.table
    }

    /// Makes everything applied so far survive a power cut. The log may be purged up to there afterwards. Blocks.
    ///
    /// # Errors
    /// When the volume cannot be written.
    pub fn persist(&self) -> Result<(), StoreError> {
        self.shared.persist()?;
        self.upkeep.wake();
        Ok(())
    }

    /// As [`Self::persist`], but tries again and again while the volume is full or sick: reads go on meanwhile, and
    /// giving up would end them too. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Closed`] when the records are closed before it works.
    pub fn persist_when_possible(&self) -> Result<(), StoreError> {
        let mut warned = false;
        while let Err(error) = self.persist() {
            if !warned {
                tracing::error!(%error, full = error.is_disk_full(), "the records cannot be written: they stay in memory and in the log");
                warned = true;
            }
            if self.shared.is_closing() {
                return Err(StoreError::Closed);
            }
            std::thread::sleep(RETRY);
        }
        if warned {
            tracing::info!("the records can be written again");
        }
        Ok(())
    }

    /// Whether the volume was full when it was last written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Acquire)
    }

    /// Ends every wait for the volume.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
    }

    /// Whether [`Self::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closing()
    }

    /// The records as they are now, for whoever reads for long.
    #[must_use]
    pub fn copy(&self) -> Copy {
        Copy { moment: Arc::new(Moment::new(&self.shared)) }
    }

    /// Becomes what `copy` is, and notes `applied` as the log position, all or nothing.
    ///
    /// # Errors
    /// When a volume cannot be read; then nothing was changed.
    pub fn replace(&self, copy: &Copy, applied: &[u8]) -> Result<(), StoreError> {
        let mut new = Vec::new();
        for entry in copy.moment.shared.tree.iter(copy.moment.seqno, None) {
            let (key, value) = entry.into_inner().map_err(StoreError::at("copy"))?;
            new.push((key, value));
        }
        let mut old = Vec::new();
        for entry in self.shared.tree.iter(SeqNo::MAX, None) {
            old.push(entry.key().map_err(StoreError::at("list"))?);
        }
        let mut writer = self.shared.writer();
        let (gone, here) = (self.shared.seqno.next(), self.shared.seqno.next());
        for key in old {
            let _ = self.shared.tree.remove(key, gone);
        }
        for (key, value) in new {
            let _ = self.shared.tree.insert(key, value, here);
        }
        writer.position = Some(applied.to_vec());
        writer.batches += 1;
        self.shared.visible.fetch_max(here + 1, Ordering::AcqRel);
        drop(writer);
        self.persist()
    }
}

/// All records as they were at one moment. Costs nothing to take; keeps old versions on disk while it lives.
#[derive(Clone)]
pub struct Copy {
    moment: Arc<Moment>,
}

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Copy")
    }
}

/// A moment that somebody reads: what was there then is not forgotten while this lives.
struct Moment {
    seqno: SeqNo,
    shared: Arc<Shared>,
}

impl Moment {
    fn new(shared: &Arc<Shared>) -> Self {
        let mut moments = shared.moments();
        let seqno = shared.visible.load(Ordering::Acquire);
        *moments.entry(seqno).or_default() += 1;
        Self { seqno, shared: Arc::clone(shared) }
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        let mut moments = self.shared.moments();
        if let Some(readers) = moments.get_mut(&self.seqno) {
            *readers -= 1;
            if *readers == 0 {
                moments.remove(&self.seqno);
            }
        }
    }
}

/// The records as they are after the changes of this batch so far.
struct Batch<'a> {
    tree: &'a Tree,
    written: HashMap<Vec<u8>, Option<&'a [u8]>>,
    /// Enclaves that were looked up, since a batch is mostly about one.
    known: HashMap<EnclaveId, bool>,
}

impl<'a> Batch<'a> {
    fn take(&mut self, change: &'a Change) {
        match change {
            Change::Create { key, value } | Change::Put { key, value } => {
                self.written.insert(key.encode(), Some(value));
            }
            Change::Delete { key } => {
                self.written.insert(key.encode(), None);
            }
            Change::CreateEnclave { name, id, value } => {
                self.written.insert(change.key().encode(), Some(value));
                self.written.insert(RecordKey::of_id(*id).encode(), Some(name.as_bytes()));
                self.known.insert(*id, true);
            }
            // its records are out of reach with its id; the upkeep removes them
            Change::DeleteEnclave { id, .. } => {
                self.written.insert(change.key().encode(), None);
                self.written.insert(RecordKey::of_id(*id).encode(), None);
                self.written.insert(RecordKey::remains_of(*id).encode(), Some(&[]));
                self.known.insert(*id, false);
            }
        }
    }

    fn read(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let encoded = key.encode();
        if let Some(written) = self.written.get(&encoded) {
            return Ok(written.map(<[u8]>::to_vec));
        }
        let read = self.tree.get(encoded, SeqNo::MAX);
        let unreadable = |source| StoreError::Unreadable { record: key.to_string(), source };
        Ok(read.map_err(unreadable)?.map(|value| value.to_vec()))
    }
}

impl Present for Batch<'_> {
    type Error = StoreError;

    fn present(&mut self, key: &RecordKey) -> Result<bool, StoreError> {
        let encoded = key.encode();
        if let Some(written) = self.written.get(&encoded) {
            return Ok(written.is_some());
        }
        let read = self.tree.contains_key(encoded, SeqNo::MAX);
        read.map_err(|source| StoreError::Unreadable { record: key.to_string(), source })
    }

    fn exists(&mut self, enclave: EnclaveId) -> Result<bool, StoreError> {
        if let Some(exists) = self.known.get(&enclave) {
            return Ok(*exists);
        }
        let exists = self.present(&RecordKey::of_id(enclave))?;
        self.known.insert(enclave, exists);
        Ok(exists)
    }

    fn enclave(&mut self, id: EnclaveId) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(&RecordKey::of_id(id))
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> EnclaveId {
        EnclaveId::from_random([0, 0, 0, 0, 0, 0, 0, number])
    }

    fn enclave(name: &str, number: u8) -> Change {
        Change::CreateEnclave { name: name.into(), id: id(number), value: vec![9] }
    }

    fn create(enclave: u8, name: &str, value: u8) -> Change {
        Change::Create { key: RecordKey::of_enclave(Kind::Key, id(enclave), name), value: vec![value] }
    }

    fn names(records: &Records, enclave: u8, prefix: &str, after: Option<&str>) -> Vec<String> {
        let mut names = Vec::new();
        records
            .visit_after(Kind::Key, id(enclave), prefix, after, |key, _| {
                names.push(key.name);
                true
            })
            .unwrap();
        names
    }

    #[test]
    fn create_never_overwrites_not_even_within_one_batch() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        let outcomes = records.apply(&[enclave("e", 1), create(1, "k", 1), create(1, "k", 2)], b"1").unwrap();
        assert_eq!(outcomes, [Outcome::Done, Outcome::Done, Outcome::Exists]);
        assert_eq!(records.apply(&[create(1, "k", 3)], b"2").unwrap(), [Outcome::Exists]);
        let key = RecordKey::of_enclave(Kind::Key, id(1), "k");
        assert_eq!(records.get(&key).unwrap(), Some(vec![1]));
    }

    #[test]
    fn records_and_log_position_are_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        assert_eq!(records.applied(), None);
        records.apply(&[enclave("e", 1), create(1, "b", 1), create(1, "a", 2)], b"7").unwrap();
        records.persist().unwrap();
        drop(records);
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        assert_eq!(records.applied().as_deref(), Some(&b"7"[..]));
        assert_eq!(names(&records, 1, "", None), ["a", "b"]);
        assert_eq!(names(&records, 1, "b", None), ["b"]);
    }

    #[test]
    fn a_visit_goes_on_after_any_name_also_one_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        let changes: Vec<_> = [enclave("e", 1), enclave("e-", 2), create(2, "b", 0)]
            .into_iter()
            .chain(["a", "a-b", "aa", "ab", "b", "b-"].map(|name| create(1, name, 0)))
            .collect();
        records.apply(&changes, b"1").unwrap();
        for (prefix, from, want) in [
            ("", None, &["a", "a-b", "aa", "ab", "b", "b-"][..]),
            ("", Some("a"), &["a-b", "aa", "ab", "b", "b-"]),
            ("", Some("a-"), &["a-b", "aa", "ab", "b", "b-"]),
            ("", Some("ab"), &["b", "b-"]),
            ("", Some("b"), &["b-"]),
            ("", Some("b-"), &[]),
            ("a", Some("aa"), &["ab"]),
            ("a", Some("ab"), &[]),
            ("b", Some("a"), &["b", "b-"]),
            ("a", Some("zzz"), &[]),
        ] {
            assert_eq!(names(&records, 1, prefix, from), want, "{prefix:?} after {from:?}");
        }
    }

    #[test]
    fn deleting_an_enclave_removes_its_records_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        let first = [enclave("e", 1), enclave("e2", 2), create(1, "a", 1), create(2, "b", 2)];
        records.apply(&first, b"1").unwrap();
        let delete = || Change::DeleteEnclave { name: "e".into(), id: id(1) };
        let outcomes = records.apply(&[create(1, "late", 3), delete(), create(1, "after", 4)], b"2").unwrap();
        assert_eq!(outcomes, [Outcome::Done, Outcome::Done, Outcome::NoEnclave]);
        sweep(&records);
        assert!(names(&records, 1, "", None).is_empty());
        assert_eq!(names(&records, 2, "", None), ["b"]);
    }

    /// Does what the upkeep is doing anyway, until there is nothing left to do.
    fn sweep(records: &Records) {
        while records.shared.sweep(2).unwrap() {}
    }

    #[test]
    fn records_of_a_deleted_enclave_are_removed_also_by_a_later_life() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        let keys: Vec<_> = (0..50).map(|n| create(1, &format!("k{n}"), 1)).collect();
        records.apply(&[enclave("e", 1), enclave("e2", 2), create(2, "b", 2)], b"1").unwrap();
        records.apply(&keys, b"2").unwrap();
        // as the process leaves it that dies right after the change: without a sweep
        let [name, here, remains] = [
            RecordKey::of_cluster(Kind::Enclave, "e"),
            RecordKey::of_id(id(1)),
            RecordKey::remains_of(id(1)),
        ];
        let delete = |key| Change::Delete { key };
        let changes = [Change::Create { key: remains, value: vec![] }, delete(name), delete(here)];
        records.apply(&changes, b"3").unwrap();
        records.persist().unwrap();
        drop(records);
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        sweep(&records);
        assert!(names(&records, 1, "", None).is_empty());
        assert_eq!(names(&records, 2, "", None), ["b"]);
        assert_eq!(records.applied().as_deref(), Some(&b"3"[..]));
    }

    #[test]
    fn what_was_not_written_out_is_gone_with_the_process_and_so_is_its_position() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        records.apply(&[enclave("e", 1), create(1, "a", 1)], b"1").unwrap();
        records.persist().unwrap();
        records.apply(&[create(1, "b", 1)], b"2").unwrap();
        assert_eq!(names(&records, 1, "", None), ["a", "b"]);
        drop(records);
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        assert_eq!(records.applied().as_deref(), Some(&b"1"[..]));
        assert_eq!(names(&records, 1, "", None), ["a"]);
    }

    #[test]
    fn a_copy_stays_what_it_was_while_tables_are_written_and_merged() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        records.apply(&[enclave("e", 1), create(1, "a", 1)], b"1").unwrap();
        let copy = records.copy();
        for n in 0..20 {
            let delete = Change::Delete { key: RecordKey::of_enclave(Kind::Key, id(1), "a") };
            records.apply(&[delete, create(1, "a", 2), create(1, &format!("b{n}"), 2)], b"2").unwrap();
            records.persist().unwrap();
        }
        let replaced = Records::open(other.path(), Limits::default()).unwrap();
        replaced.apply(&[enclave("old", 3), create(3, "old", 9)], b"0").unwrap();
        replaced.replace(&copy, b"1").unwrap();
        drop(replaced);
        let replaced = Records::open(other.path(), Limits::default()).unwrap();
        assert_eq!(names(&replaced, 1, "", None), ["a"]);
        assert!(names(&replaced, 3, "", None).is_empty());
        let key = RecordKey::of_enclave(Kind::Key, id(1), "a");
        assert_eq!(replaced.get(&key).unwrap(), Some(vec![1]));
        assert_eq!(records.get(&key).unwrap(), Some(vec![2]));
        assert_eq!(replaced.applied().as_deref(), Some(&b"1"[..]));
    }

    /// Flips a byte in the middle of the largest table.
    fn damage(path: &Path) {
        let tables = std::fs::read_dir(path.join("tables")).unwrap().map(|entry| entry.unwrap().path());
        let table = tables.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        let mut bytes = std::fs::read(&table).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(table, bytes).unwrap();
    }

    #[test]
    fn a_damaged_block_is_never_read_and_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        let name = |n: u32| format!("k{n:04}");
        let value = |n: u32| vec![n as u8; 200];
        let key = |n| RecordKey::of_enclave(Kind::Key, id(1), &name(n));
        records.apply(&[enclave("e", 1)], b"1").unwrap();
        let keys: Vec<_> = (0..1000).map(|n| Change::Create { key: key(n), value: value(n) }).collect();
        records.apply(&keys, b"2").unwrap();
        records.persist().unwrap();
        drop(records);
        damage(dir.path());
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        let mut unreadable = Vec::new();
        for n in 0..1000 {
            match records.get(&key(n)) {
                Ok(found) => assert_eq!(found, Some(value(n)), "{n}"),
                Err(StoreError::Unreadable { record, .. }) => {
                    assert!(record.contains(&name(n)), "{record}");
                    unreadable.push(n);
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!((1..50).contains(&unreadable.len()), "{unreadable:?}");
        // whoever decides alone refuses what it cannot decide and goes on; whoever must decide like others stops
        let again = |n| Change::Create { key: key(n), value: vec![0] };
        let batch = [again(unreadable[0]), create(1, "new", 1), again(0)];
        assert!(records.apply(&batch, b"3").is_err());
        let outcomes = records.apply_alone(&batch, b"3").unwrap();
        assert_eq!(outcomes, [Outcome::Unreadable, Outcome::Done, Outcome::Exists]);
        // and merging, which cannot work, ends nothing
        for n in 0..20 {
            records.apply_alone(&[create(1, &format!("later{n}"), 1)], b"4").unwrap();
            records.persist().unwrap();
        }
        assert_eq!(records.get(&key(0)).unwrap(), Some(value(0)));
    }

    #[test]
    fn what_was_sealed_for_a_deleted_enclave_never_gets_into_a_later_one_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path(), Limits::default()).unwrap();
        let delete = || Change::DeleteEnclave { name: "e".into(), id: id(1) };
        // all at once, and again with the enclave made anew in an earlier batch
        let changes =
            [enclave("e", 1), delete(), enclave("e", 2), create(1, "k", 1), delete(), create(2, "k", 2)];
        let outcomes = records.apply(&changes, b"1").unwrap();
        use Outcome::{Done, Missing, NoEnclave};
        assert_eq!(outcomes, [Done, Done, Done, NoEnclave, Missing, Done]);
        let outcomes = records.apply(&[create(1, "late", 1), delete()], b"2").unwrap();
        assert_eq!(outcomes, [NoEnclave, Missing]);
        assert_eq!(names(&records, 2, "", None), ["k"]);
        assert!(names(&records, 1, "", None).is_empty());
    }
}
