//! Removing what a deleted enclave left. Its deletion is one change that leaves a marker; this is the rest, piece by piece.

use std::sync::atomic::Ordering;

use lsm_tree::{AbstractTree as _, Guard as _, SeqNo};

use super::{EnclaveId, Kind, RecordKey, StoreError, records::Shared};

impl Shared {
    /// Removes at most `limit` records of enclaves that are gone; false when none are left.
    ///
    /// Nobody can reach them any more, so this need not be in the log: no change's outcome depends on it.
    pub(super) fn sweep(&self, limit: usize) -> Result<bool, StoreError> {
        let replaced = self.writer().replaced;
        let (first, end) = RecordKey::range_of_kind(Kind::Remains);
        let mut unreadable = None;
        for marker in self.tree.range(first..end, SeqNo::MAX, None) {
            let marker = marker.key().map_err(StoreError::at("list"))?.to_vec();
            let Some(RecordKey { enclave, .. }) = RecordKey::decode(&marker) else { continue };
            match self.remains(enclave, &marker, limit) {
                Ok(doomed) => {
                    self.remove(doomed, replaced)?;
                    return Ok(true);
                }
                // the others need not wait for it
                Err(error) => unreadable = Some(error),
            }
        }
        unreadable.map_or(Ok(false), Err)
    }

    /// Up to `limit` records of an enclave that is gone, and `marker` with the last.
    fn remains(&self, enclave: EnclaveId, marker: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut doomed = Vec::new();
        for kind in Kind::OF_ENCLAVE.into_iter().chain([Kind::Floor]) {
            let (first, end) = RecordKey::range(kind, enclave, "", None);
            let rest = limit.saturating_sub(doomed.len());
            for entry in self.tree.range(first..end, SeqNo::MAX, None).take(rest) {
                match entry.key() {
                    Ok(key) => doomed.push(key.to_vec()),
                    Err(error) if doomed.is_empty() => return Err(StoreError::at("list")(error)),
                    Err(_) => return Ok(doomed),
                }
            }
        }
        if doomed.len() < limit {
            doomed.push(marker.to_vec());
        }
        Ok(doomed)
    }

    /// Removes what was found when all records had been replaced `replaced` times: not from others.
    fn remove(&self, doomed: Vec<Vec<u8>>, replaced: u64) -> Result<(), StoreError> {
        let mut writer = self.writer();
        if writer.replaced != replaced {
            return Ok(());
        }
        let seqno = self.seqno.next();
        for key in doomed {
            writer.bytes = self.tree.remove(key, seqno).1;
        }
        writer.batches += 1;
        self.visible.fetch_max(seqno + 1, Ordering::AcqRel);
        let is_much = writer.bytes >= self.limits.table;
        drop(writer);
        if is_much { self.persist() } else { Ok(()) }
    }
}
