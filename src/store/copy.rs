//! The records as they were at one moment, for whoever reads for long, and how a member becomes a copy of another.

use std::sync::{Arc, atomic::Ordering};

use lsm_tree::{AbstractTree, AnyTree, Guard, IterGuardImpl, SeqNo, Tree, UserKey};

use super::{
    Records, StoreError,
    records::{POSITION, Shared},
    tree::Step,
};

/// All records as they were at one moment. Costs nothing to take; keeps old versions on disk while it lives.
#[derive(Clone)]
pub struct Copy {
    pub(super) moment: Arc<Moment>,
}

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Copy")
    }
}

/// A moment that somebody reads: what was there then is not forgotten while this lives.
pub(super) struct Moment {
    pub(super) seqno: SeqNo,
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

impl Records {
    /// The records as they are now, for whoever reads for long.
    #[must_use]
    pub fn copy(&self) -> Copy {
        Copy { moment: Arc::new(Moment::new(&self.shared)) }
    }

    /// Becomes what `copy` is, and notes `applied` as the log position, all or nothing, also when the process dies
    /// meanwhile: new tables are written beside the old ones, and take effect together with the list that names them.
    /// Needs no more memory than a table in the making. Blocks, and changes wait; reads go on.
    ///
    /// # Errors
    /// When a volume cannot be read or written; then nothing was changed.
    pub fn replace(&self, copy: &Copy, applied: &[u8]) -> Result<(), StoreError> {
        // what is in memory goes out first: it is older than what is about to be written
        self.persist()?;
        let shared = &*self.shared;
        let mut writer = shared.writer();
        if writer.batches > 0 {
            return Err(StoreError::Busy);
        }
        let new = copy.moment.shared.tree.iter(copy.moment.seqno, None);
        let old = shared.tree.iter(SeqNo::MAX, None);
        shared.files.write(&shared.tree, Step::Replace, || install(&shared.tree, old, new, applied))?;
        writer.replaced += 1;
        writer.position = Some(applied.to_vec());
        shared.visible.fetch_max(shared.seqno.get(), Ordering::AcqRel);
        drop(writer);
        self.upkeep.wake();
        Ok(())
    }
}

/// Writes tables with everything in `new`, the removal of what is only in `old`, and the position, and makes them count
/// with one rename.
fn install(
    tree: &Tree,
    old: impl Iterator<Item = IterGuardImpl>,
    new: impl Iterator<Item = IterGuardImpl>,
    applied: &[u8],
) -> lsm_tree::Result<()> {
    let tree = AnyTree::Standard(tree.clone());
    let mut tables = tree.ingestion()?;
    tables.write(POSITION, applied)?;
    let is_record = |key: &UserKey| key.first().is_some_and(|kind| *kind != 0);
    let mut old =
        old.map(Guard::key).filter(|key| key.as_ref().is_ok_and(is_record) || key.is_err()).peekable();
    for entry in new {
        let (key, value) = entry.into_inner()?;
        if !is_record(&key) {
            continue;
        }
        while let Some(gone) = old.next_if(|old| old.as_ref().map_or(true, |old| *old < key)) {
            tables.write_tombstone(gone?)?;
        }
        old.next_if(|old| old.as_ref().is_ok_and(|old| *old == key));
        tables.write(key, value)?;
    }
    for gone in old {
        tables.write_tombstone(gone?)?;
    }
    tables.finish()
}
