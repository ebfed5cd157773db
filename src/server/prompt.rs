//! A future that wakes itself while it is polled is polled again at once, instead of its task being queued again.
//!
//! hyper wakes its connection's task whenever a request's body is asked for, arrives, or an answer is ready; all of that
//! happens while that very task runs. The runtime would queue the task and, since there is work in a queue, wake a
//! sleeping thread to help with it: two context switches for each request of a client that sends one at a time.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

/// Whoever wakes has to wake the task.
const IDLE: u8 = 0;
/// Whoever wakes only has to say so.
const POLLED: u8 = 1;
/// Somebody said so.
const WOKEN: u8 = 2;
/// Polls in a row before other tasks get their turn.
const MOST: usize = 8;

/// Takes wake-ups in place of the task.
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self.state.compare_exchange(POLLED, WOKEN, Ordering::AcqRel, Ordering::Acquire);
        if noted == Err(IDLE) {
            self.task.wake();
        }
    }
}

/// See the module.
pub(super) struct Prompt<F> {
    pub(super) future: F,
    bell: Arc<Bell>,
    waker: Waker,
}

impl<F> Prompt<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { state: AtomicU8::new(IDLE), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&bell));
        Self { future, bell, waker }
    }
}

impl<F: Future + Unpin> Future for Prompt<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, bell, waker } = self.get_mut();
        // before the state says that the task is to be woken
        bell.task.register(cx.waker());
        for _ in 0..MOST {
            bell.state.store(POLLED, Ordering::Release);
            if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            if bell.state.compare_exchange(POLLED, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Poll::Pending;
            }
        }
        bell.state.store(IDLE, Ordering::Release);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        thread,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// Polls `prompt` once; how often the task was woken meanwhile.
    fn poll_once<F: Future + Unpin>(prompt: &mut Prompt<F>) -> (Poll<F::Output>, Arc<Count>) {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        (Pin::new(prompt).poll(&mut Context::from_waker(&waker)), count)
    }

    #[test]
    fn what_wakes_itself_is_polled_again_without_its_task_being_woken() {
        let mut polls = 0;
        let mut prompt = Prompt::new(poll_fn(|cx| {
            polls += 1;
            if polls == 3 {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        let (polled, woken) = poll_once(&mut prompt);
        assert_eq!((polled, woken.0.load(Relaxed)), (Poll::Ready(()), 0));
    }

    #[test]
    fn what_never_rests_lets_others_have_their_turn() {
        let mut polls = 0;
        let mut prompt = Prompt::new(poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let (polled, woken) = poll_once(&mut prompt);
        assert_eq!((polled, woken.0.load(Relaxed)), (Poll::Pending, 1));
        drop(prompt);
        assert_eq!(polls, MOST);
    }

    #[test]
    fn what_is_woken_later_wakes_the_task_that_polled_it_last() {
        let inner = Arc::new(AtomicWaker::new());
        let mut prompt = Prompt::new(poll_fn(|cx| {
            inner.register(cx.waker());
            Poll::<()>::Pending
        }));
        let (_, first) = poll_once(&mut prompt);
        let (_, second) = poll_once(&mut prompt);
        inner.wake();
        assert_eq!((first.0.load(Relaxed), second.0.load(Relaxed)), (0, 1));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_wake_up_from_another_thread_is_lost() {
        const ROUNDS: usize = 20_000;
        let (level, inner) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicWaker::new()));
        let (reached, seen) = (Arc::clone(&level), Arc::new(AtomicUsize::new(0)));
        let (bell, progress) = (Arc::clone(&inner), Arc::clone(&seen));
        let other = thread::spawn(move || {
            for round in 1..=ROUNDS {
                level.store(round, Ordering::SeqCst);
                inner.wake();
                // the next only when this one was noticed, so that each of them counts
                while seen.load(Ordering::SeqCst) < round {
                    thread::yield_now();
                }
            }
        });
        let prompt = Prompt::new(poll_fn(move |cx| {
            bell.register(cx.waker());
            let now = reached.load(Ordering::SeqCst);
            progress.store(now, Ordering::SeqCst);
            if now == ROUNDS { Poll::Ready(()) } else { Poll::Pending }
        }));
        tokio::time::timeout(std::time::Duration::from_secs(60), prompt).await.unwrap();
        other.join().unwrap();
    }
}
