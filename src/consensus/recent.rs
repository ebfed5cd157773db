//! The newest entries of the log, in memory.

use std::collections::BTreeMap;

use super::types::{Entry, LogId};

/// Entries that stay in memory after they are on disk, and their bytes at most.
const RECENT: usize = 64;
const RECENT_BYTES: usize = 4 << 20;
/// From so many bytes in the newest entries on, no older ones are kept: five hundred of that size are 4 MiB.
const LARGE: usize = RECENT * (8 << 10);

/// The newest entries: those that are not on disk yet, and as many before them as are about to be applied. So applying
/// waits for no disk, also while the volume is sick.
#[derive(Default)]
pub(super) struct Recent {
    entries: BTreeMap<u64, RecentEntry>,
    /// Bytes of all, as they are in the log.
    bytes: usize,
}

struct RecentEntry {
    entry: Entry,
    bytes: usize,
    is_synced: bool,
}

impl Recent {
    pub(super) fn insert(&mut self, entry: Entry, bytes: usize) {
        self.bytes += bytes;
        let index = entry.log_id.index;
        if let Some(old) = self.entries.insert(index, RecentEntry { entry, bytes, is_synced: false }) {
            self.bytes -= old.bytes;
        }
    }

    /// The entry is on disk, unless another took its place meanwhile.
    pub(super) fn synced(&mut self, id: LogId) {
        if let Some(recent) = self.entries.get_mut(&id.index)
            && recent.entry.log_id == id
        {
            recent.is_synced = true;
        }
        while (self.entries.len() > RECENT || self.bytes > RECENT_BYTES)
            && let Some(first) = self.entries.first_entry()
            && first.get().is_synced
        {
            self.bytes -= first.remove().bytes;
        }
    }

    pub(super) fn truncate(&mut self, from: u64) {
        let gone = self.entries.split_off(&from);
        self.bytes -= gone.values().map(|recent| recent.bytes).sum::<usize>();
    }

    pub(super) fn purge(&mut self, upto: u64) {
        let kept = self.entries.split_off(&(upto + 1));
        self.bytes = kept.values().map(|recent| recent.bytes).sum();
        self.entries = kept;
    }

    /// Those from `from` on, before `to`.
    pub(super) fn range(&self, from: u64, to: u64) -> BTreeMap<u64, Entry> {
        self.entries.range(from..to).map(|(&index, recent)| (index, recent.entry.clone())).collect()
    }

    /// The last index before them, where they are large.
    pub(super) fn before_large(&self) -> Option<u64> {
        let (first, _) = self.entries.first_key_value().filter(|_| self.bytes >= LARGE)?;
        first.checked_sub(1)
    }
}
