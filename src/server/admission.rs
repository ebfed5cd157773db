//! Who may stay when there is not room for all: the door that every connection comes through.
//!
//! A connection is a stranger's until it was allowed something. Strangers have a small part of the room, and the oldest
//! of them leaves when one more comes; so it is with each identity. When the room is full all the same, the identity with
//! most connections loses its oldest. So neither somebody without rights nor one client alone keeps others out, and
//! memory is bounded.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::api::Identity;

/// How often at most the log says that somebody had to leave.
const TELL: Duration = Duration::from_secs(60);
/// How long to wait when the system gives no connection, which is when open files have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Limits {
    /// Altogether; more wait in the kernel's queue.
    pub(super) total: usize,
    /// Of those that were allowed nothing yet.
    pub(super) strangers: usize,
    /// Of one identity.
    pub(super) identity: usize,
}

/// Everybody who is connected through one listener.
pub(super) struct Crowd {
    limits: Limits,
    slots: Arc<Semaphore>,
    state: Mutex<State>,
    /// Connections that were closed to make room.
    closed: AtomicU64,
}

#[derive(Default)]
struct State {
    next: u64,
    strangers: Line,
    known: HashMap<Identity, Line>,
    told: Option<Instant>,
}

/// Connections from the oldest to the newest, and how to ask each to leave.
type Line = BTreeMap<u64, CancellationToken>;

/// A connection that is in no line any more.
struct Leaves {
    whose: &'static str,
    leave: CancellationToken,
}

/// One connection's place in the crowd; given back when dropped.
pub(super) struct Guest {
    crowd: Arc<Crowd>,
    number: u64,
    /// Cancelled with `end` too.
    leave: CancellationToken,
    end: CancellationToken,
    identity: OnceLock<Identity>,
    _slot: OwnedSemaphorePermit,
}

impl Crowd {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            slots: Arc::new(Semaphore::new(limits.total)),
            state: Mutex::default(),
            closed: AtomicU64::new(0),
        })
    }

    /// Connections now, and how many of them are strangers'.
    pub(super) fn count(&self) -> (usize, usize) {
        let state = self.lock();
        (state.count(), state.strangers.len())
    }

    /// Connections that were closed to make room, ever.
    pub(super) fn closed(&self) -> u64 {
        self.closed.load(Relaxed)
    }

    /// Takes one more in, as a stranger, and asks somebody to leave if that makes too many.
    fn admit(self: &Arc<Self>, slot: OwnedSemaphorePermit) -> Guest {
        let end = CancellationToken::new();
        let leave = end.child_token();
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.strangers.insert(number, leave.clone());
        // some room stays free, since who is asked to leave may take some seconds
        let most = self.limits.total - self.limits.total / 16;
        if state.strangers.len() > self.limits.strangers {
            let leaves = state.oldest_stranger();
            self.ask_to_leave(&mut state, leaves);
        } else if state.count() > most {
            // the newcomer must have its chance to become known
            let leaves = state.oldest_of_most().or_else(|| state.oldest_stranger());
            self.ask_to_leave(&mut state, leaves);
        }
        drop(state);
        Guest { crowd: Arc::clone(self), number, leave, end, identity: OnceLock::new(), _slot: slot }
    }

    /// Asks somebody to leave, whoever it is.
    fn make_room(&self) {
        let mut state = self.lock();
        let leaves = state.oldest_stranger().or_else(|| state.oldest_of_most());
        self.ask_to_leave(&mut state, leaves);
    }

    fn ask_to_leave(&self, state: &mut State, leaves: Option<Leaves>) {
        let Some(Leaves { whose, leave }) = leaves else { return };
        leave.cancel();
        self.closed.fetch_add(1, Relaxed);
        if state.told.is_none_or(|told| told.elapsed() >= TELL) {
            state.told = Some(Instant::now());
            let (connections, strangers) = (state.count(), state.strangers.len());
            tracing::warn!(
                connections,
                strangers,
                closed = self.closed(),
                "too many connections: the oldest of {whose} is closed for each new one"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // every change of the state is complete before anything can panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&self) -> usize {
        self.strangers.len() + self.known.values().map(BTreeMap::len).sum::<usize>()
    }

    fn oldest_stranger(&mut self) -> Option<Leaves> {
        let (_, leave) = self.strangers.pop_first()?;
        Some(Leaves { whose: "those that were allowed nothing yet", leave })
    }

    /// The oldest connection of the identity that has most.
    fn oldest_of_most(&mut self) -> Option<Leaves> {
        let (_, leave) = self.known.values_mut().max_by_key(|line| line.len())?.pop_first()?;
        Some(Leaves { whose: "the identity that has most", leave })
    }
}

impl Guest {
    /// Resolves when this connection must make room.
    pub(super) async fn asked_to_leave(&self) {
        self.leave.cancelled().await;
    }

    /// Whom it belongs to, once it was allowed something.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.get()
    }

    /// To be cancelled when it must make room without a goodbye.
    pub(super) fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// Whether it may say goodbye when it must make room: strangers may not.
    pub(super) fn may_say_goodbye(&self) -> bool {
        self.identity.get().is_some() && !self.end.is_cancelled()
    }

    /// From now on this is no stranger: `identity` was allowed something.
    pub(super) fn known_as(&self, identity: &Identity) {
        if self.identity.get().is_some() || self.identity.set(identity.clone()).is_err() {
            return;
        }
        let mut state = self.crowd.lock();
        // absent when it was asked to leave meanwhile
        let Some(leave) = state.strangers.remove(&self.number) else { return };
        let own = state.known.entry(identity.clone()).or_default();
        own.insert(self.number, leave);
        if own.len() > self.crowd.limits.identity {
            let oldest = own.pop_first();
            self.crowd
                .ask_to_leave(&mut state, oldest.map(|(_, leave)| Leaves { whose: "one identity", leave }));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut state = self.crowd.lock();
        let Some(identity) = self.identity.get() else {
            state.strangers.remove(&self.number);
            return;
        };
        if let Some(line) = state.known.get_mut(identity) {
            line.remove(&self.number);
            if line.is_empty() {
                state.known.remove(identity);
            }
        }
    }
}

/// A peer is asked after a minute of silence, and given up after half a minute more.
fn alive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(3)
}

/// A listener with its crowd.
pub(super) struct Door {
    listener: TcpListener,
    crowd: Arc<Crowd>,
    failing: bool,
}

impl Door {
    pub(super) fn new(listener: TcpListener, crowd: Arc<Crowd>) -> Self {
        Self { listener, crowd, failing: false }
    }

    /// The next connection. Safe to cancel.
    pub(super) async fn next(&mut self) -> (TcpStream, SocketAddr, Guest) {
        loop {
            let Ok(slot) = Arc::clone(&self.crowd.slots).acquire_owned().await else {
                // nobody closes the semaphore
                std::future::pending().await
            };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("connections are accepted again");
                    }
                    // small answers shall not wait for company
                    let _ = stream.set_nodelay(true);
                    // a log stream may be silent for hours; when its peer is gone its place must become free
                    let _ = SockRef::from(&stream).set_tcp_keepalive(&alive());
                    return (stream, address, self.crowd.admit(slot));
                }
                Err(error) => {
                    drop(slot);
                    self.explain(&error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn explain(&mut self, error: &io::Error) {
        use rustix::io::Errno;
        let is_out_of_files =
            [Errno::MFILE, Errno::NFILE].contains(&Errno::from_io_error(error).unwrap_or(Errno::IO));
        if is_out_of_files {
            self.crowd.make_room();
        }
        if std::mem::replace(&mut self.failing, true) {
            return;
        }
        if is_out_of_files {
            tracing::error!(
                %error,
                "no connection can be accepted because no more files can be opened; the oldest ones are closed until that \
                 works again. Raise the limit of open files ('ulimit -Hn', or LimitNOFILE= of the service)"
            );
        } else {
            tracing::warn!(%error, "failed to accept a connection; trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(crowd: &Arc<Crowd>) -> Guest {
        crowd.admit(Arc::clone(&crowd.slots).try_acquire_owned().unwrap())
    }

    fn known(crowd: &Arc<Crowd>, who: &str) -> Guest {
        let guest = enter(crowd);
        guest.known_as(&Identity::new(who).unwrap());
        guest
    }

    fn stay(guests: &[Guest]) -> Vec<bool> {
        guests.iter().map(|guest| !guest.leave.is_cancelled()).collect()
    }

    #[tokio::test]
    async fn the_oldest_stranger_leaves_for_a_new_one_and_known_clients_stay() {
        let crowd = Crowd::new(Limits { total: 100, strangers: 2, identity: 100 });
        let friends: Vec<_> = (0..10).map(|_| known(&crowd, "app")).collect();
        let strangers: Vec<_> = (0..4).map(|_| enter(&crowd)).collect();
        assert_eq!(stay(&strangers), [false, false, true, true]);
        assert!(stay(&friends).iter().all(|stays| *stays));
        assert_eq!((crowd.count(), crowd.closed()), ((12, 2), 2));
        drop(strangers);
        assert_eq!(crowd.count(), (10, 0));
        drop(friends);
        assert_eq!(crowd.count(), (0, 0));
    }

    #[tokio::test]
    async fn a_full_room_costs_the_identity_with_most_connections_its_oldest() {
        let crowd = Crowd::new(Limits { total: 16, strangers: 16, identity: 16 });
        let quiet = [known(&crowd, "quiet"), known(&crowd, "quiet")];
        let greedy: Vec<_> = (0..13).map(|_| known(&crowd, "greedy")).collect();
        let late = enter(&crowd);
        assert!(!late.leave.is_cancelled(), "the newcomer has its chance");
        assert!(stay(&quiet).iter().all(|stays| *stays));
        assert_eq!(stay(&greedy), [&[false][..], &[true; 12]].concat(), "the oldest of most");
    }

    #[tokio::test]
    async fn an_identity_has_its_part_of_the_room_and_no_more() {
        let crowd = Crowd::new(Limits { total: 100, strangers: 100, identity: 3 });
        let greedy: Vec<_> = (0..5).map(|_| known(&crowd, "greedy")).collect();
        assert_eq!(stay(&greedy), [false, false, true, true, true]);
        assert_eq!(crowd.count(), (3, 0));
    }

    #[tokio::test]
    async fn whoever_was_asked_to_leave_does_not_come_back_by_being_known() {
        let crowd = Crowd::new(Limits { total: 100, strangers: 1, identity: 100 });
        let guests = [enter(&crowd), enter(&crowd)];
        guests[0].known_as(&Identity::new("late").unwrap());
        assert_eq!(stay(&guests), [false, true]);
        assert_eq!(crowd.count(), (1, 1));
        drop(guests);
        assert_eq!(crowd.count(), (0, 0));
    }
}
