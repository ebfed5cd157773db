//! The state machine: committed entries become records, in order, and the observer hears of each.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt};
use openraft::{
    EntryPayload, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
    type_config::alias::SnapshotOf,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::types::{LogId, Outcomes, SnapshotMeta, StoredMembership, TypeConfig};
use crate::store::{Change, Copy, Outcome, Records, StoreError};

/// Hears of every change after it was applied, in the order of the log. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// `change` was applied and had this outcome.
    fn applied(&self, change: &Change, outcome: Outcome);
}

/// How long applying pauses while memory holds more than it should.
const BEHIND: Duration = Duration::from_millis(10);
/// How often an entry is tried again that the volume does not let be decided, and the pause before that.
const READ_ATTEMPTS: u32 = 50;
const READ_RETRY: Duration = Duration::from_millis(100);

/// A snapshot is a view of the records at one moment: nothing is copied until a new member asks for it.
pub(crate) type SnapshotData = Copy;

/// Where in the log the records are: kept with them, in one batch.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Applied {
    last: Option<LogId>,
    membership: StoredMembership,
}

/// Applies entries to the records.
pub(crate) struct StateMachine {
    records: Records,
    observer: Arc<dyn Observer>,
    applied: Applied,
    /// Told when it is time for a snapshot; full while one is due.
    ripe: mpsc::Sender<()>,
    /// Whether a snapshot was ever taken: openraft must not be shown one that it did not order.
    has_snapshot: bool,
    trouble: Trouble,
}

/// Why a change could not be applied, for whoever wonders why the member ended.
#[derive(Clone, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<StoreError>>>);

impl Trouble {
    fn note(&self, error: StoreError) -> io::Error {
        let text = error.to_string();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        io::Error::other(text)
    }

    /// The last one, once.
    pub(super) fn take(&self) -> Option<StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Who waits for what becomes of an entry.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Asked {
    /// Somebody: it is applied for the first time.
    Now,
    /// Nobody: it may have been applied and acknowledged in an earlier life, or is by other members.
    Before,
}

impl StateMachine {
    /// `path` is where the records are, for error messages.
    pub(super) fn open(
        path: &Path,
        records: Records,
        observer: Arc<dyn Observer>,
        ripe: mpsc::Sender<()>,
    ) -> Result<Self, StoreError> {
        let applied = match records.applied() {
            Some(bytes) => rmp_serde::from_slice(&bytes).map_err(|error| StoreError::Damaged {
                path: path.into(),
                why: format!("the log position that it reflects makes no sense: {error}"),
            })?,
            None => Applied::default(),
        };
        Ok(Self { records, observer, applied, ripe, has_snapshot: false, trouble: Trouble::default() })
    }

    /// The last entry that the records reflect.
    pub(super) fn last(&self) -> Option<LogId> {
        self.applied.last
    }

    /// Where it notes why it could not go on.
    pub(super) fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// Applies `changes`. What the volume does not let be read now is tried again for a while: nobody is answered before
    /// it is known what became of the change, here and in every later life.
    async fn store(&self, changes: &[Change], applied: &Applied, asked: Asked) -> io::Result<Vec<Outcome>> {
        let position = rmp_serde::to_vec(applied).map_err(io::Error::other)?;
        let mut attempts = 0;
        let outcomes = loop {
            match self.decide(changes, &position, asked) {
                Err(error) if error.is_passing() && attempts < READ_ATTEMPTS && !self.records.is_closed() => {
                    if attempts == 0 {
                        tracing::error!(%error, "changes wait: the volume cannot be read");
                    }
                    attempts += 1;
                    tokio::time::sleep(READ_RETRY).await;
                }
                result => break result.map_err(|error| self.trouble.note(error))?,
            }
        };
        if outcomes.contains(&Outcome::Unreadable) {
            // What was decided without knowing is never decided again: it is in the records before anybody hears of it,
            // and before anything is decided after it.
            let records = self.records.clone();
            let persisted = tokio::task::spawn_blocking(move || records.persist_when_possible()).await?;
            persisted.map_err(|error| self.trouble.note(error))?;
        } else if self.records.wants_persist() {
            let _ = self.ripe.try_send(());
        }
        Ok(outcomes)
    }

    /// Writes the records out while memory holds too many. A snapshot would do it, but it is begun between two calls of
    /// `apply`, and this is within one.
    async fn catch_up(&self) -> io::Result<()> {
        while self.records.is_behind() && !self.records.is_closed() {
            let records = self.records.clone();
            if tokio::task::spawn_blocking(move || records.persist()).await?.is_err() {
                tokio::time::sleep(BEHIND).await;
            }
        }
        Ok(())
    }

    fn decide(&self, changes: &[Change], position: &[u8], asked: Asked) -> Result<Vec<Outcome>, StoreError> {
        let nodes = self.applied.membership.membership().nodes().count();
        // Several members must decide alike: one that cannot read a record has to stop, and be replaced. And an entry
        // that is applied once more must become what it was before: refusing now what was acknowledged then would lose
        // it without a word.
        if nodes > 1 || asked == Asked::Before {
            self.records.apply(changes, position)
        } else {
            self.records.apply_alone(changes, position)
        }
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied.last, last_membership: self.applied.membership.clone() }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.catch_up().await?;
            let asked = if responder.is_some() { Asked::Now } else { Asked::Before };
            let mut applied = self.applied.clone();
            applied.last = Some(entry.log_id);
            let outcomes = match entry.payload {
                EntryPayload::Blank => self.store(&[], &applied, asked).await?,
                EntryPayload::Membership(membership) => {
                    applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                    self.store(&[], &applied, asked).await?
                }
                EntryPayload::Normal(changes) => {
                    let outcomes = self.store(&changes.0, &applied, asked).await?;
                    for (change, &outcome) in changes.0.iter().zip(&outcomes) {
                        self.observer.applied(change, outcome);
                    }
                    outcomes
                }
            };
            self.applied = applied;
            if let Some(responder) = responder {
                responder.send(Outcomes(outcomes));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.has_snapshot = true;
        Builder { meta: self.meta(), copy: self.records.copy(), records: self.records.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let applied = Applied { last: meta.last_log_id, membership: meta.last_membership.clone() };
        let position = rmp_serde::to_vec(&applied).map_err(io::Error::other)?;
        let records = self.records.clone();
        let replace = move || {
            loop {
                match records.replace(&snapshot, &position) {
                    // the upkeep removed something meanwhile: it is about to be replaced too
                    Err(StoreError::Busy) if !records.is_closed() => {}
                    result => return result,
                }
            }
        };
        tokio::task::spawn_blocking(replace).await?.map_err(|error| self.trouble.note(error))?;
        self.applied = applied;
        self.has_snapshot = true;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotData>>> {
        // both are of this moment: nothing is applied while this is asked
        let now =
            || SnapshotOf::<TypeConfig, SnapshotData> { meta: self.meta(), snapshot: self.records.copy() };
        Ok(self.has_snapshot.then(now))
    }
}

/// Makes the snapshot of the moment at which it was ordered.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    copy: Copy,
    records: Records,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
        // the log is purged up to a snapshot, so what it covers must survive a power cut without the log
        let records = self.records.clone();
        let persist = move || records.persist_when_possible();
        tokio::task::spawn_blocking(persist).await?.map_err(io::Error::other)?;
        Ok(SnapshotOf::<TypeConfig, SnapshotData> { meta: self.meta.clone(), snapshot: self.copy.clone() })
    }
}
