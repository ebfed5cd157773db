//! Who follows the lines of one enclave as they come. Whoever reads too slowly misses lines; nobody waits for a reader.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::api::EnclaveName;

/// Lines that wait for one reader at most.
const WAITING: usize = 512;
/// Readers at once; they may have at most half a gigabyte waiting if all lines are as long as a header may be.
const READERS: usize = 64;

/// Lines on their way to whoever follows them.
#[derive(Default)]
pub struct Feed {
    readers: Mutex<Vec<Reader>>,
    /// So that nobody takes the lock when nobody follows.
    count: AtomicUsize,
    dropped: AtomicU64,
}

struct Reader {
    enclave: EnclaveName,
    send: mpsc::Sender<Bytes>,
}

/// The lines of one enclave from now on. Dropping it ends it.
pub struct Subscription {
    feed: Arc<Feed>,
    receive: mpsc::Receiver<Bytes>,
}

/// As many follow as may.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("too many log streams are open: {READERS} at most; close one and try again")]
pub struct TooManyReaders;

impl Feed {
    /// The lines of `enclave` from now on.
    ///
    /// # Errors
    /// [`TooManyReaders`].
    pub fn follow(self: &Arc<Self>, enclave: &EnclaveName) -> Result<Subscription, TooManyReaders> {
        let mut readers = self.lock();
        if readers.len() >= READERS {
            return Err(TooManyReaders);
        }
        let (send, receive) = mpsc::channel(WAITING);
        readers.push(Reader { enclave: enclave.clone(), send });
        self.count.store(readers.len(), Relaxed);
        Ok(Subscription { feed: Arc::clone(self), receive })
    }

    /// Whether anybody follows anything: if not, lines need not be made.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// Hands `line`, which ends in a newline, to whoever follows `enclave`.
    pub fn publish(&self, enclave: &EnclaveName, line: &[u8]) {
        let mut copy = None;
        for reader in self.lock().iter().filter(|reader| reader.enclave == *enclave) {
            let line = copy.get_or_insert_with(|| Bytes::copy_from_slice(line)).clone();
            if let Err(mpsc::error::TrySendError::Full(_)) = reader.send.try_send(line) {
                self.dropped.fetch_add(1, Relaxed);
            }
        }
    }

    /// Lines that readers missed because they were too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// The next line, and what else waits, up to about `most` bytes.
    pub async fn next(&mut self, most: usize) -> Bytes {
        // the feed that holds the sender lives as long as this
        let first = self.receive.recv().await.unwrap_or_default();
        let Ok(second) = self.receive.try_recv() else { return first };
        let mut lines = [first, second].concat();
        while lines.len() < most
            && let Ok(line) = self.receive.try_recv()
        {
            lines.extend_from_slice(&line);
        }
        lines.into()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.receive.close();
        let mut readers = self.feed.lock();
        readers.retain(|reader| !reader.send.is_closed());
        self.feed.count.store(readers.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enclave(name: &str) -> EnclaveName {
        EnclaveName::new(name).unwrap()
    }

    #[tokio::test]
    async fn a_reader_gets_the_lines_of_its_enclave_in_order_and_no_others() {
        let feed = Arc::new(Feed::default());
        assert!(!feed.is_followed());
        feed.publish(&enclave("a"), b"before\n");
        let mut reader = feed.follow(&enclave("a")).unwrap();
        for (name, line) in [("a", "1\n"), ("b", "secret\n"), ("a", "2\n"), ("aa", "secret\n"), ("a", "3\n")]
        {
            feed.publish(&enclave(name), line.as_bytes());
        }
        assert_eq!(reader.next(1 << 20).await, "1\n2\n3\n");
        assert!(feed.is_followed());
        drop(reader);
        assert!(!feed.is_followed());
    }

    #[tokio::test]
    async fn a_slow_reader_misses_lines_that_are_counted_and_blocks_nobody() {
        let feed = Arc::new(Feed::default());
        let (mut slow, mut other) =
            (feed.follow(&enclave("a")).unwrap(), feed.follow(&enclave("b")).unwrap());
        for _ in 0..WAITING + 7 {
            feed.publish(&enclave("a"), b"x\n");
        }
        feed.publish(&enclave("b"), b"y\n");
        assert_eq!(feed.dropped(), 7);
        assert_eq!(other.next(100).await, "y\n");
        let mut got = 0;
        while got < WAITING * 2 {
            got += slow.next(64).await.len();
        }
        feed.publish(&enclave("a"), b"again\n");
        assert_eq!(slow.next(64).await, "again\n");
    }

    #[test]
    fn readers_are_limited_and_those_that_left_make_room() {
        let feed = Arc::new(Feed::default());
        let mut readers: Vec<_> = (0..READERS).map(|_| feed.follow(&enclave("a")).unwrap()).collect();
        assert_eq!(feed.follow(&enclave("a")).err(), Some(TooManyReaders));
        readers.pop();
        assert!(feed.follow(&enclave("b")).is_ok());
    }
}
