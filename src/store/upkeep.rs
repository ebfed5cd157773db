//! What the records need in the background: tables are merged, and records of deleted enclaves removed.
//!
//! One thread. It never ends because of what it meets: a table that cannot be merged is still read, record by record.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use lsm_tree::{AbstractTree, compaction::Leveled};

use super::{StoreError, records::Shared, tree::Step};

/// Merges after one call: enough to keep up, few enough to stop soon.
const MERGES: usize = 4;
/// Records of deleted enclaves that are removed at once, and the pause after that.
const SWEEP: usize = 1_000;
const PAUSE: Duration = Duration::from_millis(10);
/// How long to leave it alone after something failed.
const RETRY: Duration = Duration::from_secs(10);

/// The thread. It ends when this is told to, or dropped, which waits for the step it is in.
pub(super) struct Upkeep {
    running: Mutex<Option<Running>>,
}

struct Running {
    calls: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Upkeep {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (calls, called) = sync_channel(1);
        let thread =
            std::thread::Builder::new().name("kes-upkeep".into()).spawn(move || run(&shared, &called))?;
        Ok(Self { running: Mutex::new(Some(Running { calls, thread })) })
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something to do.
    pub(super) fn wake(&self) {
        if let Some(running) = &*self.running() {
            // full: it is about to look anyway
            let _ = running.calls.try_send(());
        }
    }

    /// Ends it. Blocks.
    pub(super) fn end(&self) {
        if let Some(Running { calls, thread }) = self.running().take() {
            drop(calls);
            let _ = thread.join();
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(shared: &Shared, called: &Receiver<()>) {
    let strategy = Arc::new(Leveled::default());
    // what an earlier life left
    let mut pause = Duration::ZERO;
    loop {
        match called.recv_timeout(pause) {
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
        }
        let merge = || {
            for _ in 0..MERGES {
                let merge = || shared.tree.compact(Arc::clone(&strategy) as _, shared.oldest_moment());
                shared.files.write(&shared.tree, Step::Merge, merge)?;
            }
            Ok::<(), StoreError>(())
        };
        let panicked = |_| Err(StoreError::at("merge")(lsm_tree::Error::Unrecoverable));
        let merged = catch_unwind(AssertUnwindSafe(merge)).unwrap_or_else(panicked);
        if let Err(error) = &merged {
            tracing::error!(%error, "tables of records cannot be merged: they are read as they are");
        }
        let swept = shared.sweep(SWEEP);
        if let Err(error) = &swept {
            tracing::error!(%error, "records of deleted enclaves cannot be removed yet");
        }
        // whoever failed to write them may not try again
        let written = if shared.is_failing() { shared.persist() } else { Ok(()) };
        pause = match (merged.and(written), swept) {
            (Ok(()), Ok(true)) => PAUSE,
            (Ok(()), Ok(false)) => Duration::from_secs(3600),
            _ => RETRY,
        };
    }
}
