//! What requests in flight and answers that nobody has read hold: little each, but there may be hundreds on each of
//! thousands of HTTP/2 connections.
//!
//! A connection may always hold a little; what it holds beyond that comes out of one budget of all, in units, so that the
//! data plane rarely touches what connections share. Nobody waits for it: who gets nothing is refused, and so holds nothing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;

/// Bytes that every connection may hold.
pub(super) const EACH: usize = 64 << 10;
/// Bytes beyond that of all connections together.
const ALTOGETHER: usize = 64 << 20;
/// In which the budget of all is taken.
const UNIT: usize = 16 << 10;
/// What a request takes besides the bytes of its header and body, with an answer of up to `SMALL`: its future, its stream in the
/// library, the map of its header.
const REQUEST: usize = 5 << 10;
/// Bytes of an answer that come with its request.
const SMALL: usize = 1 << 10;

/// The budget of all connections.
#[derive(Default)]
pub(super) struct Flights(Arc<AtomicUsize>);

/// What one connection holds.
pub(super) struct Flight {
    /// Units that all connections took.
    all: Arc<AtomicUsize>,
    held: AtomicUsize,
    refused: AtomicBool,
    moved: AtomicBool,
}

/// What one request holds, until its answer has left.
pub(super) struct Hold {
    flight: Arc<Flight>,
    bytes: usize,
}

impl Flights {
    /// What a new connection holds.
    pub(super) fn connection(&self) -> Arc<Flight> {
        Arc::new(Flight {
            all: Arc::clone(&self.0),
            held: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
            moved: AtomicBool::new(false),
        })
    }
}

impl Flight {
    /// A request of so many bytes came; `None` when there is no room for it.
    pub(super) fn begin(self: &Arc<Self>, bytes: usize) -> Option<Hold> {
        let mut hold = Hold { flight: Arc::clone(self), bytes: 0 };
        hold.grow(REQUEST + bytes).then_some(hold)
    }

    /// Whether something was refused since this was asked last.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.swap(false, Relaxed)
    }

    /// Whether it holds more than everybody may, and gave nothing of it back since this was asked last.
    pub(super) fn is_stuck(&self) -> bool {
        !self.moved.swap(false, Relaxed) && self.held.load(Relaxed) > EACH
    }

    fn take(&self, bytes: usize) -> bool {
        let held = self.held.fetch_add(bytes, Relaxed);
        // Each step takes the difference between what was held and what is: however steps of several tasks interleave,
        // their sum is right.
        let more = units(held + bytes) - units(held);
        if more > 0 && self.all.fetch_add(more, Relaxed) + more > ALTOGETHER / UNIT {
            self.give(bytes);
            self.refused.store(true, Relaxed);
            return false;
        }
        true
    }

    fn give(&self, bytes: usize) {
        let held = self.held.fetch_sub(bytes, Relaxed);
        let less = units(held) - units(held - bytes);
        if less > 0 {
            self.all.fetch_sub(less, Relaxed);
        }
    }
}

impl Hold {
    fn grow(&mut self, bytes: usize) -> bool {
        let is_taken = self.flight.take(bytes);
        if is_taken {
            self.bytes += bytes;
        }
        is_taken
    }

    /// `answer`, which holds this for as long as anybody holds it; `None` when there is no room for it. What of it is
    /// beyond `counted` is counted elsewhere.
    pub(super) fn attach(mut self, answer: Bytes, counted: usize) -> Option<Bytes> {
        struct Held(Bytes, #[expect(dead_code, reason = "held, not read")] Hold);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        if answer.is_empty() {
            return Some(answer);
        }
        let more = answer.len().min(counted).saturating_sub(SMALL);
        (more == 0 || self.grow(more)).then(|| Bytes::from_owner(Held(answer, self)))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.flight.give(self.bytes);
        self.flight.moved.store(true, Relaxed);
    }
}

fn units(held: usize) -> usize {
    held.saturating_sub(EACH).div_ceil(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize) -> Bytes {
        vec![7; bytes].into()
    }

    #[test]
    fn everybody_has_a_little_and_shares_the_rest() {
        let all = Flights::default();
        let greedy = all.connection();
        let mut held = Vec::new();
        while let Some(hold) = greedy.begin(0) {
            held.push(hold.attach(answer(16 << 10), 16 << 10));
        }
        let bytes = held.iter().flatten().map(Bytes::len).sum::<usize>();
        assert!((ALTOGETHER * 3 / 4..=ALTOGETHER + EACH).contains(&bytes), "{bytes}");
        assert!(greedy.was_refused() && !greedy.was_refused());
        // others still have what is everybody's
        let other = all.connection();
        let few: Vec<_> = std::iter::from_fn(|| other.begin(0)).collect();
        assert_eq!(few.len(), EACH / REQUEST);
        drop((few, held));
        assert_eq!(all.0.load(Relaxed), 0);
        assert_eq!(greedy.held.load(Relaxed) + other.held.load(Relaxed), 0);
    }

    #[test]
    fn an_answer_is_held_until_nobody_has_it() {
        let all = Flights::default();
        let one = all.connection();
        let body = one.begin(200).unwrap().attach(answer(5000), 16 << 10).unwrap();
        assert_eq!((&body[..], one.held.load(Relaxed)), (&[7; 5000][..], 200 + REQUEST + 5000 - SMALL));
        drop(body);
        assert_eq!(one.held.load(Relaxed), 0);
        let large = one.begin(0).unwrap().attach(answer(1 << 20), 16 << 10).unwrap();
        assert_eq!(one.held.load(Relaxed), REQUEST + (16 << 10) - SMALL, "its share counts the rest");
        drop(large);
    }

    #[test]
    fn steps_of_several_tasks_add_up() {
        let all = Flights::default();
        let one = all.connection();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..20_000 {
                        drop(one.begin(n % 30_000));
                    }
                });
            }
        });
        assert_eq!((all.0.load(Relaxed), one.held.load(Relaxed)), (0, 0));
    }

    #[test]
    fn whoever_reads_nothing_is_stuck_and_whoever_reads_is_not() {
        let one = Flights::default().connection();
        let held: Vec<_> = (0..40).filter_map(|_| one.begin(0)).collect();
        assert!(one.is_stuck());
        drop(one.begin(0));
        assert!(!one.is_stuck() && one.is_stuck());
        drop(held);
        assert!(!one.is_stuck() && !one.is_stuck());
    }
}
