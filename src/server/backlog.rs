//! What HTTP/2 connections hold that needs no share of memory: requests on their way and answers that nobody took yet.
//!
//! Nearly all of it is gone as soon as it is there, so nothing waits and nothing is locked for it: each connection counts
//! its own, and looks at the sum when it has nothing left to do. What exceeds a small part of its own then is counted
//! with that of all others. When all together is too much, somebody keeps answers from leaving or requests from
//! completing on purpose: the identity that holds most loses the connection that holds most. It is ended at once, since
//! whoever reads nothing hears no goodbye.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::admission::Guest;
use crate::api::Identity;

/// What a request costs beside its bytes: its state here and in the libraries below.
const REQUEST: usize = 6 << 10;
/// What each connection may hold without being counted with others.
const OWN: usize = 16 << 10;
/// What all connections may hold beyond that.
const ALTOGETHER: usize = 64 << 20;
/// Steps in which connections are counted with others.
const STEP: usize = 16 << 10;
/// How often at most the log says that somebody had to leave.
const TELL: Duration = Duration::from_secs(60);

/// What all connections hold.
#[derive(Default)]
pub(super) struct Backlogs {
    state: Mutex<State>,
    next: AtomicU64,
    closed: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Sum of what is in `over`.
    total: usize,
    /// Connections that hold more than their own part.
    over: BTreeMap<u64, Entry>,
    told: Option<Instant>,
}

struct Entry {
    /// Who is connected; all who were allowed nothing yet are one.
    identity: Option<Identity>,
    bytes: usize,
    end: CancellationToken,
}

/// Bytes that one connection holds now.
#[derive(Clone, Default)]
pub(super) struct Held(Arc<AtomicUsize>);

/// A part of that, until it is dropped.
pub(super) struct Counted {
    held: Held,
    bytes: usize,
}

/// One connection's place among all.
pub(super) struct Backlog {
    all: Arc<Backlogs>,
    held: Held,
    guest: Arc<Guest>,
    number: u64,
    /// What it is counted with.
    over: usize,
}

impl Held {
    /// Counts `bytes`.
    pub(super) fn count(&self, bytes: usize) -> Counted {
        self.0.fetch_add(bytes, Relaxed);
        Counted { held: self.clone(), bytes }
    }

    /// Whether nothing is held.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    /// Counts a request whose header has `bytes`.
    pub(super) fn request(&self, bytes: usize) -> Counted {
        self.count(REQUEST + bytes)
    }
}

impl Counted {
    /// Counts `bytes` more.
    pub(super) fn add(&mut self, bytes: usize) {
        self.held.0.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
    }

    /// Counts the answer of `bytes` instead of the request.
    pub(super) fn answered(&mut self, bytes: usize) {
        let bytes = REQUEST + bytes;
        if let Some(less) = self.bytes.checked_sub(bytes) {
            self.held.0.fetch_sub(less, Relaxed);
            self.bytes = bytes;
        } else {
            self.add(bytes - self.bytes);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.bytes, Relaxed);
    }
}

impl Backlog {
    pub(super) fn new(all: &Arc<Backlogs>, held: Held, guest: Arc<Guest>) -> Self {
        let number = all.next.fetch_add(1, Relaxed);
        Self { all: Arc::clone(all), held, guest, number, over: 0 }
    }

    /// Counts what is held now that nothing is left to do.
    pub(super) fn settle(&mut self) {
        let over = over(self.held.0.load(Relaxed));
        if over != self.over {
            self.over = over;
            self.all.set(self.number, self.guest.identity(), over, self.guest.end());
        }
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        if self.over > 0 {
            self.all.lock().remove(self.number);
        }
    }
}

/// What of `bytes` is counted with others.
fn over(bytes: usize) -> usize {
    bytes.saturating_sub(OWN).next_multiple_of(STEP)
}

impl Backlogs {
    /// Bytes that are held beyond what connections may hold uncounted.
    pub(super) fn bytes(&self) -> usize {
        self.lock().total
    }

    /// Connections that were ended because all together held too much, ever.
    pub(super) fn closed(&self) -> u64 {
        self.closed.load(Relaxed)
    }

    /// Notes that connection `number` holds `bytes`, and ends connections through `end` as long as all hold too much.
    fn set(&self, number: u64, identity: Option<&Identity>, bytes: usize, end: &CancellationToken) {
        let mut state = self.lock();
        state.remove(number);
        // what is about to end is counted no more
        if bytes == 0 || end.is_cancelled() {
            return;
        }
        state.total += bytes;
        state.over.insert(number, Entry { identity: identity.cloned(), bytes, end: end.clone() });
        while state.total > ALTOGETHER {
            let Some(entry) = state.heaviest().and_then(|number| state.remove(number)) else { return };
            entry.end.cancel();
            self.closed.fetch_add(1, Relaxed);
            if state.told.is_none_or(|told| told.elapsed() >= TELL) {
                state.told = Some(Instant::now());
                tracing::warn!(
                    identity = entry.identity.as_ref().map_or("(allowed nothing yet)", Identity::as_str),
                    closed = self.closed(),
                    "answers that are not read take too much memory: connections of whoever holds most are ended"
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // every change of the state is complete before anything can panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.over.remove(&number)?;
        self.total -= entry.bytes;
        Some(entry)
    }

    /// Of the identity that holds most, the connection that holds most.
    fn heaviest(&self) -> Option<u64> {
        let mut sums = HashMap::<_, usize>::new();
        for entry in self.over.values() {
            *sums.entry(entry.identity.as_ref()).or_default() += entry.bytes;
        }
        let (who, _) = sums.into_iter().max_by_key(|(_, sum)| *sum)?;
        let of = self.over.iter().filter(|(_, entry)| entry.identity.as_ref() == who);
        of.max_by_key(|(_, entry)| entry.bytes).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Sets what connections of `whose` hold, each as many MiB as told, and returns which of them may stay.
    fn stay(all: &Backlogs, whose: &[(&str, usize)]) -> Vec<bool> {
        let ends: Vec<_> = whose.iter().map(|_| CancellationToken::new()).collect();
        for (number, ((who, mib), end)) in whose.iter().zip(&ends).enumerate() {
            let identity = (!who.is_empty()).then(|| Identity::new(who).unwrap());
            all.set(number as u64, identity.as_ref(), mib * MIB, end);
        }
        ends.iter().map(|end| !end.is_cancelled()).collect()
    }

    #[test]
    fn whoever_holds_most_altogether_loses_its_largest_and_others_nothing() {
        let all = Backlogs::default();
        let whose = [("app", 8), ("greedy", 5), ("greedy", 7), ("greedy", 6), ("other", 30), ("greedy", 7)];
        assert_eq!(stay(&all, &whose), [true; 6], "63 of 64 MiB");
        let whose = [("app", 9), ("greedy", 12), ("greedy", 13), ("greedy", 12), ("app", 9), ("app", 10)];
        let all = Backlogs::default();
        assert_eq!(stay(&all, &whose), [true, true, false, true, true, true]);
        assert_eq!((all.bytes(), all.closed()), (52 * MIB, 1));
    }

    #[test]
    fn strangers_are_one_and_as_many_leave_as_must() {
        let all = Backlogs::default();
        let whose = [("app", 20), ("", 15), ("", 15), ("app", 60)];
        assert_eq!(stay(&all, &whose), [true, true, true, false], "the newcomer may be the one");
        assert!(all.bytes() <= ALTOGETHER);
        let all = Backlogs::default();
        assert_eq!(stay(&all, &[("app", 20), ("", 15), ("", 14), ("", 16)]), [true, true, true, false]);
    }

    #[test]
    fn what_was_ended_is_counted_no_more() {
        let (all, end) = (Backlogs::default(), CancellationToken::new());
        all.set(1, None, ALTOGETHER + 1, &end);
        assert!(end.is_cancelled());
        all.set(1, None, ALTOGETHER + 2, &end);
        assert_eq!((all.bytes(), all.closed()), (0, 1));
    }

    #[test]
    fn a_connection_is_counted_with_others_from_16_kib_on_and_until_it_holds_less() {
        assert_eq!([0, OWN, OWN + 1, OWN + STEP + 1].map(over), [0, 0, STEP, 2 * STEP]);
        let held = Held::default();
        let mut one = held.request(100);
        one.add(7);
        let other = held.count(5);
        assert_eq!(held.0.load(Relaxed), REQUEST + 112);
        for answer in [0, 1000, 10] {
            one.answered(answer);
            assert_eq!(held.0.load(Relaxed), REQUEST + answer + 5);
        }
        drop((one, other));
        assert_eq!(held.0.load(Relaxed), 0);
    }
}
