//! The changes of one log entry while they are decided: what they see of the records and of each other.

use std::collections::HashMap;

use lsm_tree::{AbstractTree, SeqNo, Tree};

use super::{
    Change, Digest, EnclaveId, Kind, RecordKey, StoreError,
    change::{Present, digest},
};

/// The records as they are after the changes of this batch so far.
pub(super) struct Batch<'a> {
    tree: &'a Tree,
    pub(super) written: HashMap<Vec<u8>, Option<&'a [u8]>>,
    /// Enclaves that were looked up, since a batch is mostly about one.
    known: HashMap<EnclaveId, bool>,
    /// Floors that were looked up.
    floors: HashMap<EnclaveId, u32>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        Self { tree, written: HashMap::new(), known: HashMap::new(), floors: HashMap::new() }
    }

    /// The change will be made; later ones see it.
    pub(super) fn take(&mut self, change: &'a Change) {
        match change {
            Change::Create { key, value }
            | Change::Put { key, value }
            | Change::Replace { key, value, .. } => {
                self.written.insert(key.encode(), Some(value));
                if key.kind == Kind::Floor {
                    self.floors.remove(&key.enclave);
                }
            }
            Change::Delete { key } => {
                self.written.insert(key.encode(), None);
            }
            Change::CreateEnclave { name, id, value } => {
                self.written.insert(change.key().encode(), Some(value));
                self.written.insert(RecordKey::of_id(*id).encode(), Some(name.as_bytes()));
                self.known.insert(*id, true);
            }
            // its records are out of reach with its id; the upkeep removes them
            Change::DeleteEnclave { id, .. } => {
                self.written.insert(change.key().encode(), None);
                self.written.insert(RecordKey::of_id(*id).encode(), None);
                self.written.insert(RecordKey::remains_of(*id).encode(), Some(&[]));
                self.known.insert(*id, false);
            }
        }
    }

    fn read(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let encoded = key.encode();
        if let Some(written) = self.written.get(&encoded) {
            return Ok(written.map(<[u8]>::to_vec));
        }
        let read = self.tree.get(encoded, SeqNo::MAX);
        let unreadable = |source| StoreError::Unreadable { record: key.to_string(), source };
        Ok(read.map_err(unreadable)?.map(|value| value.to_vec()))
    }
}

impl Present for Batch<'_> {
    type Error = StoreError;

    fn present(&mut self, key: &RecordKey) -> Result<bool, StoreError> {
        let encoded = key.encode();
        if let Some(written) = self.written.get(&encoded) {
            return Ok(written.is_some());
        }
        let read = self.tree.contains_key(encoded, SeqNo::MAX);
        read.map_err(|source| StoreError::Unreadable { record: key.to_string(), source })
    }

    fn exists(&mut self, enclave: EnclaveId) -> Result<bool, StoreError> {
        if let Some(exists) = self.known.get(&enclave) {
            return Ok(*exists);
        }
        let exists = self.present(&RecordKey::of_id(enclave))?;
        self.known.insert(enclave, exists);
        Ok(exists)
    }

    fn digest(&mut self, key: &RecordKey) -> Result<Option<Digest>, StoreError> {
        Ok(self.read(key)?.map(|value| digest(&value)))
    }

    fn floor(&mut self, owner: EnclaveId) -> Result<u32, StoreError> {
        if let Some(floor) = self.floors.get(&owner) {
            return Ok(*floor);
        }
        let floor = self.read(&RecordKey::floor_of(owner))?;
        let floor = floor.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
        self.floors.insert(owner, floor);
        Ok(floor)
    }

    fn enclave(&mut self, id: EnclaveId) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(&RecordKey::of_id(id))
    }
}
