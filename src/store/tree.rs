//! The LSM tree below the records: opened only after its files were checked, and set up for small sealed records.
//!
//! ```text
//! records/current   which version counts, and its checksum
//! records/vN        the list of tables
//! records/tables/   tables of sorted records; every block has a checksum, which is checked when it is read
//! ```
//! There is no journal: the Raft log is one. What is not yet in a table is lost with the process and replayed.
//! The engine deletes tables that the list does not name, so the list is checked before the engine sees it.

use std::{
    collections::BTreeSet,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use lsm_tree::{
    AbstractTree, AnyTree, Cache, CompressionType, Config, DescriptorTable, SequenceNumberCounter, TableId,
    Tree,
    config::{CompressionPolicy, PinningPolicy},
};
use xxhash_rust::xxh3::xxh3_128;

use super::StoreError;

/// Memory for cached blocks, in bytes.
const CACHE: u64 = 64 << 20;
/// Tables that are open at the same time.
const OPEN_FILES: usize = 512;

const CURRENT: &str = "current";
const TABLES: &str = "tables";

/// Opens the tree in `path`, or makes an empty one where there is none. Does not scan.
///
/// # Errors
/// When the folder cannot be read, is half a copy, or holds something else.
pub(super) fn open(path: &Path, seqno: &SequenceNumberCounter) -> Result<Tree, StoreError> {
    check(path)?;
    let config = Config::new(path, seqno.clone(), SequenceNumberCounter::default())
        .use_cache(Arc::new(Cache::with_capacity_bytes(CACHE)))
        .use_descriptor_table(Some(Arc::new(DescriptorTable::new(OPEN_FILES))))
        // ciphertext does not compress
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        .filter_block_pinning_policy(PinningPolicy::new([true, true, false]));
    // a library that meets damaged bytes may panic; whoever starts a server deserves a sentence instead
    let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
    let damaged = |why: String| StoreError::Damaged { path: path.into(), why };
    match opened {
        Ok(Ok(AnyTree::Standard(tree))) => {
            seqno.fetch_max(tree.get_highest_persisted_seqno().map_or(0, |highest| highest + 1));
            Ok(tree)
        }
        Ok(Ok(AnyTree::Blob(_))) => Err(damaged("it is a tree of another kind".into())),
        Ok(Err(lsm_tree::Error::Io(source))) if !is_nonsense(source.kind()) => {
            Err(StoreError::Io { step: "open", path: path.into(), source })
        }
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(_) => Err(damaged("its tables make no sense".into())),
    }
}

/// Runs of tables in one level with which nothing more is added to it: the engine writes their number as one byte, and a
/// list with 256 of them could not be read again.
pub(super) const MAX_RUNS: usize = 200;

/// What is done to the tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// The table in memory is written out.
    Flush,
    /// All records are replaced.
    Replace,
    /// Tables are merged.
    Merge,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Flush => "write",
            Self::Replace => "replace",
            Self::Merge => "merge",
        }
    }
}

/// The files of tables, and who writes them.
pub(super) struct Files {
    path: PathBuf,
    /// Tables that belonged to the tree at some time since it was opened. Held by whoever writes tables, one at a time:
    /// whether the last list took effect has to be known before the next one is written.
    known: Mutex<BTreeSet<TableId>>,
}

impl Files {
    pub(super) fn new(path: &Path, tree: &Tree) -> Self {
        Self { path: path.into(), known: Mutex::new(named(tree)) }
    }

    /// Does `write`, which writes tables. What a failed attempt left is removed: the engine would do it at the next
    /// open only, and on a volume that is full every attempt would take what little space comes back.
    pub(super) fn write<R>(
        &self,
        tree: &Tree,
        step: Step,
        write: impl FnOnce() -> lsm_tree::Result<R>,
    ) -> Result<R, StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_list(tree)?;
        check_room(tree, step)?;
        // the engine may panic on what it reads from a damaged table
        let result = catch_unwind(AssertUnwindSafe(write)).unwrap_or(Err(lsm_tree::Error::Unrecoverable));
        known.append(&mut named(tree));
        if result.is_err() {
            self.remove_leftovers(tree, &known);
        }
        result.map_err(StoreError::at(step.name()))
    }

    /// Makes sure that the list that counts is the one that this process goes by. A switch to a new one can fail after
    /// it took effect: the engine would then write its next list over the one that counts.
    fn check_list(&self, tree: &Tree) -> Result<(), StoreError> {
        let path = self.path.join(CURRENT);
        match parse_current(&read(&path)?) {
            Some((version, _)) if version == tree.current_version().id() => Ok(()),
            _ => Err(StoreError::HalfSwitched { path }),
        }
    }

    fn remove_leftovers(&self, tree: &Tree, known: &BTreeSet<TableId>) {
        if self.check_list(tree).is_err() {
            // a list that this process does not go by may name them
            return;
        }
        let Ok(entries) = fs::read_dir(self.path.join(TABLES)) else { return };
        for entry in entries.flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if id.is_some_and(|id| !known.contains(&id)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Makes sure that the list can still be read when it is longer by what `step` adds. Merging tables of the first level
/// is how it gets shorter.
pub(super) fn check_room(tree: &Tree, step: Step) -> Result<(), StoreError> {
    let version = tree.current_version();
    let runs = |range: std::ops::Range<usize>| {
        range.filter_map(|level| version.level(level)).map(|level| level.run_count()).max().unwrap_or(0)
    };
    let runs = match step {
        Step::Flush | Step::Replace => runs(0..1),
        Step::Merge => runs(1..version.level_count()),
    };
    if runs < MAX_RUNS { Ok(()) } else { Err(StoreError::TooManyTables { runs }) }
}

/// The tables that the tree consists of now.
fn named(tree: &Tree) -> BTreeSet<TableId> {
    tree.current_version().iter_tables().map(|table| table.id()).collect()
}

/// What reading comes to when a file is shorter than it says, or points to places that are not there.
pub(super) fn is_nonsense(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(kind, InvalidData | InvalidInput | UnexpectedEof)
}

/// Makes sure that what the engine is about to trust is what was written.
fn check(path: &Path) -> Result<(), StoreError> {
    let damaged = |name: &str, why: &str| StoreError::Damaged { path: path.join(name), why: why.into() };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(StoreError::Io { step: "read", path: path.into(), source }),
    };
    let current = match read(&path.join(CURRENT)) {
        Ok(current) => current,
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return match entries.count() {
                0 => Ok(()),
                _ => Err(damaged(CURRENT, "it is missing, so this is only half a copy")),
            };
        }
        Err(error) => return Err(error),
    };
    // it may have been renamed into place by a process that could not make sure that it stays there: it has to, before
    // the engine deletes what only an older one names
    let folder = fs::File::open(path).and_then(|folder| folder.sync_all());
    folder.map_err(|source| StoreError::Io { step: "sync", path: path.into(), source })?;
    let Some((version, checksum)) = parse_current(&current) else {
        return Err(damaged(CURRENT, "it does not name a version"));
    };
    let list = format!("v{version}");
    match read(&path.join(&list)) {
        Ok(bytes) if xxh3_128(&bytes) == checksum => {}
        Ok(_) => return Err(damaged(&list, "its checksum is not the one that 'current' names")),
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(damaged(&list, "it is missing, so this is only half a copy"));
        }
        Err(error) => return Err(error),
    }
    let tables = path.join(TABLES);
    let tables = fs::read_dir(&tables).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => damaged(TABLES, "it is missing, so this is only half a copy"),
        _ => StoreError::Io { step: "read", path: tables.clone(), source },
    })?;
    for table in tables.flatten() {
        let name = table.file_name();
        if name.to_str().is_none_or(|name| name.parse::<u64>().is_err()) || table.path().is_dir() {
            return Err(damaged(TABLES, &format!("{name:?} is not one of its files")));
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(|source| StoreError::Io { step: "read", path: path.into(), source })
}

/// Version u64, checksum u128, kind of checksum u8 (0 = XXH3), little-endian.
fn parse_current(bytes: &[u8]) -> Option<(u64, u128)> {
    let (version, rest) = bytes.split_first_chunk::<8>()?;
    let (checksum, rest) = rest.split_first_chunk::<16>()?;
    (rest == [0]).then_some((u64::from_le_bytes(*version), u128::from_le_bytes(*checksum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with one table.
    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let seqno = SequenceNumberCounter::default();
        let tree = open(&path, &seqno).unwrap();
        for n in 0..100_u32 {
            let _ = tree.insert(n.to_be_bytes(), [7; 100], seqno.next());
        }
        tree.flush_active_memtable(0).unwrap();
        (dir, path)
    }

    fn files(path: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() { files.extend(self::files(&entry)) } else { files.push(entry) }
        }
        files.sort();
        files
    }

    #[test]
    fn a_tree_is_found_again_and_its_numbers_go_on() {
        let (_dir, path) = tree();
        let seqno = SequenceNumberCounter::default();
        let tree = open(&path, &seqno).unwrap();
        assert_eq!(seqno.get(), 100);
        assert_eq!(tree.get(5_u32.to_be_bytes(), u64::MAX).unwrap().as_deref(), Some(&[7; 100][..]));
    }

    #[test]
    fn every_cut_and_flipped_file_is_refused_or_noticed_when_it_is_read_and_nothing_is_deleted() {
        let (_dir, path) = tree();
        // lists of earlier versions are deleted at open, rightly
        drop(open(&path, &SequenceNumberCounter::default()).unwrap());
        let files = files(&path);
        let bytes: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        let restore = || files.iter().zip(&bytes).for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
        for (file, good) in files.iter().zip(&bytes) {
            let cuts = (0..6).map(|n| good[..good.len() * n / 6].to_vec());
            let step = (good.len() / 150).max(1);
            let flips = (0..good.len()).step_by(step).map(|at| {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                bad
            });
            for bad in cuts.chain(flips) {
                fs::write(file, &bad).unwrap();
                match open(&path, &SequenceNumberCounter::default()) {
                    Err(StoreError::Damaged { path: named, .. }) => assert!(named.starts_with(&path)),
                    Err(error) => panic!("{}: {error}", file.display()),
                    Ok(tree) => {
                        for n in 0..100_u32 {
                            if let Ok(found) = tree.get(n.to_be_bytes(), u64::MAX) {
                                assert_eq!(found.as_deref(), Some(&[7; 100][..]), "{} {n}", file.display());
                            }
                        }
                    }
                }
                assert_eq!(self::files(&path), files, "a file was deleted");
                restore();
            }
        }
    }

    #[test]
    fn half_a_copy_and_strange_files_are_refused() {
        for (change, says) in [
            ((|path| fs::remove_file(path.join(CURRENT)).unwrap()) as fn(&Path), "half a copy"),
            (|path| fs::remove_dir_all(path.join(TABLES)).unwrap(), "half a copy"),
            (|path| fs::remove_file(path.join("v1")).unwrap(), "half a copy"),
            (|path| fs::write(path.join("tables/readme"), "").unwrap(), "not one of its files"),
            (|path| fs::create_dir(path.join("tables/77")).unwrap(), "not one of its files"),
            (|path| fs::remove_file(path.join("tables/0")).unwrap(), "damaged"),
        ] {
            let (_dir, path) = tree();
            change(&path);
            let error = open(&path, &SequenceNumberCounter::default()).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
