//! The bounded, ordered way from requests to the sink.

use std::{
    cell::RefCell,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Event, Feed, Sink};

/// Most bytes that wait for the sink. What comes while they are full is dropped, except for mutations.
const MAX_WAITING: usize = 4 << 20;
/// From so many on no further change is to be begun: its line would wait behind a sink that is stuck.
const MAX_CHANGES: usize = 2 * MAX_WAITING;
/// And so many wait at most, with the lines of changes that had begun by then.
const MAX_ALL: usize = 4 * MAX_WAITING;
/// How long a sink that failed is left alone.
const REST: Duration = Duration::from_millis(250);
/// How long lines of the data plane may wait for company, so that the sink is not called for each.
const GATHER: Duration = Duration::from_millis(10);

/// Takes events from many threads; cheap to clone.
#[derive(Clone)]
pub struct AuditLog {
    sink: Option<Arc<Shared>>,
    feed: Arc<Feed>,
    /// Events that no sink takes.
    unwritten: Arc<AtomicU64>,
}

/// The line of a mutation could not be written, so the mutation must not be answered as done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("failed to write the audit record")]
pub struct AuditError;

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    events: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    lines: u64,
    /// Mutations among `waiting`.
    urgent: Vec<oneshot::Sender<()>>,
    /// The sink refused what it was given last, which is kept and tried again.
    failing: bool,
    closing: bool,
    /// Nobody writes any more.
    closed: bool,
    /// Lines were given up when it was closed.
    lost: bool,
}

impl AuditLog {
    /// A log that keeps nothing; it can only be followed.
    #[must_use]
    pub fn none() -> Self {
        Self { sink: None, feed: Arc::default(), unwritten: Arc::default() }
    }

    /// A log into `sink`, with a thread that writes.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn new(sink: impl Sink + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            events: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(sink))?;
        Ok(Self { sink: Some(shared), feed: Arc::default(), unwritten: Arc::default() })
    }

    /// Notes `event`, some milliseconds later on its way to the sink. Never blocks on the sink.
    pub fn record(&self, event: &Event<'_>) {
        self.feed_with(event);
        let Some(shared) = &self.sink else {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
            return;
        };
        LINE.with_borrow_mut(|line| {
            line.clear();
            event.write(line);
            shared.push(line);
        });
    }

    /// Whether a change may begin; false while the sink fails, or is stuck and has left too much waiting to note one more.
    #[must_use]
    pub fn takes_changes(&self) -> bool {
        self.sink.as_ref().is_none_or(|shared| {
            let state = shared.lock();
            !state.failing && state.waiting.len() < MAX_CHANGES
        })
    }

    /// Notes `event` and waits until the sink has it.
    ///
    /// # Errors
    /// When the sink refused it, in which case it is tried again later, or so much waits for it that nothing more is
    /// taken. A sink that is stuck is waited for; the caller sets the limit.
    pub async fn record_now(&self, event: &Event<'_>) -> Result<(), AuditError> {
        self.feed_with(event);
        let Some(shared) = &self.sink else {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        let written = {
            let (done, written) = oneshot::channel();
            let mut state = shared.lock();
            if state.closed || state.waiting.len() >= MAX_ALL {
                shared.dropped.fetch_add(1, Ordering::Relaxed);
                return Err(AuditError);
            }
            event.write(&mut state.waiting);
            state.lines += 1;
            if state.failing {
                return Err(AuditError);
            }
            state.urgent.push(done);
            written
        };
        shared.wake.notify_one();
        written.await.map_err(|_| AuditError)
    }

    /// Where events can be followed as they come, each with the others of its enclave.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    fn feed_with(&self, event: &Event<'_>) {
        if let Some(enclave) = event.enclave
            && self.feed.is_followed()
        {
            let mut line = Vec::with_capacity(512);
            event.write(&mut line);
            self.feed.publish(enclave, &line);
        }
    }

    /// Lines that reached the sink; without one, all events, as KES counts them.
    #[must_use]
    pub fn events(&self) -> u64 {
        let counter = self.sink.as_ref().map_or(&*self.unwritten, |shared| &shared.events);
        counter.load(Ordering::Relaxed)
    }

    /// Lines that did not, because the sink was stuck or failed for too long.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.sink.as_ref().map_or(0, |shared| shared.dropped.load(Ordering::Relaxed))
    }

    /// Writes what waits and ends; gives a stuck sink `patience`. Returns whether everything was written.
    #[must_use]
    pub fn close(&self, patience: Duration) -> bool {
        let Some(shared) = &self.sink else { return true };
        let end = Instant::now() + patience;
        let mut state = shared.lock();
        state.closing = true;
        shared.wake.notify_all();
        while !state.closed {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return false };
            state = shared.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        !state.lost
    }
}

thread_local! {
    /// Where a line is written before the lock is taken for a copy of it.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Shared {
    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() >= MAX_WAITING {
            drop(state);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        state.lines += 1;
        drop(state);
        if first {
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // every change of the state is complete before anything can panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut sink: impl Sink) {
        let mut lines = Vec::new();
        while let Some((count, urgent)) = self.gather(&mut lines) {
            match written(&mut sink, &lines, !urgent.is_empty()) {
                Ok(()) => {
                    self.events.fetch_add(count, Ordering::Relaxed);
                    // one who no longer waits needs no answer
                    for done in urgent {
                        let _ = done.send(());
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "failed to write audit records; they are kept, and no change is made meanwhile");
                    self.lock().failing = true;
                    // whoever waits is told at once
                    drop(urgent);
                    if !self.tried_again(&mut sink, &lines) {
                        self.give_up(count);
                        return;
                    }
                    self.events.fetch_add(count, Ordering::Relaxed);
                    self.lock().failing = false;
                    tracing::info!("audit records are written again");
                }
            }
            lines.clear();
        }
    }

    /// Takes what waits, once there is something and it had its time to find company: how many lines, and who waits for
    /// them. `None` when there will be nothing more.
    fn gather(&self, lines: &mut Vec<u8>) -> Option<(u64, Vec<oneshot::Sender<()>>)> {
        let mut state = self.lock();
        while state.waiting.is_empty() && !state.closing {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.waiting.is_empty() {
            state.closed = true;
            self.wake.notify_all();
            return None;
        }
        let end = Instant::now() + GATHER;
        while state.urgent.is_empty() && !state.closing {
            let Some(left) = end.checked_duration_since(Instant::now()) else { break };
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(lines, &mut state.waiting);
        Some((std::mem::take(&mut state.lines), std::mem::take(&mut state.urgent)))
    }

    /// Tries until `lines` are written; false when the log is closed before that.
    fn tried_again(&self, sink: &mut impl Sink, lines: &[u8]) -> bool {
        loop {
            let end = Instant::now() + REST;
            let mut state = self.lock();
            while !state.closing {
                let Some(left) = end.checked_duration_since(Instant::now()) else { break };
                state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let is_last = state.closing;
            drop(state);
            if written(sink, lines, true).is_ok() {
                return true;
            }
            if is_last {
                return false;
            }
        }
    }

    /// Ends with `count` lines in hand that could not be written.
    fn give_up(&self, count: u64) {
        let mut state = self.lock();
        let lost = count + std::mem::take(&mut state.lines);
        state.waiting.clear();
        (state.closed, state.lost) = (true, true);
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        tracing::error!(lost, "audit records are lost: the sink failed to the end");
        self.wake.notify_all();
    }
}

fn written(sink: &mut impl Sink, lines: &[u8], durably: bool) -> std::io::Result<()> {
    sink.write(lines).and_then(|()| if durably { sink.sync() } else { Ok(()) })
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
