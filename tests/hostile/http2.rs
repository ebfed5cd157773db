//! What HTTP/2 makes cheap to send and dear to receive.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::{
    frames::{self, ENHANCE_YOUR_CALM, End},
    server::{Server, Witness, stranger},
    times,
};

/// What one attack may add to the server's memory, in MiB. Without bounds each would add hundreds.
const GROWTH: u64 = 64;

/// Writes `flood` over and over, until the server ends the connection or `times` are sent; reads meanwhile.
async fn flood(
    connection: impl AsyncRead + AsyncWrite,
    hello: Vec<u8>,
    flood: impl Fn(u32) -> Vec<u8>,
    times: u32,
) -> (End, u32) {
    let (mut reading, mut writing) = tokio::io::split(Box::pin(connection));
    let write = async {
        if writing.write_all(&hello).await.is_err() {
            return;
        }
        for n in 0..times {
            if writing.write_all(&flood(n)).await.is_err() {
                return;
            }
        }
        let _ = writing.flush().await;
        let _ = writing.shutdown().await;
    };
    let (end, ()) = tokio::join!(frames::until_end(&mut reading), write);
    end
}

async fn attack(name: &str, hello: Vec<u8>, bytes: impl Fn(u32) -> Vec<u8>, count: usize) -> (End, u32) {
    let server = Server::start().await;
    let (before, _) = server.memory();
    let witness = Witness::start(&server).await;
    let config = server.tls(&stranger(), "h2");
    let count = u32::try_from(times(count)).unwrap();
    let once = async || {
        let connection = server.connect(&config).await.unwrap();
        let ended = flood(connection, hello.clone(), &bytes, count);
        tokio::time::timeout(Duration::from_secs(50), ended).await.unwrap()
    };
    let ended = once().await;
    // it may end before others had their say, so it comes again
    while !witness.has_seen_enough() {
        once().await;
    }
    let (_, most) = server.memory();
    assert!(most < before + GROWTH, "{name}: from {before} to {most} MiB");
    println!("{name}: {ended:?}, memory from {before} to at most {most} MiB");
    witness.kept_its_latency(name).await;
    ended
}

/// A stream id of a client: odd, from 1.
fn id(n: u32) -> u32 {
    2 * n + 1
}

/// The stream `n` of CVE-2023-44487: begun and taken back at once.
fn open_and_reset(n: u32) -> Vec<u8> {
    let cancel = frames::frame(frames::RST_STREAM, 0, id(n), &8u32.to_be_bytes());
    [frames::request(id(n), "POST", "/v1/key/create/x"), cancel].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_reset_over_and_over_slows_nobody_down() {
    let server = Server::start().await;
    let witness = Witness::start(&server).await;
    let config = server.tls(&stranger(), "h2");
    let attackers = (0..times(4)).map(|_| async {
        let mut ended = 0;
        // one may end before others had their say, so it comes again
        while ended < 3 || !witness.has_seen_enough() {
            let Ok(connection) = server.connect(&config).await else { continue };
            flood(connection, frames::hello(&[]), open_and_reset, 5000).await;
            ended += 1;
        }
    });
    futures::future::join_all(attackers).await;
    witness.kept_its_latency("rapid resets over and over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_reset_ends_the_connection() {
    let (end, _) = attack("rapid reset", frames::hello(&[]), open_and_reset, 50_000).await;
    assert_eq!(end, End::GoAway(ENHANCE_YOUR_CALM));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_the_server_has_to_reset_end_the_connection() {
    // a WINDOW_UPDATE of 0 makes the server reset the stream (RFC 9113 §6.9), as in CVE-2025-8671
    let provoke = |n| {
        let nothing = frames::frame(8, 0, id(n), &0u32.to_be_bytes());
        let open = frames::frame(
            frames::HEADERS,
            frames::END_HEADERS,
            id(n),
            &frames::block("POST", "/v1/key/create/x"),
        );
        [open, nothing].concat()
    };
    let (end, _) = attack("provoked resets", frames::hello(&[]), provoke, 50_000).await;
    assert!(matches!(end, End::GoAway(code) if code != 0), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_continued_without_end_ends_the_connection() {
    let mut hello = frames::hello(&[]);
    hello.extend(frames::frame(frames::HEADERS, 0, 1, &frames::block("GET", "/version")));
    // each continuation holds one more header: "x: y"
    let more = |_| frames::frame(frames::CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y']);
    let (end, _) = attack("continuation flood", hello, more, 200_000).await;
    assert!(matches!(end, End::GoAway(code) if code != 0) || end == End::Closed, "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_continuations_without_end_end_the_connection() {
    let mut hello = frames::hello(&[]);
    hello.extend(frames::frame(frames::HEADERS, 0, 1, &frames::block("GET", "/version")));
    let more = |_| frames::frame(frames::CONTINUATION, 0, 1, &[]);
    let (end, _) = attack("empty continuations", hello, more, 200_000).await;
    assert!(matches!(end, End::GoAway(code) if code != 0) || end == End::Closed, "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_pings_without_end_cost_no_memory() {
    let ping = |n: u32| frames::frame(frames::PING, 0, 0, &u64::from(n).to_be_bytes()).repeat(50);
    attack("ping flood", frames::hello(&[]), ping, 2000).await;
    let settings = |_| frames::frame(frames::SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(50);
    attack("settings flood", frames::hello(&[]), settings, 2000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_without_content_and_without_end_costs_no_memory() {
    let mut hello = frames::hello(&[]);
    let open = frames::block("POST", "/v1/key/generate/key");
    hello.extend(frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &open));
    let nothing = |_| frames::frame(frames::DATA, 0, 1, &[]).repeat(50);
    attack("empty data", hello, nothing, 2000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_and_never_reads_is_not_listened_to_without_end() {
    let server = Server::start().await;
    let (before, _) = server.memory();
    let witness = Witness::start(&server).await;
    let config = server.tls(&stranger(), "h2");
    let attackers = (0..10).map(|_| async {
        let mut stream = server.connect(&config).await.unwrap();
        stream.write_all(&frames::hello(&[])).await.unwrap();
        let mut sent = 0;
        // pings want answers: what is not read fills buffers, and the server must stop to read or end the connection
        let pings = frames::frame(frames::PING, 0, 0, &[0; 8]).repeat(1000);
        loop {
            let write = tokio::time::timeout(Duration::from_secs(2), stream.write_all(&pings));
            match write.await {
                Ok(Ok(())) => sent += pings.len(),
                Ok(Err(_)) | Err(_) => break,
            }
            assert!(sent < 200 << 20, "the server reads on and on");
        }
        witness.sees_enough().await;
        sent
    });
    let sent = futures::future::join_all(attackers).await;
    let (_, most) = server.memory();
    println!(
        "never reading: {:?} KiB were taken, memory from {before} to at most {most} MiB",
        sent.iter().map(|n| n >> 10).collect::<Vec<_>>()
    );
    assert!(most < before + GROWTH, "from {before} to {most} MiB");
    witness.kept_its_latency("never reading").await;
}

/// MinIO opens further connections only beyond 250 requests in flight (contract §8.4).
#[tokio::test(flavor = "multi_thread")]
async fn the_server_says_that_it_takes_250_streams_and_more() {
    let server = Server::start().await;
    let mut stream = server.connect(&server.tls(&stranger(), "h2")).await.unwrap();
    stream.write_all(&frames::hello(&[])).await.unwrap();
    let settings = frames::read(&mut stream).await.unwrap();
    assert_eq!(settings.kind, frames::SETTINGS);
    // SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2)
    let streams = settings.payload.chunks(6).find(|setting| setting[..2] == [0, 3]).unwrap();
    assert!(u32::from_be_bytes(streams[2..6].try_into().unwrap()) >= 250, "{streams:?}");
}
