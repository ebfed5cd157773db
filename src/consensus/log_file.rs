//! The file of the log: opened only after it was checked from end to end, and how a volume is looked at that tests can
//! cut the power of.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use rustix::fs::{Advice, fadvise};

use super::{
    checked,
    error::LogError,
    types::{Entry, LogId, Vote},
};

pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const VOTE: &str = "vote";
pub(super) const PURGED: &str = "purged";
pub(super) const STAMP: &str = "stamp";

/// redb's page cache in bytes; recent entries are served from memory of our own.
const CACHE: usize = 8 << 20;
/// Where the log is kept.
pub(super) trait Medium: Send + Sync {
    /// What to call it in an error.
    fn path(&self) -> &Path;

    /// Makes sure that what is read from now on is read from the disk. After a sync that failed Linux shows what was to be
    /// synced as if it had been, to every process, until it needs the memory.
    fn forget_cached(&self) -> io::Result<()>;

    /// Opens what is there.
    fn open(&self, builder: &mut redb::Builder) -> Result<Database, redb::DatabaseError>;
}

/// A file.
pub(super) struct File(pub(super) PathBuf);

impl Medium for File {
    fn path(&self) -> &Path {
        &self.0
    }

    fn forget_cached(&self) -> io::Result<()> {
        let file = fs::File::open(&self.0)?;
        Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
    }

    fn open(&self, builder: &mut redb::Builder) -> Result<Database, redb::DatabaseError> {
        builder.open(&self.0)
    }
}

/// What a log says of itself.
#[derive(Default)]
pub(super) struct Found {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
}

/// Opens the log on `medium`, after its pages were checked.
pub(super) fn open(medium: &dyn Medium) -> Result<Database, redb::Error> {
    medium.forget_cached()?;
    let db = medium.open(Database::builder().set_cache_size(CACHE).set_check_integrity_on_open(true))?;
    make_tables(&db)?;
    Ok(db)
}

/// Makes an empty log in the file `path`.
pub(super) fn create(path: &Path) -> Result<(), LogError> {
    let failed = |source: redb::Error| LogError::Open { path: path.into(), source };
    let db = Database::builder().create(path).map_err(|e| failed(e.into()))?;
    make_tables(&db).map_err(failed)
}

pub(super) fn make_tables(db: &Database) -> Result<(), redb::Error> {
    let write = db.begin_write()?;
    write.open_table(LOG)?;
    write.open_table(META)?;
    Ok(write.commit()?)
}

/// Reads every entry, which a start would do anyway, and tells what the log holds.
pub(super) fn inspect(db: &Database, path: &Path, applied: Option<LogId>) -> Result<Found, LogError> {
    let read = |error: redb::Error| LogError::of(path, error);
    let damaged = |what: &str, why: String| LogError::damaged(path, format!("{what}: {why}"));
    let mut found = Found::default();
    let transaction = db.begin_read().map_err(|e| read(e.into()))?;
    let meta = transaction.open_table(META).map_err(|e| read(e.into()))?;
    if let Some(vote) = meta.get(VOTE).map_err(|e| read(e.into()))? {
        let vote = checked::open(VOTE.as_bytes(), vote.value()).map_err(|e| damaged("the vote", e))?;
        found.vote = Some(vote);
    }
    if let Some(purged) = meta.get(PURGED).map_err(|e| read(e.into()))? {
        let purged = checked::open(PURGED.as_bytes(), purged.value());
        found.purged = Some(purged.map_err(|e| damaged("the purged position", e))?);
    }
    let after = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
    // whether the records are older than that is for `whole` to say
    let (mut next, needed) = (after(found.purged), after(applied));
    found.last = found.purged;
    // entries that the records reflect already are only kept for members that lag behind
    let mut dispensable = None;
    for item in transaction.open_table(LOG).map_err(|e| read(e.into()))?.iter().map_err(|e| read(e.into()))? {
        let (index, value) = item.map_err(|e| read(e.into()))?;
        let index = index.value();
        if index != next {
            let why = format!("entry {next} should be there");
            if next >= needed || index > needed {
                return Err(damaged(&format!("entry {index}"), why));
            }
            dispensable = Some(why);
        }
        let entry = match checked::open::<Entry>(&index.to_le_bytes(), value.value()) {
            Ok(entry) if entry.log_id.index == index => Ok(entry.log_id),
            Ok(entry) => Err(format!("it says that it is entry {}", entry.log_id.index)),
            Err(why) => Err(why),
        };
        match entry {
            Ok(id) => found.last = Some(id),
            Err(why) if index < needed => dispensable = Some(why),
            Err(why) => return Err(damaged(&format!("entry {index}"), why)),
        }
        next = index + 1;
    }
    if let (Some(why), Some(id)) = (dispensable, applied) {
        tracing::warn!(why, "the log is damaged where nothing is missing: the records hold what stood there");
        drop(transaction);
        drop_until(db, id).map_err(read)?;
        (found.purged, found.last) = (applied, found.last.max(applied));
    }
    Ok(found)
}

/// Forgets everything up to `id`.
fn drop_until(db: &Database, id: LogId) -> Result<(), redb::Error> {
    let bytes = checked::seal(PURGED.as_bytes(), &id).map_err(|e| redb::Error::Corrupted(e.to_string()))?;
    let write = db.begin_write()?;
    write.open_table(LOG)?.retain_in(..=id.index, |_, _| false)?;
    write.open_table(META)?.insert(PURGED, bytes.as_slice())?;
    Ok(write.commit()?)
}
