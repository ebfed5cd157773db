//! Group commit: changes that arrive while entries are being synced travel together in the next one.

use futures::{StreamExt, stream::FuturesUnordered};
use openraft::Raft;
use tokio::sync::{mpsc, oneshot};

use super::{
    Error,
    state::StateMachine,
    types::{Changes, TypeConfig},
};
use crate::store::{Change, Outcome};

/// Entries on their way at once: with one the disk idles while the entry is applied, and four were measured slower.
const IN_FLIGHT: usize = 2;
/// Most changes in one entry.
const MAX_BATCH: usize = 1024;
/// Changes that may wait; more wait in their connections.
const QUEUE: usize = 4096;

struct Proposal {
    change: Change,
    answer: oneshot::Sender<Result<Outcome, Error>>,
}

/// Gathers changes into entries.
pub(super) struct Batcher {
    queue: mpsc::Sender<Proposal>,
}

impl Batcher {
    pub(super) fn start(raft: Raft<TypeConfig, StateMachine>) -> Self {
        let (queue, proposals) = mpsc::channel(QUEUE);
        tokio::spawn(run(raft, proposals));
        Self { queue }
    }

    pub(super) async fn propose(&self, change: Change) -> Result<Outcome, Error> {
        let (answer, outcome) = oneshot::channel();
        let stopped = || Error::Unavailable("the server is stopping".into());
        self.queue.send(Proposal { change, answer }).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }
}

async fn run(raft: Raft<TypeConfig, StateMachine>, mut proposals: mpsc::Receiver<Proposal>) {
    let mut in_flight = FuturesUnordered::new();
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = in_flight.next(), if !in_flight.is_empty() => {}
            taken = proposals.recv_many(&mut batch, MAX_BATCH), if in_flight.len() < IN_FLIGHT => {
                if taken == 0 {
                    break;
                }
                in_flight.push(write(raft.clone(), std::mem::take(&mut batch)));
            }
        }
    }
    while in_flight.next().await.is_some() {}
}

async fn write(raft: Raft<TypeConfig, StateMachine>, batch: Vec<Proposal>) {
    let (changes, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|p| (p.change, p.answer)).unzip();
    match raft.client_write(Changes(changes)).await {
        Ok(response) => {
            for (answer, outcome) in answers.into_iter().zip(response.data.0) {
                // whoever asked may have gone; the change is made all the same
                let _ = answer.send(Ok(outcome));
            }
        }
        Err(error) => {
            let text = error.to_string();
            for answer in answers {
                let _ = answer.send(Err(Error::Unavailable(text.clone())));
            }
        }
    }
}
