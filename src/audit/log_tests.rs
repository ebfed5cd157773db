//! What the audit log promises while its sink is slow, stuck or gone.

use std::{io, sync::mpsc};

use super::{super::All, *};

fn event(path: &str) -> Event<'_> {
    Event {
        time: jiff::Timestamp::UNIX_EPOCH,
        ip: [127, 0, 0, 1].into(),
        selector: "",
        path,
        identity: None,
        enclave: None,
        action: "CreateKey",
        decision: None,
        rule: None,
        code: 200,
        took: Duration::ZERO,
        id: 1,
    }
}

struct Lines(mpsc::Sender<String>);

impl Sink for Lines {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        for line in std::str::from_utf8(lines).unwrap().lines() {
            self.0.send(line.to_owned()).unwrap();
        }
        Ok(())
    }
}

/// Blocks until its gate is dropped.
struct Stuck(mpsc::Receiver<()>);

impl Sink for Stuck {
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        let _ = self.0.recv();
        Ok(())
    }
}

/// Notes what is asked of it.
struct Noting(mpsc::Sender<&'static str>);

impl Sink for Noting {
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        self.0.send("write").map_err(io::Error::other)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.send("sync").map_err(io::Error::other)
    }
}

#[tokio::test]
async fn the_line_of_a_mutation_is_durable_before_its_answer_and_the_data_plane_waits_for_no_disk() {
    let (send, noted) = mpsc::channel();
    let log = AuditLog::new(Noting(send)).unwrap();
    log.record(&event("/read"));
    assert_eq!(noted.recv_timeout(Duration::from_secs(10)), Ok("write"));
    log.record_now(&event("/change")).await.unwrap();
    assert_eq!(noted.try_iter().collect::<Vec<_>>(), ["write", "sync"]);
    drop(noted);
    assert_eq!(log.record_now(&event("/change")).await, Err(AuditError));
}

/// Refuses everything until it is told to work.
struct Broken(mpsc::Sender<String>, Arc<std::sync::atomic::AtomicBool>);

impl Sink for Broken {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.1.load(Ordering::Relaxed) {
            return Lines(self.0.clone()).write(lines);
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[tokio::test]
async fn a_mutation_waits_for_its_line_and_order_is_kept() {
    let (send, receive) = mpsc::channel();
    let log = AuditLog::new(Lines(send)).unwrap();
    log.record(&event("/1"));
    log.record_now(&event("/2")).await.unwrap();
    let lines: Vec<_> = receive.try_iter().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("\"/1\"") && lines[1].contains("\"/2\""), "{lines:?}");
    assert_eq!((log.events(), log.dropped()), (2, 0));
}

#[test]
fn closing_writes_what_waits() {
    let (send, receive) = mpsc::channel();
    let log = AuditLog::new(Lines(send)).unwrap();
    log.record(&event("/1"));
    assert!(log.close(Duration::from_secs(10)));
    assert_eq!(receive.try_iter().count(), 1);
}

#[tokio::test]
async fn without_a_sink_events_are_counted_all_the_same() {
    let log = AuditLog::none();
    log.record(&event("/a"));
    log.record_now(&event("/b")).await.unwrap();
    assert_eq!((log.events(), log.dropped()), (2, 0));
}

#[test]
fn a_stuck_sink_drops_and_counts_and_never_blocks() {
    let (gate, blocked) = mpsc::channel();
    let log = AuditLog::new(Stuck(blocked)).unwrap();
    let path = "/".repeat(100_000);
    for _ in 0..100 {
        log.record(&event(&path));
    }
    assert!(log.dropped() > 0);
    assert!(!log.close(Duration::from_millis(20)));
    drop(gate);
    assert!(log.close(Duration::from_secs(10)));
    assert_eq!(log.events() + log.dropped(), 100);
}

#[tokio::test]
async fn behind_a_stuck_sink_no_change_begins_and_what_waits_is_bounded() {
    let (gate, blocked) = mpsc::channel();
    let log = AuditLog::new(Stuck(blocked)).unwrap();
    let path = "/".repeat(100_000);
    let event = event(&path);
    let (mut waiting, mut refused) = (Vec::new(), 0);
    log.record(&event);
    // the writer has it in hand, so that all others wait, however late it woke up
    while !log.sink.as_ref().unwrap().lock().waiting.is_empty() {
        std::thread::yield_now();
    }
    for n in 0..400 {
        assert!(log.takes_changes() || n > 80, "{n}");
        let mut change = Box::pin(log.record_now(&event));
        match futures::poll!(&mut change) {
            std::task::Poll::Ready(result) => refused += usize::from(result == Err(AuditError)),
            std::task::Poll::Pending => waiting.push(change),
        }
    }
    assert!(!log.takes_changes());
    assert!(refused > 200 && waiting.len() < 200, "{refused} refused, {} wait", waiting.len());
    drop(gate);
    for change in waiting {
        change.await.unwrap();
    }
    assert!(log.takes_changes());
    assert_eq!(log.dropped(), refused as u64);
}

#[tokio::test]
async fn a_mutation_learns_that_its_line_was_refused() {
    let log = AuditLog::new(Broken(mpsc::channel().0, Arc::default())).unwrap();
    assert_eq!(log.record_now(&event("/")).await, Err(AuditError));
    assert!(!log.close(Duration::from_secs(10)));
    assert_eq!((log.events(), log.dropped()), (0, 1));
    assert_eq!(log.record_now(&event("/")).await, Err(AuditError), "nobody writes any more");
}

#[tokio::test]
async fn while_a_sink_fails_no_change_begins_and_what_it_refused_is_written_when_it_works_again() {
    let (works, (send, receive)) = (Arc::<std::sync::atomic::AtomicBool>::default(), mpsc::channel());
    let log = AuditLog::new(All::new(vec![Box::new(Broken(send, Arc::clone(&works)))])).unwrap();
    assert_eq!(log.record_now(&event("/1")).await, Err(AuditError));
    assert!(!log.takes_changes());
    assert_eq!(log.record_now(&event("/2")).await, Err(AuditError), "it had begun before");
    log.record(&event("/3"));
    works.store(true, Ordering::Relaxed);
    let next = || receive.recv_timeout(Duration::from_secs(10)).unwrap();
    for path in ["\"/1\"", "\"/2\"", "\"/3\""] {
        let line = next();
        assert!(line.contains(path), "{line}");
    }
    while !log.takes_changes() {
        std::thread::yield_now();
    }
    log.record_now(&event("/4")).await.unwrap();
    assert_eq!((log.events(), log.dropped()), (4, 0));
}

#[test]
fn a_sink_that_has_its_lines_does_not_get_them_again_for_the_sake_of_another() {
    let (works, (send, receive)) = (Arc::<std::sync::atomic::AtomicBool>::default(), mpsc::channel());
    let (good, got) = mpsc::channel();
    let broken = Broken(send, Arc::clone(&works));
    let mut all = All::new(vec![Box::new(Lines(good)) as Box<dyn Sink>, Box::new(broken)]);
    all.write(b"1\n").unwrap_err();
    works.store(true, Ordering::Relaxed);
    all.write(b"1\n").unwrap();
    all.write(b"2\n").unwrap();
    assert_eq!(got.try_iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(receive.try_iter().collect::<Vec<_>>(), ["1", "2"]);
}

#[tokio::test]
async fn no_log_takes_everything() {
    let log = AuditLog::none();
    log.record(&event("/"));
    assert_eq!(log.record_now(&event("/")).await, Ok(()));
    assert!(log.close(Duration::ZERO));
}
