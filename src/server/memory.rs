//! Memory for large bodies: how much requests and their answers may hold at once, altogether and on one connection.
//!
//! Small bodies, which are nearly all, cost nothing here. A larger one takes its share before more of it is read, a
//! listing before its page is made, and waits for it within the request's time limit; the share is given back when the
//! answer has left. A connection that
//! does not take its answers holds others' memory and is ended.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::backlog::{Backlogs, Held};

/// Bytes of a body that need no share.
pub(super) const FREE: usize = 16 << 10;
/// Bytes of larger bodies at once, altogether.
const ALTOGETHER: usize = 64 << 20;
/// Bytes of larger bodies at once on one connection: half a dozen of the largest.
const PER_CONNECTION: usize = 6 << 20;
/// How long a share may be held: as long as a request may take, and half a minute to take its answer.
pub(super) const LONGEST: Duration = Duration::from_secs(45);

/// Unit of the semaphores, whose permits are counted in 32 bits.
const UNIT: usize = 1 << 10;

/// The memory that all connections share.
pub(super) struct Memory {
    shares: Arc<Semaphore>,
    /// What needs no share.
    pub(super) backlogs: Arc<Backlogs>,
}

/// What one connection may take of it.
#[derive(Clone)]
pub(super) struct Allowance {
    altogether: Arc<Semaphore>,
    own: Arc<Semaphore>,
    held: Arc<Mutex<Shares>>,
    /// What needs no share.
    pub(super) small: Held,
}

/// When each share that is held was taken, the oldest first.
#[derive(Default)]
struct Shares {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

/// Memory that is taken until this is dropped.
pub(super) struct Share {
    number: u64,
    held: Arc<Mutex<Shares>>,
    permits: [OwnedSemaphorePermit; 2],
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { shares: Arc::new(Semaphore::new(ALTOGETHER / UNIT)), backlogs: Arc::default() }
    }

    /// What a new connection may take.
    pub(super) fn allowance(&self) -> Allowance {
        Allowance {
            altogether: Arc::clone(&self.shares),
            own: Arc::new(Semaphore::new(PER_CONNECTION / UNIT)),
            held: Arc::default(),
            small: Held::default(),
        }
    }
}

impl Allowance {
    /// Takes a share for `bytes`; waits while there is not enough. `None` for what nobody may have at once.
    pub(super) async fn take(&self, bytes: usize) -> Option<Share> {
        let units = u32::try_from(bytes.min(PER_CONNECTION).div_ceil(UNIT)).ok()?;
        // one's own first: whoever waits for others holds nothing that others wait for
        let own = Arc::clone(&self.own).acquire_many_owned(units).await.ok()?;
        let altogether = Arc::clone(&self.altogether).acquire_many_owned(units).await.ok()?;
        let mut held = lock(&self.held);
        let number = held.next;
        held.next += 1;
        held.since.insert(number, Instant::now());
        drop(held);
        Some(Share { number, held: Arc::clone(&self.held), permits: [own, altogether] })
    }

    /// Whether a share is held for longer than any well-behaved client would.
    pub(super) fn is_overdrawn(&self) -> bool {
        lock(&self.held).since.first_key_value().is_some_and(|(_, since)| since.elapsed() > LONGEST)
    }
}

impl Share {
    /// How much it is.
    pub(super) fn bytes(&self) -> usize {
        self.permits[0].num_permits() * UNIT
    }

    /// As much of it as `bytes` need; nothing for a small answer.
    pub(super) fn for_answer(mut self, bytes: usize) -> Option<Self> {
        if bytes <= FREE {
            return None;
        }
        let units = bytes.div_ceil(UNIT);
        for permit in &mut self.permits {
            drop(permit.split(permit.num_permits().saturating_sub(units)));
        }
        Some(self)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        lock(&self.held).since.remove(&self.number);
    }
}

fn lock(held: &Mutex<Shares>) -> MutexGuard<'_, Shares> {
    // insertions and removals are whole
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn one_connection_waits_for_its_own_answers_and_all_wait_for_each_others() {
        let memory = Memory::new();
        let mut all = Vec::new();
        while memory.shares.available_permits() >= PER_CONNECTION / UNIT {
            let one = memory.allowance();
            let share = one.take(PER_CONNECTION).await.unwrap();
            assert!(poll!(pin!(one.take(1))).is_pending(), "its own limit");
            all.push(share);
        }
        let other = memory.allowance();
        let mut waiting = pin!(other.take(PER_CONNECTION));
        assert!(poll!(&mut waiting).is_pending(), "the limit of all");
        all.pop();
        assert!(poll!(&mut waiting).is_ready());
    }

    #[tokio::test]
    async fn an_answer_keeps_of_its_share_what_it_needs() {
        let memory = Memory::new();
        let one = memory.allowance();
        let free = || memory.shares.available_permits();
        let all = free();
        let large = one.take(1 << 20).await.unwrap().for_answer(100_000).unwrap();
        assert_eq!((all - free(), large.bytes()), (98, 98 << 10));
        assert!(one.take(1 << 20).await.unwrap().for_answer(FREE).is_none());
        drop(large);
        assert_eq!(free(), all);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_holds_an_answer_for_too_long_is_noticed() {
        let connection = Memory::new().allowance();
        let share = connection.take(1 << 20).await;
        tokio::time::advance(LONGEST).await;
        assert!(!connection.is_overdrawn());
        let later = connection.take(1 << 20).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(connection.is_overdrawn());
        drop(share);
        assert!(!connection.is_overdrawn());
        drop(later);
    }
}
