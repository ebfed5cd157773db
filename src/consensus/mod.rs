//! One order for all changes: a Raft log (openraft) that `store` applies, also when there is only one member.
//!
//! `propose` → `batcher` gathers changes while the previous entries are being synced → one Raft entry → `log`
//! writes and syncs → `state` applies to `store` and tells the observer → the answer goes back to each proposer.

mod batcher;
mod checked;
mod error;
mod log;
mod log_file;
mod network;
#[cfg(test)]
mod power;
#[cfg(test)]
mod power_tests;
mod recent;
mod state;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
mod types;
mod whole;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use openraft::{Config, Raft, SnapshotPolicy, raft::ReadPolicy};
use tokio::sync::mpsc;

use self::{
    batcher::Batcher,
    log::{Health, Log},
    log_file::Medium,
    network::NoPeers,
    state::{StateMachine, Trouble},
    types::{LogId, TypeConfig},
    whole::Halves,
};
pub use self::{
    error::{Error, LogError},
    state::Observer,
    types::Member,
    whole::{Mismatch, Owner},
};
use crate::store::{Change, Limits, Outcome, Records};

/// File of the log within the data directory.
pub const LOG_FILE: &str = "log.redb";
/// Folder of the records within the data directory.
pub const RECORDS_DIR: &str = "records";

/// How long a change may wait for its place in the log before the proposer is told to try again.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the volume is read again before a change is refused because of it, and the pause before that.
const READ_ATTEMPTS: u32 = 3;
const READ_RETRY: Duration = Duration::from_millis(50);
/// How long start-up may take to catch up with the log.
const RECOVER_TIMEOUT: Duration = Duration::from_secs(60);

/// This member's part in the cluster.
pub struct Consensus {
    raft: Raft<TypeConfig, StateMachine>,
    batcher: Batcher,
    log: Log,
    records: Records,
    trouble: Trouble,
}

impl Consensus {
    /// Makes log and records in `dir`, where there are none, and starts the member.
    ///
    /// # Errors
    /// When log or records cannot be made.
    pub async fn create(dir: &Path, owner: &Owner, observer: Arc<dyn Observer>) -> Result<Self, Error> {
        log_file::create(&dir.join(LOG_FILE))?;
        Self::open(dir, owner, observer).await
    }

    /// Opens log and records in `dir` and starts the member. `observer` hears of every change after it was applied, in
    /// order.
    ///
    /// # Errors
    /// When log or records cannot be opened, are damaged, or do not belong together.
    pub async fn open(dir: &Path, owner: &Owner, observer: Arc<dyn Observer>) -> Result<Self, Error> {
        let log = Arc::new(log_file::File(dir.join(LOG_FILE)));
        Self::open_with(dir.join(RECORDS_DIR), log, owner, observer, Limits::default()).await
    }

    /// As [`Self::open`], with the records in the folder `path` and the log on `medium`.
    async fn open_with(
        path: PathBuf,
        medium: Arc<dyn Medium>,
        owner: &Owner,
        observer: Arc<dyn Observer>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let mine = owner.clone();
        // all of it reads the volume
        let opened = tokio::task::spawn_blocking(move || {
            let records = Records::open(&path, limits)?;
            let (ripe, snapshots) = mpsc::channel(1);
            let state = StateMachine::open(&path, records.clone(), observer, ripe)?;
            let log = Log::open(medium, state.last())?;
            if let Err(error) = pair(&mine, &log, &records, state.last()) {
                // else the file stays open until its thread notices
                log.close();
                return Err(error);
            }
            Ok::<_, Error>((records, log, state, snapshots))
        });
        let (records, log, state, snapshots) =
            opened.await.map_err(|e| Error::Unavailable(e.to_string()))??;
        let trouble = state.trouble();
        let raft = Raft::new(owner.member, Arc::new(config()), NoPeers, log.clone(), state)
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?;
        tokio::spawn(take_snapshots(raft.clone(), log.clone(), snapshots));
        let batcher = Batcher::start(raft.clone());
        Ok(Self { raft, batcher, log, records, trouble })
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
    /// [`Error::Replay`] when a record is damaged that decides what became of a change; otherwise when it takes longer
    /// than a minute.
    pub async fn recover(&self) -> Result<(), Error> {
        // what the library says of a failed replay is that it failed
        self.lead().await.map_err(|error| self.trouble.take().map_or(error, Error::Replay))
    }

    async fn lead(&self) -> Result<(), Error> {
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
    /// [`Error::DiskFull`] when it was not made; [`Error::DiskFullMeanwhile`], [`Error::Timeout`] and
    /// [`Error::Unavailable`] when it may have been or may still be.
    pub async fn propose(&self, change: Change) -> Result<Outcome, Error> {
        let disk = self.log.disk();
        match disk.health() {
            Health::Full => return Err(Error::DiskFull),
            Health::Sick => return Err(Error::Unavailable("its file cannot be written".into())),
            Health::Well if self.records.is_full() => return Err(Error::DiskFull),
            Health::Well => {}
        }
        if let Some(why) = self.records.trouble() {
            return Err(Error::Unavailable(why));
        }
        if !self.can_decide(&change).await? {
            return Ok(Outcome::Unreadable);
        }
        tokio::select! {
            biased;
            result = tokio::time::timeout(PROPOSE_TIMEOUT, self.batcher.propose(change)) => match result {
                Ok(result) => result,
                Err(_) if self.records.is_full() => Err(Error::DiskFullMeanwhile),
                Err(_) => Err(Error::Timeout),
            },
            // nobody is kept waiting for a person who makes room
            health = disk.until_ill() => Err(match health {
                Health::Full => Error::DiskFullMeanwhile,
                _ => Error::Unavailable("its file cannot be written; the change may still be made".into()),
            }),
        }
    }

    /// Whether what decides about `change` is undamaged. What is in the log must be decided, also by a later life: a
    /// change that cannot be is better refused before.
    async fn can_decide(&self, change: &Change) -> Result<bool, Error> {
        let mut attempts = 0;
        loop {
            match self.records.can_decide(change) {
                Ok(()) => return Ok(true),
                Err(error) if !error.is_passing() => {
                    tracing::error!(%error, "a change is refused because what it depends on cannot be read");
                    return Ok(false);
                }
                Err(_) if attempts < READ_ATTEMPTS => {
                    attempts += 1;
                    tokio::time::sleep(READ_RETRY).await;
                }
                Err(error) => {
                    tracing::error!(%error, "a change is refused because the volume cannot be read");
                    return Err(Error::Unavailable(
                        "the volume cannot be read; the change was not made".into(),
                    ));
                }
            }
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
        // whoever waits for a full volume waits no longer
        self.records.close();
        self.log.give_up_waiting();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the consensus task did not end cleanly");
        }
        let records = self.records.clone();
        let persist = move || {
            records.end_upkeep();
            records.persist()
        };
        match tokio::task::spawn_blocking(persist).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the records were not written; the log will replay them")
            }
            Err(error) => tracing::warn!(%error, "the records were not written; the log will replay them"),
        }
        self.log.close();
    }
}

/// Makes sure that log and records belong together and to `owner`, and notes whose they are where they are new.
fn pair(owner: &Owner, log: &Log, records: &Records, last: Option<LogId>) -> Result<(), Error> {
    let halves = Halves {
        log_stamp: log.stamp()?,
        records_stamp: records.stamp()?,
        applied: last.map(|id| id.index),
        ..log.reach()
    };
    whole::check(owner, &halves)?;
    if halves.log_stamp.is_none() {
        log.set_stamp(&owner.stamp())?;
    }
    if halves.records_stamp.is_none() {
        records.set_stamp(&owner.stamp());
    }
    Ok(())
}

/// Takes a snapshot whenever the state machine is ripe for one: the records are written out, and the log before that
/// moment is purged.
async fn take_snapshots(raft: Raft<TypeConfig, StateMachine>, log: Log, mut ripe: mpsc::Receiver<()>) {
    use openraft::async_runtime::watch::WatchReceiver;
    let (mut metrics, mut last) = (raft.metrics(), None);
    loop {
        tokio::select! {
            asked = ripe.recv() => {
                if asked.is_none() || raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
            changed = metrics.changed() => {
                if changed.is_err() {
                    return;
                }
                let taken = metrics.borrow_watched().snapshot;
                if taken <= last {
                    continue;
                }
                last = taken;
                // the library keeps a number of entries, however large they are
                if let Some(upto) = log.dispensable()
                    && raft.trigger().purge_log(upto).await.is_err()
                {
                    return;
                }
            }
        }
    }
}

fn config() -> Config {
    Config {
        cluster_name: "kes".into(),
        heartbeat_interval: 250,
        election_timeout_min: 800,
        election_timeout_max: 1200,
        max_payload_entries: 64,
        // `take_snapshots` knows better when it is time
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 500,
        purge_batch_size: 500,
        ..Config::default()
    }
}
