//! Small answers that nobody reads, and requests that are never completed, many at once: each costs little, and a
//! connection may have 500.

use std::time::Duration;

use kes::{
    api::{PolicyName, message::Policy},
    pki::{self, PemPair},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::client::TlsStream;

use crate::{
    frames,
    server::{Server, Witness, stranger},
    times,
};

/// Requests on each connection: nearly all that it may have.
const STREAMS: u32 = 490;
/// What all that is not read may add to the server's memory, in MiB: 64, and what some dozen connections cost.
const GROWTH: u64 = 128;

/// Settings and window of a client that takes no byte of any answer (RFC 9113 §6.5.2, §6.9).
fn without_window() -> Vec<u8> {
    frames::hello(&[(4, 0)])
}

/// The same of one that takes all, and does not read.
fn with_window() -> Vec<u8> {
    let most = 0x7fff_ffff_u32;
    let more = frames::frame(frames::WINDOW_UPDATE, 0, 0, &(most - 65_535).to_be_bytes());
    [frames::hello(&[(4, most)]), more].concat()
}

/// Whoever may read a policy of 15 KB.
async fn reader(server: &Server) -> PemPair {
    let (admin, reader) = (server.client(&server.admin), stranger());
    let name = PolicyName::new("large").unwrap();
    let deny = (0..180).map(|n| format!("/v1/key/delete/{n:0>70}")).collect();
    let policy = Policy { allow: vec!["/v1/policy/read/*".into()], deny, ..Policy::default() };
    admin.write_policy(&name, &policy).await.unwrap();
    let identity = pki::identity_of_pem(reader.certificate.as_bytes()).unwrap();
    admin.assign_policy(&name, &identity).await.unwrap();
    reader
}

/// Connects `count` times as `who`, says hello and sends `request` on each stream. One connection after the other, when the
/// server has dealt with the requests of the former: the attack is on memory.
async fn hold(
    server: &Server,
    who: &PemPair,
    count: usize,
    hello: fn() -> Vec<u8>,
    request: impl Fn(u32) -> Vec<u8>,
) -> Vec<TlsStream<TcpStream>> {
    let config = server.tls(who, "h2");
    let mut held = Vec::new();
    for _ in 0..times(count) {
        let mut bytes = hello();
        for n in 0..STREAMS {
            bytes.extend(request(2 * n + 1));
        }
        // one that was ended to make room is the attacker's loss
        let Ok(mut stream) = server.connect(&config).await else { continue };
        let before = dealt_with(server).await;
        let _ = stream.write_all(&bytes).await;
        // else the last record stays on this side
        let _ = stream.flush().await;
        while dealt_with(server).await < before + u64::from(STREAMS) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        held.push(stream);
    }
    held
}

/// Requests that were answered, are awaited, or went with a connection that was ended.
async fn dealt_with(server: &Server) -> u64 {
    let metrics = server.ask_health("/metrics").await;
    let counts = [
        ("kes_requests_total{", 1),
        ("kes_requests_active ", 1),
        ("kes_connections_closed_for_memory_total ", u64::from(STREAMS)),
    ];
    let of = |(name, each): (&str, u64)| -> u64 {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        each * lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum::<u64>()
    };
    counts.map(of).iter().sum()
}

/// The value of a metric without labels.
async fn metric(server: &Server, name: &str) -> u64 {
    let metrics = server.ask_health("/metrics").await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}:\n{metrics}")).parse::<f64>().unwrap() as u64
}

async fn attack(
    what: &str,
    server: &Server,
    hold: impl Future<Output = Vec<TlsStream<TcpStream>>>,
) -> Witness {
    let (before, _) = server.memory();
    let witness = Witness::start(server).await;
    let held = hold.await;
    server.answers().await;
    let (_, most) = server.memory();
    println!("{what}, {} connections: memory from {before} to at most {most} MiB", held.len());
    assert!(most < before + GROWTH, "{what}: from {before} to {most} MiB");
    assert!(metric(server, "kes_connections_closed_for_memory_total").await > 0, "nobody had to leave");
    witness.sees_enough().await;
    drop(held);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while metric(server, "kes_unread_bytes").await > 0 {
        assert!(std::time::Instant::now() < deadline, "it is still counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    witness
}

#[tokio::test(flavor = "multi_thread")]
async fn small_answers_that_are_never_read_cost_bounded_memory() {
    let server = Server::start().await;
    let reader = reader(&server).await;
    let get = |stream| frames::request(stream, "GET", "/v1/policy/read/large");
    for (what, hello) in [("no window", without_window as fn() -> Vec<u8>), ("not read", with_window)] {
        attack(what, &server, hold(&server, &reader, 25, hello, get)).await.kept_its_latency(what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_that_a_stranger_never_reads_cost_bounded_memory() {
    let server = Server::start().await;
    let get = |stream| frames::request(stream, "GET", "/v1/status");
    let stranger = stranger();
    let held = hold(&server, &stranger, 60, without_window, get);
    attack("refusals", &server, held).await.kept_its_latency("refusals").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_never_completed_cost_bounded_memory() {
    let server = Server::start().await;
    let post = |stream| {
        let mut head = frames::block("POST", "/v1/key/generate/key");
        for _ in 0..20 {
            head.extend_from_slice(&[0, 1, b'x', 100]);
            head.extend_from_slice(&[b'y'; 100]);
        }
        frames::frame(frames::HEADERS, frames::END_HEADERS, stream, &head)
    };
    let held = hold(&server, &server.admin, 60, without_window, post);
    attack("bodies", &server, held).await.kept_its_latency("bodies").await;
}
