//! One order for all changes: a Raft log (openraft) that `store` applies, also when there is only one member.
//!
//! `propose` → `batcher` gathers changes while the previous entries are being synced → one Raft entry → `log`
//! writes and syncs → `state` applies to `store` and tells the observer → the answer goes back to each proposer.

mod batcher;
mod log;
mod network;
mod state;
#[cfg(test)]
mod suite;
mod types;
mod whole;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use openraft::{Config, Raft, SnapshotPolicy, raft::ReadPolicy};

use self::{
    batcher::Batcher, log::Log, network::NoPeers, state::StateMachine, types::TypeConfig, whole::Halves,
};
pub use self::{
    state::Observer,
    types::Member,
    whole::{Mismatch, Owner},
};
use crate::store::{Change, Outcome, Records, StoreError};

/// File of the log within the data directory.
pub const LOG_FILE: &str = "log.redb";
/// Folder of the records within the data directory.
pub const RECORDS_DIR: &str = "records";

/// How long a change may wait for its place in the log before the proposer is told to try again.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long start-up may take to catch up with the log.
const RECOVER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a change did not get its place in the log, or the log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log could not be opened.
    #[error("failed to open the log: {0}")]
    OpenLog(#[source] log::LogError),
    /// The records could not be opened.
    #[error(transparent)]
    OpenRecords(#[from] StoreError),
    /// Log and records do not belong together.
    #[error(transparent)]
    Mixed(#[from] Mismatch),
    /// The volume is full: the change was not made.
    #[error("no space left on the volume")]
    DiskFull,
    /// No answer in time: the change may still be made.
    #[error("the change was not confirmed within {} seconds", PROPOSE_TIMEOUT.as_secs())]
    Timeout,
    /// This member cannot accept changes now.
    #[error("the log accepts no changes: {0}")]
    Unavailable(String),
}

/// This member's part in the cluster.
pub struct Consensus {
    raft: Raft<TypeConfig, StateMachine>,
    batcher: Batcher,
    log: Log,
    records: Records,
}

impl Consensus {
    /// Opens log and records in `dir` (making them when absent) and starts the member. `observer` hears of every
    /// change after it was applied, in order.
    ///
    /// # Errors
    /// When log or records cannot be opened, or do not belong together.
    pub async fn open(dir: &Path, owner: &Owner, observer: Arc<dyn Observer>) -> Result<Self, Error> {
        let records = Records::open(&dir.join(RECORDS_DIR))?;
        let log = Log::open(&dir.join(LOG_FILE)).map_err(Error::OpenLog)?;
        let state = StateMachine::open(records.clone(), observer)?;
        let halves = Halves {
            log_stamp: log.stamp().map_err(Error::OpenLog)?,
            records_stamp: records.stamp()?,
            applied: state.applied(),
            ..log.reach()
        };
        whole::check(owner, &halves)?;
        if halves.log_stamp.is_none() {
            log.set_stamp(&owner.stamp()).map_err(Error::OpenLog)?;
        }
        if halves.records_stamp.is_none() {
            records.set_stamp(&owner.stamp())?;
        }
        let raft = Raft::new(owner.member, Arc::new(config()), NoPeers, log.clone(), state)
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?;
        let batcher = Batcher::start(raft.clone(), log.disk());
        Ok(Self { raft, batcher, log, records })
    }

    /// Makes this member the only voter of a new cluster.
    ///
    /// # Errors
    /// When the log belongs to a cluster already.
    pub async fn bootstrap(&self, member: Member) -> Result<(), Error> {
        let id = *self.raft.node_id();
        self.raft
            .initialize(BTreeMap::from([(id, member)]))
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?;
        self.recover().await
    }

    /// Waits until everything that was acknowledged before the last stop has been applied.
    ///
    /// # Errors
    /// When that takes longer than a minute.
    pub async fn recover(&self) -> Result<(), Error> {
        let unavailable = |e: &dyn std::fmt::Display| Error::Unavailable(e.to_string());
        if self.raft.voter_ids().eq([*self.raft.node_id()]) {
            // nobody else can lead, so nobody else's heartbeat need be waited for
            self.raft.trigger().elect(false).await.map_err(|e| unavailable(&e))?;
        }
        self.raft
            .wait(Some(RECOVER_TIMEOUT))
            .metrics(|m| m.current_leader.is_some(), "a leader")
            .await
            .map_err(|e| unavailable(&e))?;
        self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await.map_err(|e| unavailable(&e))?;
        Ok(())
    }

    /// Gives `change` its place in the log and returns what became of it, once a majority has it on disk and it is
    /// applied here.
    ///
    /// # Errors
    /// [`Error::DiskFull`] when it was not made; [`Error::Timeout`] and [`Error::Unavailable`] when it may have been.
    pub async fn propose(&self, change: Change) -> Result<Outcome, Error> {
        match tokio::time::timeout(PROPOSE_TIMEOUT, self.batcher.propose(change)).await {
            Ok(result) => result,
            Err(_) if self.log.disk().is_full() => Err(Error::DiskFull),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// The records, for reading.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// The member that leads, if one does.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        use openraft::async_runtime::watch::WatchReceiver;
        self.raft.metrics().borrow_watched().current_leader
    }

    /// Index of the last applied entry.
    #[must_use]
    pub fn applied(&self) -> u64 {
        use openraft::async_runtime::watch::WatchReceiver;
        self.raft.metrics().borrow_watched().last_applied.map_or(0, |id| id.index)
    }

    /// Stops the member: no change is accepted any more, and what was accepted is on disk.
    pub async fn close(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the consensus task did not end cleanly");
        }
        if let Err(error) = self.records.persist() {
            tracing::warn!(%error, "the records were not synced; the log will replay them");
        }
        self.log.close();
    }
}

fn config() -> Config {
    Config {
        cluster_name: "kes".into(),
        heartbeat_interval: 250,
        election_timeout_min: 800,
        election_timeout_max: 1200,
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(2_000),
        max_in_snapshot_log_to_keep: 500,
        purge_batch_size: 500,
        ..Config::default()
    }
}
