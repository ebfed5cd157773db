//! The records themselves, in an LSM tree, with the log position that they reflect.
//!
//! Changes go to a table in memory; `persist` writes it out, with the position, and syncs. So what is on the volume is
//! always the state at one position, and everything after it is in the Raft log, which is purged only up to there.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use lsm_tree::{AbstractTree, Guard as _, SeqNo, SequenceNumberCounter, Tree};

use super::{
    Change, EnclaveId, Kind, Outcome, RecordKey, StoreError,
    batch::Batch,
    tree::{self, Files, Step, check_room},
    upkeep::Upkeep,
};

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
/// Tables in memory that wait to be written, at most: what comes later stays in the one that takes changes.
const MAX_SEALED: usize = 3;
/// The record of the log position. No record of ours has this name: their first byte is a kind, from 1.
pub(super) const POSITION: &[u8] = b"\0applied";
/// The record of whose records these are.
const STAMP: &[u8] = b"\0stamp";

/// All records of this member. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    pub(super) shared: Arc<Shared>,
    /// Ends the upkeep with the last handle.
    pub(super) upkeep: Arc<Upkeep>,
}

pub(super) struct Shared {
    pub(super) tree: Tree,
    pub(super) files: Files,
    pub(super) seqno: SequenceNumberCounter,
    /// Readers of one moment see what is below this number.
    pub(super) visible: AtomicU64,
    /// Moments that somebody still reads, with how many do.
    moments: Mutex<BTreeMap<SeqNo, usize>>,
    writer: Mutex<Writer>,
    pub(super) limits: Limits,
    full: AtomicBool,
    /// Why the records could not be written when they were last, but for a full volume.
    trouble: Mutex<Option<Trouble>>,
    closing: AtomicBool,
    /// Stands in for a volume that cannot be read for a while.
    #[cfg(test)]
    pub(super) away: AtomicBool,
}

#[derive(Clone)]
struct Trouble {
    why: String,
    is_final: bool,
}

impl Trouble {
    fn of(error: &StoreError) -> Option<Self> {
        (!error.is_disk_full()).then(|| Self { why: error.to_string(), is_final: error.is_final() })
    }
}

/// What only whoever changes records touches.
#[derive(Default)]
pub(super) struct Writer {
    /// The log position of the records in memory.
    pub(super) position: Option<Vec<u8>>,
    /// Batches since the table was last written out.
    pub(super) batches: u64,
    /// Bytes of the table in memory that takes changes.
    pub(super) bytes: u64,
    /// Bytes of those that wait to be written.
    sealed: u64,
    /// How often all records were replaced.
    pub(super) replaced: u64,
}

impl Shared {
    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn moments(&self) -> MutexGuard<'_, BTreeMap<SeqNo, usize>> {
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

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the records could not be written when they were last.
    pub(super) fn is_failing(&self) -> bool {
        self.full.load(Ordering::Acquire) || self.trouble().is_some()
    }

    /// Writes what is in memory out and syncs it.
    pub(super) fn persist(&self) -> Result<(), StoreError> {
        let written = self.write_out();
        self.full.store(written.as_ref().is_err_and(StoreError::is_disk_full), Ordering::Release);
        *self.trouble() = written.as_ref().err().and_then(Trouble::of);
        written
    }

    fn write_out(&self) -> Result<(), StoreError> {
        loop {
            let is_all = self.seal()?;
            // also tables that an earlier attempt could not write
            let flush = || self.tree.flush(&self.tree.get_flush_lock(), self.oldest_moment()).map(drop);
            self.files.write(&self.tree, Step::Flush, flush)?;
            let mut writer = self.writer();
            if self.tree.sealed_memtable_count() == 0 {
                writer.sealed = 0;
            }
            if is_all {
                return Ok(());
            }
        }
    }

    /// Begins a new table in memory; the old one is about to be written. False when so many wait already that they have
    /// to be written first: while that fails, memory is bounded only as long as `is_behind` sees what there is.
    fn seal(&self) -> Result<bool, StoreError> {
        check_room(&self.tree, Step::Flush)?;
        let mut writer = self.writer();
        let Some(position) = writer.position.clone().filter(|_| writer.batches > 0) else { return Ok(true) };
        if self.tree.sealed_memtable_count() >= MAX_SEALED {
            return Ok(false);
        }
        // whatever is in the table, the position that belongs to it is in it too
        let _ = self.tree.insert(POSITION, position.as_slice(), self.seqno.next());
        self.tree.rotate_memtable();
        writer.sealed += writer.bytes;
        (writer.batches, writer.bytes) = (0, 0);
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
            writer: Mutex::new(Writer { position: position.map(|p| p.to_vec()), ..Writer::default() }),
            limits,
            full: AtomicBool::new(false),
            // known before the first change comes
            trouble: Mutex::new(check_room(&tree, Step::Flush).err().as_ref().and_then(Trouble::of)),
            closing: AtomicBool::new(false),
            #[cfg(test)]
            away: AtomicBool::new(false),
            files: Files::new(path, &tree),
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
    /// When the volume cannot be read, or the record is damaged: [`StoreError::is_passing`] tells which.
    pub fn get(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        #[cfg(test)]
        if self.shared.away.load(Ordering::Acquire) {
            let source = std::io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()).into();
            return Err(StoreError::Unreadable { record: key.to_string(), source });
        }
        match self.shared.tree.get(key.encode(), SeqNo::MAX) {
            Ok(value) => Ok(value.map(|value| value.to_vec())),
            Err(source) => Err(StoreError::Unreadable { record: key.to_string(), source }),
        }
    }

    /// Makes every read fail as on a volume that is away, or no more.
    #[cfg(test)]
    pub(crate) fn be_away(&self, away: bool) {
        self.shared.away.store(away, Ordering::Release);
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

    /// Calls `visit` with every record of `kind`, whosever it is, until it returns false.
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub fn visit_kind(
        &self,
        kind: Kind,
        mut visit: impl FnMut(RecordKey, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let (first, end) = RecordKey::range_of_kind(kind);
        self.visit_range(first, end, &mut visit)
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
        self.visit_range(first, end, &mut visit)
    }

    fn visit_range(
        &self,
        first: Vec<u8>,
        end: Vec<u8>,
        visit: &mut dyn FnMut(RecordKey, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.shared.away.load(Ordering::Acquire) {
            let source = std::io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()).into();
            return Err(StoreError::at("list")(source));
        }
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
        self.apply_with(changes, applied, Err)
    }

    /// As [`Self::apply`], for a member that decides for itself alone: a change whose record cannot be read is refused
    /// as [`Outcome::Unreadable`], and the others are applied.
    ///
    /// # Errors
    /// When the volume cannot be read now; then nothing was applied, and it may be tried again.
    pub fn apply_alone(&self, changes: &[Change], applied: &[u8]) -> Result<Vec<Outcome>, StoreError> {
        self.apply_with(changes, applied, |error| {
            // what is not damage must not become one of the decisions that are never made again
            if error.is_passing() {
                return Err(error);
            }
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
        let mut batch = Batch::new(&shared.tree);
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

    /// Whether what decides about `change` can be read, as the records are now.
    ///
    /// # Errors
    /// When it cannot; [`StoreError::is_passing`] tells whether it may be later.
    pub fn can_decide(&self, change: &Change) -> Result<(), StoreError> {
        change.decide(&mut Batch::new(&self.shared.tree)).map(drop)
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

    /// Whether memory holds several times what it should, because the volume does not keep up. Not when it never will:
    /// then no new change comes, and what is in the log has to be applied.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        let writer = self.shared.writer();
        let bytes = writer.bytes + writer.sealed;
        drop(writer);
        let is_final = self.shared.trouble().as_ref().is_some_and(|trouble| trouble.is_final);
        bytes >= 4 * self.shared.limits.table && !is_final
    }

    /// Why the records could not be written when they were last, but for a full volume: no change may be added to those
    /// that wait in memory and in the log.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble().as_ref().map(|trouble| trouble.why.clone())
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

    /// Does at once what the upkeep does when it gets to it.
    #[cfg(test)]
    pub(super) fn sweep(&self, limit: usize) -> Result<bool, StoreError> {
        self.shared.sweep(limit)
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

    /// Ends what goes on in the background. Blocks until it has. From then on no file changes but by `persist`.
    pub fn end_upkeep(&self) {
        self.upkeep.end();
    }

    /// Whether [`Self::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closing()
    }
}
