//! The records themselves, in an LSM tree (fjall), with the log position that they reflect.

use std::{collections::HashMap, path::Path};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::{Change, EnclaveId, Kind, Outcome, RecordKey, change::Present};

/// Memory for cached blocks, in bytes.
const CACHE: u64 = 64 << 20;
/// Size at which the newest records are written out as a table, in bytes.
const MEMTABLE: u64 = 16 << 20;
const APPLIED: &[u8] = b"applied";
const STAMP: &[u8] = b"stamp";

/// Why the records could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The engine could not do what was asked.
    #[error("failed to {step} the records: {source}")]
    Engine {
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: fjall::Error,
    },
    /// The note of the log position is not readable.
    #[error("failed to read the log position of the records: {0}")]
    Damaged(String),
}

impl StoreError {
    fn at(step: &'static str) -> impl FnOnce(fjall::Error) -> Self {
        move |source| Self::Engine { step, source }
    }

    /// The note of the log position is not readable, because of `why`.
    pub fn damaged(why: impl std::fmt::Display) -> Self {
        Self::Damaged(why.to_string())
    }

    /// Whether the volume is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Engine { source: fjall::Error::Io(e), .. } if e.kind() == std::io::ErrorKind::StorageFull)
    }
}

/// All records of this member. Cheap to clone; reads need no lock of ours.
#[derive(Clone)]
pub struct Records {
    db: Database,
    records: Keyspace,
    meta: Keyspace,
}

impl Records {
    /// Opens the records in `path`, creating the folder if it does not exist. Does not scan.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or holds something else.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
        let db = Database::builder(path)
            .cache_size(CACHE)
            .worker_threads(1)
            .open()
            .map_err(StoreError::at("open"))?;
        let records = db.keyspace("records", options).map_err(StoreError::at("open"))?;
        let meta =
            db.keyspace("meta", || options().max_memtable_size(1 << 20)).map_err(StoreError::at("open"))?;
        Ok(Self { db, records, meta })
    }

    /// The value of one record.
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub fn get(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.records.get(key.encode()).map_err(StoreError::at("read"))?.map(|value| value.to_vec()))
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
        for entry in self.db.snapshot().range(&self.records, first..end) {
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
    /// Not synced: the log is, and it is replayed from the position that is found at open.
    ///
    /// # Errors
    /// When the volume cannot be read or written; then nothing was applied.
    pub fn apply(&self, changes: &[Change], applied: &[u8]) -> Result<Vec<Outcome>, StoreError> {
        let mut overlay = Overlay { records: &self.records, written: HashMap::new(), names: HashMap::new() };
        let mut batch = self.db.batch();
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            let outcome = change.decide(&overlay)?;
            if outcome == Outcome::Done {
                match change {
                    Change::Create { key, value } | Change::Put { key, value } => {
                        batch.insert(&self.records, key.encode(), value.as_slice());
                        overlay.written.insert(key.encode(), true);
                    }
                    Change::Delete { key } => {
                        batch.remove(&self.records, key.encode());
                        overlay.written.insert(key.encode(), false);
                    }
                    Change::CreateEnclave { name, id, value } => {
                        let id = RecordKey::of_id(*id).encode();
                        batch.insert(&self.records, change.key().encode(), value.as_slice());
                        batch.insert(&self.records, id.as_slice(), name.as_bytes());
                        overlay.written.insert(change.key().encode(), true);
                        overlay.written.insert(id.clone(), true);
                        overlay.names.insert(id, name.clone());
                    }
                    Change::DeleteEnclave { name, id } => {
                        for key in overlay.all_of(name, *id)? {
                            batch.remove(&self.records, key.as_slice());
                            overlay.written.insert(key, false);
                        }
                    }
                }
            }
            outcomes.push(outcome);
        }
        batch.insert(&self.meta, APPLIED, applied);
        batch.commit().map_err(StoreError::at("write"))?;
        Ok(outcomes)
    }

    /// The log position that the records reflect, as `apply` was given it.
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub fn applied(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.meta.get(APPLIED).map_err(StoreError::at("read"))?.map(|value| value.to_vec()))
    }

    /// Whose records these are; nothing before [`Self::set_stamp`].
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub fn stamp(&self) -> Result<Option<String>, StoreError> {
        let stamp = self.meta.get(STAMP).map_err(StoreError::at("read"))?;
        Ok(stamp.map(|stamp| String::from_utf8_lossy(&stamp).into_owned()))
    }

    /// Notes whose records these are. A power cut may lose it; it is noted again at the next start.
    ///
    /// # Errors
    /// When the volume cannot be written.
    pub fn set_stamp(&self, stamp: &str) -> Result<(), StoreError> {
        self.meta.insert(STAMP, stamp).map_err(StoreError::at("write"))
    }

    /// Makes everything applied so far survive a power cut. The log may be purged up to there afterwards.
    ///
    /// # Errors
    /// When the volume cannot be written.
    pub fn persist(&self) -> Result<(), StoreError> {
        self.db.persist(PersistMode::SyncAll).map_err(StoreError::at("sync"))
    }
}

/// All records as they were at one moment. Costs nothing to take; keeps old versions on disk while it lives.
#[derive(Clone)]
pub struct Copy {
    at: fjall::Snapshot,
    records: Keyspace,
}

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Copy")
    }
}

impl Records {
    /// Takes a copy.
    #[must_use]
    pub fn copy(&self) -> Copy {
        Copy { at: self.db.snapshot(), records: self.records.clone() }
    }

    /// Becomes what `copy` is, and notes `applied` as the log position, all or nothing.
    ///
    /// # Errors
    /// When a volume cannot be read or written; then nothing was changed.
    pub fn replace(&self, copy: &Copy, applied: &[u8]) -> Result<(), StoreError> {
        let mut batch = self.db.batch();
        for entry in self.records.iter() {
            batch.remove(&self.records, entry.key().map_err(StoreError::at("list"))?);
        }
        for entry in copy.at.iter(&copy.records) {
            let (key, value) = entry.into_inner().map_err(StoreError::at("copy"))?;
            batch.insert(&self.records, key, value);
        }
        batch.insert(&self.meta, APPLIED, applied);
        batch.commit().map_err(StoreError::at("write"))?;
        self.persist()
    }
}

/// The records as they are after the changes of this batch so far.
struct Overlay<'a> {
    records: &'a Keyspace,
    written: HashMap<Vec<u8>, bool>,
    names: HashMap<Vec<u8>, String>,
}

impl Overlay<'_> {
    /// The enclave and everything in it.
    fn all_of(&self, name: &str, enclave: EnclaveId) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut keys =
            vec![RecordKey::of_cluster(Kind::Enclave, name).encode(), RecordKey::of_id(enclave).encode()];
        for kind in Kind::OF_ENCLAVE {
            let prefix = RecordKey::prefix(kind, enclave, "");
            for entry in self.records.prefix(&prefix) {
                keys.push(entry.key().map_err(StoreError::at("list"))?.to_vec());
            }
            keys.extend(self.written.keys().filter(|key| key.starts_with(&prefix)).cloned());
        }
        Ok(keys)
    }
}

impl Present for Overlay<'_> {
    type Error = StoreError;
    fn present(&self, key: &RecordKey) -> Result<bool, StoreError> {
        let key = key.encode();
        match self.written.get(&key) {
            Some(&present) => Ok(present),
            None => self.records.contains_key(key).map_err(StoreError::at("read")),
        }
    }

    fn enclave(&self, id: EnclaveId) -> Result<Option<Vec<u8>>, StoreError> {
        let key = RecordKey::of_id(id).encode();
        match (self.written.get(&key), self.names.get(&key)) {
            (Some(true), name) => Ok(name.map(|name| name.as_bytes().to_vec())),
            (Some(false), _) => Ok(None),
            (None, _) => Ok(self.records.get(key).map_err(StoreError::at("read"))?.map(|n| n.to_vec())),
        }
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
        let records = Records::open(dir.path()).unwrap();
        let outcomes = records.apply(&[enclave("e", 1), create(1, "k", 1), create(1, "k", 2)], b"1").unwrap();
        assert_eq!(outcomes, [Outcome::Done, Outcome::Done, Outcome::Exists]);
        assert_eq!(records.apply(&[create(1, "k", 3)], b"2").unwrap(), [Outcome::Exists]);
        let key = RecordKey::of_enclave(Kind::Key, id(1), "k");
        assert_eq!(records.get(&key).unwrap(), Some(vec![1]));
    }

    #[test]
    fn records_and_log_position_are_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        assert_eq!(records.applied().unwrap(), None);
        records.apply(&[enclave("e", 1), create(1, "b", 1), create(1, "a", 2)], b"7").unwrap();
        records.persist().unwrap();
        drop(records);
        let records = Records::open(dir.path()).unwrap();
        assert_eq!(records.applied().unwrap().as_deref(), Some(&b"7"[..]));
        assert_eq!(names(&records, 1, "", None), ["a", "b"]);
        assert_eq!(names(&records, 1, "b", None), ["b"]);
    }

    #[test]
    fn a_visit_goes_on_after_any_name_also_one_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
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
        let records = Records::open(dir.path()).unwrap();
        let first = [enclave("e", 1), enclave("e2", 2), create(1, "a", 1), create(2, "b", 2)];
        records.apply(&first, b"1").unwrap();
        let delete = || Change::DeleteEnclave { name: "e".into(), id: id(1) };
        let outcomes = records.apply(&[create(1, "late", 3), delete(), create(1, "after", 4)], b"2").unwrap();
        assert_eq!(outcomes, [Outcome::Done, Outcome::Done, Outcome::NoEnclave]);
        assert!(names(&records, 1, "", None).is_empty());
        assert_eq!(names(&records, 2, "", None), ["b"]);
    }

    #[test]
    fn what_was_sealed_for_a_deleted_enclave_never_gets_into_a_later_one_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
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
