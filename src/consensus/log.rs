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
    path::{Path, PathBuf},
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
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use super::{
    checked,
    error::LogError,
    types::{Entry, LogId, TypeConfig, Vote},
    whole::Halves,
};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const STAMP: &str = "stamp";

/// redb's page cache in bytes; recent entries are served from memory of our own.
const CACHE: usize = 8 << 20;
/// Most bytes that one replication request carries.
const READ_LIMIT: usize = 1 << 20;
/// How long to wait before a full volume is tried again.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// Whether the volume is full; shared with whoever accepts changes.
#[derive(Debug, Default)]
pub(super) struct Disk {
    full: AtomicBool,
}

impl Disk {
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub(super) struct Log {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Job>,
}

struct Shared {
    path: PathBuf,
    /// Absent only while it is being reopened after an I/O error, and after close.
    db: RwLock<Option<Database>>,
    memory: Mutex<Memory>,
    disk: Arc<Disk>,
}

/// What must be readable before it is on disk, and what is asked for often.
#[derive(Default)]
struct Memory {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    unsynced: BTreeMap<u64, Entry>,
}

enum Job {
    Append { entries: Vec<(u64, Vec<u8>)>, done: IOFlushed<TypeConfig> },
    Vote { vote: Vec<u8>, done: oneshot::Sender<()> },
    Truncate { from: u64, done: oneshot::Sender<()> },
    Purge { upto: u64, id: Vec<u8>, done: oneshot::Sender<()> },
    Close { done: mpsc::Sender<()> },
}

impl Log {
    /// Makes an empty log.
    pub(super) fn create(path: &Path) -> Result<(), LogError> {
        let failed = |source: redb::Error| LogError::Open { path: path.into(), source };
        let db = Database::builder().create(path).map_err(|e| failed(e.into()))?;
        make_tables(&db).map_err(failed)
    }

    /// Opens the log of a member whose records reflect everything up to `applied`, and makes sure that everything after
    /// that is there and is what was written.
    pub(super) fn open(path: &Path, applied: Option<LogId>) -> Result<Self, LogError> {
        // the library may panic on a damaged file; whoever starts a server deserves a sentence instead
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let db = open_database(path).map_err(|source| LogError::of(path, source))?;
            let memory = inspect(&db, path, applied)?;
            Ok((db, memory))
        }));
        let (db, memory) =
            opened.unwrap_or_else(|_| Err(LogError::damaged(path, "its pages make no sense")))?;
        let shared = Arc::new(Shared {
            path: path.into(),
            db: RwLock::new(Some(db)),
            memory: Mutex::new(memory),
            disk: Arc::default(),
        });
        let (queue, jobs) = mpsc::channel();
        let writer = Writer { shared: Arc::clone(&shared) };
        std::thread::Builder::new()
            .name("kes-log".into())
            .spawn(move || writer.run(&jobs))
            .map_err(|e| LogError::of(path, redb::Error::Io(e)))?;
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

    pub(super) fn disk(&self) -> Arc<Disk> {
        Arc::clone(&self.shared.disk)
    }

    /// Waits for what is queued and closes the file.
    pub(super) fn close(&self) {
        let (done, closed) = mpsc::channel();
        if self.queue.send(Job::Close { done }).is_ok() {
            let _ = closed.recv();
        }
    }

    async fn run(&self, job: impl FnOnce(oneshot::Sender<()>) -> Job) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        self.queue.send(job(done)).map_err(|_| closed())?;
        finished.await.map_err(|_| closed())
    }
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_disk(&self, from: u64, to: u64, limit: usize) -> io::Result<Vec<Entry>> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or_else(closed)?;
        let read = db.begin_read().map_err(io::Error::other)?;
        let table = read.open_table(LOG).map_err(io::Error::other)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for item in table.range(from..to).map_err(io::Error::other)? {
            let (index, value) = item.map_err(io::Error::other)?;
            bytes += value.value().len();
            if bytes > limit && !entries.is_empty() {
                break;
            }
            let entry =
                checked::open(&index.value().to_le_bytes(), value.value()).map_err(io::Error::other)?;
            entries.push(entry);
        }
        Ok(entries)
    }

    fn read(&self, from: u64, to: u64, limit: usize) -> io::Result<Vec<Entry>> {
        if from >= to {
            return Ok(Vec::new());
        }
        // memory first: what is dropped from there between the two looks is on disk already
        let recent: BTreeMap<u64, Entry> =
            self.memory().unsynced.range(from..to).map(|(&i, e)| (i, e.clone())).collect();
        let split = recent.keys().next().copied().unwrap_or(to);
        let mut entries = if from < split { self.read_disk(from, split, limit)? } else { Vec::new() };
        if entries.last().map_or(from, |e| e.log_id.index + 1) == split {
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
            self.commit_when_possible(&batch);
            for job in batch {
                match job {
                    Job::Append { entries, done } => {
                        let mut memory = self.shared.memory();
                        for (index, _) in &entries {
                            memory.unsynced.remove(index);
                        }
                        drop(memory);
                        done.io_completed(Ok(()));
                    }
                    Job::Vote { done, .. } | Job::Truncate { done, .. } | Job::Purge { done, .. } => {
                        let _ = done.send(());
                    }
                    Job::Close { done } => {
                        *self.shared.db.write().unwrap_or_else(PoisonError::into_inner) = None;
                        let _ = done.send(());
                        return;
                    }
                }
            }
        }
    }

    /// Commits `batch`. A volume that is full or sick is tried again until it works: nothing that waits here was
    /// acknowledged, and giving up would end the data plane too.
    fn commit_when_possible(&self, batch: &[Job]) {
        let mut warned = false;
        while let Err(error) = self.try_commit(batch) {
            let full = is_disk_full(&error);
            if !warned {
                tracing::error!(%error, full, "the log cannot be written: changes wait, reads go on");
                warned = true;
            }
            self.shared.disk.full.store(true, Ordering::Relaxed);
            std::thread::sleep(FULL_RETRY);
            self.reopen();
        }
        if warned {
            tracing::info!("the log can be written again");
        }
        self.shared.disk.full.store(false, Ordering::Relaxed);
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
                        for (index, entry) in entries {
                            log.insert(index, entry.as_slice())?;
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
        match open_database(&self.shared.path) {
            Ok(opened) => *db = Some(opened),
            Err(error) => tracing::debug!(%error, "the log cannot be reopened yet"),
        }
    }
}

fn open_database(path: &Path) -> Result<Database, redb::Error> {
    let db = Database::builder().set_cache_size(CACHE).set_check_integrity_on_open(true).open(path)?;
    make_tables(&db)?;
    Ok(db)
}

fn make_tables(db: &Database) -> Result<(), redb::Error> {
    let write = db.begin_write()?;
    write.open_table(LOG)?;
    write.open_table(META)?;
    Ok(write.commit()?)
}

/// Reads every entry, which a start would do anyway, and tells what the log holds.
fn inspect(db: &Database, path: &Path, applied: Option<LogId>) -> Result<Memory, LogError> {
    let read = |error: redb::Error| LogError::of(path, error);
    let damaged = |what: &str, why: String| LogError::damaged(path, format!("{what}: {why}"));
    let mut memory = Memory::default();
    let transaction = db.begin_read().map_err(|e| read(e.into()))?;
    let meta = transaction.open_table(META).map_err(|e| read(e.into()))?;
    if let Some(vote) = meta.get(VOTE).map_err(|e| read(e.into()))? {
        let vote = checked::open(VOTE.as_bytes(), vote.value()).map_err(|e| damaged("the vote", e))?;
        memory.vote = Some(vote);
    }
    if let Some(purged) = meta.get(PURGED).map_err(|e| read(e.into()))? {
        let purged = checked::open(PURGED.as_bytes(), purged.value());
        memory.purged = Some(purged.map_err(|e| damaged("the purged position", e))?);
    }
    let after = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
    // whether the records are older than that is for `whole` to say
    let (mut next, needed) = (after(memory.purged), after(applied));
    memory.last = memory.purged;
    // entries that the records reflect already are only kept for members that lag behind
    let mut dispensable = None;
    for item in transaction.open_table(LOG).map_err(|e| read(e.into()))?.iter().map_err(|e| read(e.into()))? {
        let (index, value) = item.map_err(|e| read(e.into()))?;
        let index = index.value();
        let found = match checked::open::<Entry>(&index.to_le_bytes(), value.value()) {
            _ if index != next => Err(format!("entry {next} should be there")),
            Ok(entry) if entry.log_id.index == index => Ok(entry.log_id),
            Ok(entry) => Err(format!("it says that it is entry {}", entry.log_id.index)),
            Err(why) => Err(why),
        };
        match found {
            Ok(id) => memory.last = Some(id),
            Err(why) if next < needed && index <= needed => dispensable = Some(why),
            Err(why) => return Err(damaged(&format!("entry {index}"), why)),
        }
        next = index + 1;
    }
    if let (Some(why), Some(id)) = (dispensable, applied) {
        tracing::warn!(why, "the log is damaged where nothing is missing: the records hold what stood there");
        drop(transaction);
        drop_until(db, id).map_err(read)?;
        (memory.purged, memory.last) = (applied, memory.last.max(applied));
    }
    Ok(memory)
}

/// Forgets everything up to `id`.
fn drop_until(db: &Database, id: LogId) -> Result<(), redb::Error> {
    let bytes = checked::seal(PURGED.as_bytes(), &id).map_err(|e| redb::Error::Corrupted(e.to_string()))?;
    let write = db.begin_write()?;
    write.open_table(LOG)?.retain_in(..=id.index, |_, _| false)?;
    write.open_table(META)?.insert(PURGED, bytes.as_slice())?;
    Ok(write.commit()?)
}

fn is_disk_full(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(e) if e.kind() == io::ErrorKind::StorageFull)
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
        self.shared.read(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.shared.read(start, end, READ_LIMIT)
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
            let index = entry.log_id.index;
            encoded.push((index, checked::seal(&index.to_le_bytes(), &entry).map_err(io::Error::other)?));
            memory.last = Some(entry.log_id);
            memory.unsynced.insert(entry.log_id.index, entry);
        }
        drop(memory);
        self.queue.send(Job::Append { entries: encoded, done: callback }).map_err(|_| closed())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index + 1);
        {
            let mut memory = self.shared.memory();
            memory.last = memory.last.min(last);
            memory.unsynced.split_off(&from);
        }
        self.run(|done| Job::Truncate { from, done }).await
    }

    async fn purge(&mut self, id: LogId) -> io::Result<()> {
        let bytes = checked::seal(PURGED.as_bytes(), &id).map_err(io::Error::other)?;
        {
            let mut memory = self.shared.memory();
            memory.purged = Some(id);
            if memory.last < Some(id) {
                memory.last = Some(id);
            }
        }
        self.run(|done| Job::Purge { upto: id.index, id: bytes, done }).await
    }
}
