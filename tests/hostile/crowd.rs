//! More clients than there is room for.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    server::{Server, Witness, many_files, stranger},
    times,
};

const GET: &[u8] = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";

/// As many as asked for, or as this process may open.
fn crowd(wanted: usize) -> usize {
    let files = usize::try_from(many_files()).unwrap_or(usize::MAX);
    let possible = files.saturating_sub(500);
    if possible < wanted {
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!is_ci, "{wanted} connections need more open files than {files}; raise 'ulimit -Hn'");
        println!("only {possible} connections instead of {wanted}: the limit of open files is {files}");
    }
    wanted.min(possible)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_silent_connections_cost_bounded_memory_and_slow_nobody_down() {
    let server = Server::start().await;
    let (before, _) = server.memory();
    let witness = Witness::start(&server).await;
    let mut silent = Vec::new();
    for n in 0..crowd(times(10_000)) {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if n % 2 == 0 {
            let _ = stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await;
        }
        silent.push(stream);
    }
    server.answers().await;
    let (_, most) = server.memory();
    println!("{} silent connections: memory from {before} to at most {most} MiB", silent.len());
    assert!(most < before + 128, "from {before} to {most} MiB");
    witness.sees_enough().await;
    witness.kept_its_latency("silent connections").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_with_certificates_cannot_fill_the_server() {
    let server = Server::start().await;
    let (before, _) = server.memory();
    let witness = Witness::start(&server).await;
    let config = server.tls(&stranger(), "http/1.1");
    let mut held = Vec::new();
    for _ in 0..crowd(times(2000)) {
        // one that was closed to make room is a stranger's loss
        let Ok(mut stream) = server.connect(&config).await else { continue };
        let _ = stream.write_all(GET).await;
        held.push(stream);
    }
    server.answers().await;
    let (now, most) = server.memory();
    println!("{} strangers: memory from {before} to {now}, at most {most} MiB", held.len());
    assert!(most < before + 200, "from {before} to {most} MiB");
    let mut closed = 0;
    for stream in &mut held {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_millis(1), stream.read_to_end(&mut rest));
        closed += usize::from(read.await.is_ok());
    }
    assert!(closed > 0, "nobody had to leave");
    witness.sees_enough().await;
    witness.kept_its_latency("strangers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_known_client_cost_bounded_memory_each() {
    let server = Server::start().await;
    let (before, _) = server.memory();
    let witness = Witness::start(&server).await;
    let config = server.tls(&server.admin, "http/1.1");
    let mut held = Vec::new();
    let count = crowd(times(1000));
    for _ in 0..count {
        let mut stream = server.connect(&config).await.unwrap();
        stream.write_all(GET).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(stream);
    }
    let (now, most) = server.memory();
    println!("{count} known connections: memory from {before} to {now}, at most {most} MiB");
    assert!(now - before < 64 * u64::try_from(count.div_ceil(1000)).unwrap(), "from {before} to {now} MiB");
    witness.sees_enough().await;
    witness.kept_its_latency("known connections").await;
}
