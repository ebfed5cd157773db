//! A disk that forgets: what was not synced is lost, whole or in part, when its power is cut. It can be
//! full, and it can fail a sync, which loses what was to be synced while the cache still shows it, as Linux does.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use redb::{Database, StorageBackend};

use super::log_file::Medium;

/// Writes reach a real disk in units of this, in any order.
const SECTOR: usize = 512;

/// The disk. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Forgetful {
    state: Arc<Mutex<State>>,
    full: Arc<AtomicBool>,
    /// Syncs that are about to fail.
    failing: Arc<AtomicUsize>,
    syncs: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    /// What survives.
    synced: Vec<u8>,
    /// What is read.
    now: Vec<u8>,
    /// What made the one into the other.
    unsynced: Vec<Write>,
    /// Counts the lives: a process that outlived a cut reaches nothing any more.
    life: u64,
}

#[derive(Debug)]
enum Write {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

impl Write {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Bytes(at, bytes) => {
                let end = at + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*at..end].copy_from_slice(bytes);
            }
            Self::Length(length) => image.resize(*length, 0),
        }
    }
}

impl Forgetful {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power. Of each write since the last sync all, nothing, or some sectors are kept, as `dice` falls.
    pub(super) fn cut(&self, mut dice: impl FnMut() -> u64) {
        let mut state = self.state();
        state.life += 1;
        for write in std::mem::take(&mut state.unsynced) {
            match (&write, dice() % 3) {
                (_, 0) => {}
                (Write::Bytes(at, bytes), 1) => {
                    for (n, sector) in bytes.chunks(SECTOR).enumerate().filter(|_| dice().is_multiple_of(2)) {
                        Write::Bytes(at + n * SECTOR, sector.to_vec()).apply(&mut state.synced);
                    }
                }
                _ => write.apply(&mut state.synced),
            }
        }
        state.now = state.synced.clone();
    }

    /// Whether there is no space left for anything.
    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// The next `count` syncs fail.
    pub(super) fn fail_syncs(&self, count: usize) {
        self.failing.store(count, Ordering::SeqCst);
    }

    /// Syncs so far.
    pub(super) fn syncs(&self) -> usize {
        self.syncs.load(Ordering::SeqCst)
    }
}

impl Medium for Forgetful {
    fn path(&self) -> &Path {
        Path::new("a disk that forgets")
    }

    fn forget_cached(&self) -> io::Result<()> {
        let mut state = self.state();
        // what is not synced yet stays: only what passes for synced is read from the disk again
        let mut now = state.synced.clone();
        for write in &state.unsynced {
            write.apply(&mut now);
        }
        state.now = now;
        Ok(())
    }

    fn open(&self, builder: &mut redb::Builder) -> Result<Database, redb::DatabaseError> {
        let life = self.state().life;
        builder.create_with_backend(Opened { disk: self.clone(), life })
    }
}

/// The disk as one process sees it.
struct Opened {
    disk: Forgetful,
    life: u64,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened")
    }
}

impl Opened {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life == self.life { Ok(state) } else { Err(io::Error::other("the power is off")) }
    }

    fn write(&self, write: Write) -> io::Result<()> {
        let mut state = self.state()?;
        if self.disk.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        write.apply(&mut state.now);
        state.unsynced.push(write);
        Ok(())
    }
}

impl StorageBackend for Opened {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state()?.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state()?;
        let at = offset as usize;
        let found = state.now.get(at..at + out.len());
        out.copy_from_slice(found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.write(Write::Length(len as usize))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.state()?;
        self.disk.syncs.fetch_add(1, Ordering::SeqCst);
        let fail = |left: usize| left.checked_sub(1);
        if self.disk.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fail).is_ok() {
            state.unsynced.clear();
            return Err(io::Error::other("the disk failed"));
        }
        for write in std::mem::take(&mut state.unsynced) {
            write.apply(&mut state.synced);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        Self::write(self, Write::Bytes(offset as usize, data.to_vec()))
    }
}
