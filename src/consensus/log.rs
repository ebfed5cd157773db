//! The Raft log on disk, in redb: one writer thread, one commit for everything that is queued.
//!
//! ```text
//! table "log"   index u64 -> seal ‖ MessagePack of the entry: [log id, payload]
//! table "meta"  "vote" -> seal ‖ MessagePack of the vote; "purged" -> seal ‖ MessagePack of the last purged log id;
//!               "stamp" -> seal ‖ MessagePack of whose log it is
//! seal          XXH3 of key and MessagePack, 8 bytes (`checked`): a damaged entry is never applied
//! ```
//! `append` makes entries readable at once, from memory, and returns. The writer takes everything queued, commits
//! it in one transaction, and only then tells openraft that it is on disk. Votes, truncations and purges go through
//! the same queue, so their order on disk is the order of the calls.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use redb::{Database, ReadableDatabase};
use tokio::sync::{oneshot, watch};

use super::{
    checked,
    error::LogError,
    log_file::{self, Found, LOG, META, Medium, PURGED, STAMP, VOTE},
    recent::Recent,
    types::{Entry, LogId, TypeConfig, Vote},
    whole::Halves,
};

/// Most bytes that one replication request carries.
const READ_LIMIT: usize = 1 << 20;
/// How often a failed read is tried again before it is believed, and the pause before that.
const READ_ATTEMPTS: u32 = 3;
const READ_RETRY: Duration = Duration::from_millis(50);
/// How long to wait before a full volume is tried again.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// Whether the log can be written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Health {
    #[default]
    Well,
    /// No space is left.
    Full,
    /// It fails for another reason.
    Sick,
}

/// How the volume is; shared with whoever accepts changes.
#[derive(Debug, Default)]
pub(super) struct Disk {
    health: watch::Sender<Health>,
}

impl Disk {
    pub(super) fn health(&self) -> Health {
        *self.health.borrow()
    }

    /// Ends when the log cannot be written.
    pub(super) async fn until_ill(&self) -> Health {
        // the sender lives as long as `self`
        self.health.subscribe().wait_for(|health| *health != Health::Well).await.map_or(Health::Sick, |h| *h)
    }

    fn set(&self, health: Health) {
        self.health.send_if_modified(|old| std::mem::replace(old, health) != health);
    }
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub(super) struct Log {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Job>,
}

struct Shared {
    medium: Arc<dyn Medium>,
    path: PathBuf,
    /// Absent only while it is being reopened after an I/O error, and after close.
    db: RwLock<Option<Database>>,
    memory: Mutex<Memory>,
    disk: Arc<Disk>,
    closing: AtomicBool,
}

/// What must be readable before it is on disk, and what is asked for often.
#[derive(Default)]
struct Memory {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    recent: Recent,
}

enum Job {
    Append { entries: Vec<(LogId, Vec<u8>)>, done: IOFlushed<TypeConfig> },
    Vote { vote: Vec<u8>, done: oneshot::Sender<()> },
    Truncate { from: u64, done: oneshot::Sender<()> },
    Purge { upto: u64, id: Vec<u8>, done: oneshot::Sender<()> },
    Close { done: mpsc::Sender<()> },
}

impl Log {
    /// Opens the log of a member whose records reflect everything up to `applied`, and makes sure that everything after
    /// that is there and is what was written.
    pub(super) fn open(medium: Arc<dyn Medium>, applied: Option<LogId>) -> Result<Self, LogError> {
        let path = medium.path();
        // the library may panic on a damaged file; whoever starts a server deserves a sentence instead
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let db = log_file::open(&*medium).map_err(|source| LogError::of(path, source))?;
            let found = log_file::inspect(&db, path, applied)?;
            Ok((db, found))
        }));
        let (db, Found { vote, purged, last }) =
            opened.unwrap_or_else(|_| Err(LogError::damaged(path, "its pages make no sense")))?;
        let path = path.to_owned();
        let shared = Arc::new(Shared {
            medium,
            path: path.clone(),
            db: RwLock::new(Some(db)),
            memory: Mutex::new(Memory { vote, purged, last, ..Memory::default() }),
            disk: Arc::default(),
            closing: AtomicBool::new(false),
        });
        let (queue, jobs) = mpsc::channel();
        let writer = Writer { shared: Arc::clone(&shared) };
        std::thread::Builder::new()
            .name("kes-log".into())
            .spawn(move || writer.run(&jobs))
            .map_err(|e| LogError::of(&path, redb::Error::Io(e)))?;
        Ok(Self { shared, queue })
    }

    /// Whose log it is; nothing before [`Self::set_stamp`].
    pub(super) fn stamp(&self) -> Result<Option<String>, LogError> {
        let path = &self.shared.path;
        let db = self.shared.db.read().unwrap_or_else(PoisonError::into_inner);
        let Some(db) = db.as_ref() else { return Ok(None) };
        let read = || {
            let meta = db.begin_read()?.open_table(META)?;
            Ok(meta.get(STAMP)?.map(|stamp| checked::open(STAMP.as_bytes(), stamp.value())))
        };
        let stamp = read().map_err(|error| LogError::of(path, error))?;
        stamp.transpose().map_err(|why| LogError::damaged(path, format!("the stamp: {why}")))
    }

    /// Writes whose log it is. Only before the first entry is on its way.
    pub(super) fn set_stamp(&self, stamp: &str) -> Result<(), LogError> {
        let path = &self.shared.path;
        let bytes =
            checked::seal(STAMP.as_bytes(), &stamp).map_err(|e| LogError::damaged(path, e.to_string()))?;
        let db = self.shared.db.read().unwrap_or_else(PoisonError::into_inner);
        let Some(db) = db.as_ref() else { return Ok(()) };
        let write = || {
            let write = db.begin_write()?;
            write.open_table(META)?.insert(STAMP, bytes.as_slice())?;
            Ok(write.commit()?)
        };
        write().map_err(|error: redb::Error| LogError::of(path, error))
    }

    /// From where to where it reaches.
    pub(super) fn reach(&self) -> Halves {
        let memory = self.shared.memory();
        let index = |id: &LogId| id.index;
        Halves {
            has_voted: memory.vote.is_some(),
            purged: memory.purged.as_ref().map(index),
            last: memory.last.as_ref().map(index),
            ..Halves::default()
        }
    }

    /// Up to where it need not reach back once the records have it, where its entries are so large that the number of
    /// them that is kept otherwise would fill the volume.
    pub(super) fn dispensable(&self) -> Option<u64> {
        self.shared.memory().recent.before_large()
    }

    pub(super) fn disk(&self) -> Arc<Disk> {
        Arc::clone(&self.shared.disk)
    }

    /// From now on a volume that is full or sick is not tried again: the member is about to stop, and what waits was
    /// not acknowledged.
    pub(super) fn give_up_waiting(&self) {
        self.shared.closing.store(true, Ordering::Release);
    }

    /// Waits for what is queued and closes the file.
    pub(super) fn close(&self) {
        self.give_up_waiting();
        let (done, closed) = mpsc::channel();
        if self.queue.send(Job::Close { done }).is_ok() {
            let _ = closed.recv();
        }
    }

    /// Reads entries; waits while the file is being reopened because the volume is full or sick: a failure here would end
    /// the member.
    async fn read(&self, from: u64, to: u64, limit: usize) -> io::Result<Vec<Entry>> {
        let mut attempts = 0;
        loop {
            match self.shared.read(from, to, limit) {
                Err(_) if attempts < READ_ATTEMPTS || self.shared.is_waiting() => {
                    attempts += 1;
                    tokio::time::sleep(READ_RETRY).await;
                }
                result => return result,
            }
        }
    }

    async fn run(&self, job: impl FnOnce(oneshot::Sender<()>) -> Job) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        self.queue.send(job(done)).map_err(|_| closed())?;
        finished.await.map_err(|_| closed())
    }
}

impl Shared {
    /// Whether the volume is being tried again and again.
    fn is_waiting(&self) -> bool {
        self.disk.health() != Health::Well && !self.closing.load(Ordering::Acquire)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries from the file, and whether these are all.
    fn read_disk(&self, from: u64, to: u64, limit: usize) -> io::Result<(Vec<Entry>, bool)> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or_else(closed)?;
        let read = db.begin_read().map_err(io::Error::other)?;
        let table = read.open_table(LOG).map_err(io::Error::other)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for item in table.range(from..to).map_err(io::Error::other)? {
            let (index, value) = item.map_err(io::Error::other)?;
            bytes += value.value().len();
            if bytes > limit && !entries.is_empty() {
                return Ok((entries, false));
            }
            let entry =
                checked::open(&index.value().to_le_bytes(), value.value()).map_err(io::Error::other)?;
            entries.push(entry);
        }
        Ok((entries, true))
    }

    fn read(&self, from: u64, to: u64, limit: usize) -> io::Result<Vec<Entry>> {
        if from >= to {
            return Ok(Vec::new());
        }
        // memory first: what is dropped from there between the two looks is on disk already
        let recent: BTreeMap<u64, Entry> = self.memory().recent.range(from, to);
        let split = recent.keys().next().copied().unwrap_or(to);
        let (mut entries, is_all) =
            if from < split { self.read_disk(from, split, limit)? } else { (Vec::new(), true) };
        if is_all {
            entries.extend(recent.into_values());
        }
        Ok(entries)
    }
}

struct Writer {
    shared: Arc<Shared>,
}

impl Writer {
    fn run(&self, jobs: &mpsc::Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut batch = vec![first];
            batch.extend(jobs.try_iter());
            let is_done = self.commit_when_possible(&batch);
            for job in batch {
                match job {
                    Job::Close { done } => {
                        *self.shared.db.write().unwrap_or_else(PoisonError::into_inner) = None;
                        let _ = done.send(());
                        return;
                    }
                    // whoever waits for it hears that the log is closed
                    _ if !is_done => {}
                    Job::Append { entries, done } => {
                        let mut memory = self.shared.memory();
                        for (id, _) in &entries {
                            memory.recent.synced(*id);
                        }
                        drop(memory);
                        done.io_completed(Ok(()));
                    }
                    Job::Vote { done, .. } | Job::Truncate { done, .. } | Job::Purge { done, .. } => {
                        let _ = done.send(());
                    }
                }
            }
        }
    }

    /// Commits `batch`. A volume that is full or sick is tried again until it works: nothing that waits here was
    /// acknowledged, and giving up would end the data plane too. False when the member stops before it works.
    fn commit_when_possible(&self, batch: &[Job]) -> bool {
        let mut warned = false;
        while let Err(error) = self.try_commit(batch) {
            let full = is_disk_full(&error);
            if !warned {
                tracing::error!(%error, full, "the log cannot be written: changes wait, reads go on");
                warned = true;
            }
            self.shared.disk.set(if full { Health::Full } else { Health::Sick });
            if self.shared.closing.load(Ordering::Acquire) {
                return false;
            }
            std::thread::sleep(FULL_RETRY);
            self.reopen();
        }
        if warned {
            tracing::info!("the log can be written again");
        }
        self.shared.disk.set(Health::Well);
        true
    }

    /// A panic of the library is one more way in which a volume is sick.
    fn try_commit(&self, batch: &[Job]) -> Result<(), redb::Error> {
        let panicked = |_| Err(redb::Error::Corrupted("its pages make no sense".into()));
        catch_unwind(AssertUnwindSafe(|| self.commit(batch))).unwrap_or_else(panicked)
    }

    fn commit(&self, batch: &[Job]) -> Result<(), redb::Error> {
        let db = self.shared.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or(redb::Error::PreviousIo)?;
        let write = db.begin_write()?;
        {
            let mut log = write.open_table(LOG)?;
            let mut meta = write.open_table(META)?;
            for job in batch {
                match job {
                    Job::Append { entries, .. } => {
                        for (id, entry) in entries {
                            log.insert(id.index, entry.as_slice())?;
                        }
                    }
                    Job::Vote { vote, .. } => drop(meta.insert(VOTE, vote.as_slice())?),
                    Job::Truncate { from, .. } => log.retain_in(*from.., |_, _| false)?,
                    Job::Purge { upto, id, .. } => {
                        log.retain_in(..=*upto, |_, _| false)?;
                        meta.insert(PURGED, id.as_slice())?;
                    }
                    Job::Close { .. } => {}
                }
            }
        }
        write.commit()?;
        Ok(())
    }

    /// redb refuses everything after an I/O error until it is opened anew.
    fn reopen(&self) {
        let mut db = self.shared.db.write().unwrap_or_else(PoisonError::into_inner);
        *db = None;
        match log_file::open(&*self.shared.medium) {
            Ok(opened) => *db = Some(opened),
            Err(error) => tracing::debug!(%error, "the log cannot be reopened yet"),
        }
    }
}

fn is_disk_full(error: &redb::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, redb::Error::Io(e) if matches!(e.kind(), StorageFull | QuotaExceeded))
}

fn closed() -> io::Error {
    io::Error::other("the log is closed")
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(&i) => i,
        Bound::Excluded(&i) => i + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(&i) => i + 1,
        Bound::Excluded(&i) => i,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        let (from, to) = bounds(&range);
        self.read(from, to, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_LIMIT).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.memory().vote)
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let memory = self.shared.memory();
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: memory.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let bytes = checked::seal(VOTE.as_bytes(), vote).map_err(io::Error::other)?;
        self.run(|done| Job::Vote { vote: bytes, done }).await?;
        self.shared.memory().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut encoded = Vec::new();
        let mut memory = self.shared.memory();
        for entry in entries {
            let id = entry.log_id;
            let bytes = checked::seal(&id.index.to_le_bytes(), &entry).map_err(io::Error::other)?;
            memory.last = Some(id);
            memory.recent.insert(entry, bytes.len());
            encoded.push((id, bytes));
        }
        drop(memory);
        self.queue.send(Job::Append { entries: encoded, done: callback }).map_err(|_| closed())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index + 1);
        {
            let mut memory = self.shared.memory();
            memory.last = memory.last.min(last);
            memory.recent.truncate(from);
        }
        self.run(|done| Job::Truncate { from, done }).await
    }

    async fn purge(&mut self, id: LogId) -> io::Result<()> {
        let bytes = checked::seal(PURGED.as_bytes(), &id).map_err(io::Error::other)?;
        {
            let mut memory = self.shared.memory();
            memory.purged = Some(id);
            memory.recent.purge(id.index);
            if memory.last < Some(id) {
                memory.last = Some(id);
            }
        }
        self.run(|done| Job::Purge { upto: id.index, id: bytes, done }).await
    }
}
