//! SIGTERM while clients are in the middle of something.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{
    frames,
    server::{Server, key},
};

/// Ten seconds for requests, and what it takes to close the log on a shared machine; `kes server --help` says 15.
const PATIENCE: Duration = Duration::from_secs(15);

/// An HTTP/1.1 request that announces `body`, of which `sent` bytes come.
async fn begin(server: &Server, path: &str, body: &str, sent: usize) -> TlsStream<TcpStream> {
    let mut stream = server.connect(&server.tls(&server.admin, "http/1.1")).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), &body.as_bytes()[..sent]].concat()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

async fn rest(mut stream: TlsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    // a server that is gone closes without the goodbye of TLS
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// The same over HTTP/2: a generate without its body, on stream 1.
async fn begin_http2(server: &Server) -> TlsStream<TcpStream> {
    let mut stream = server.connect(&server.tls(&server.admin, "h2")).await.unwrap();
    let block = frames::block("POST", "/v1/key/generate/key");
    let head = frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &block);
    stream.write_all(&[frames::hello(&[]), head].concat()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// Finishes what [`begin_http2`] began; returns the body of its answer.
async fn finish_http2(mut stream: TlsStream<TcpStream>) -> String {
    stream.write_all(&frames::frame(frames::DATA, frames::END_STREAM, 1, b"{}")).await.unwrap();
    stream.flush().await.unwrap();
    let mut body = Vec::new();
    while let Some(frame) = frames::read(&mut stream).await {
        match frame.kind {
            frames::DATA if frame.stream == 1 => body.extend_from_slice(&frame.payload),
            // the server asks so whether its goodbye has arrived (RFC 9113 §6.8)
            frames::PING => {
                let _ = stream.write_all(&frames::frame(frames::PING, frames::ACK, 0, &frame.payload)).await;
                let _ = stream.flush().await;
            }
            _ => {}
        }
    }
    String::from_utf8(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_answers_what_is_in_flight_ends_streams_takes_nobody_new_and_exits_with_0() {
    let mut server = Server::start().await;
    let idle = begin(&server, "/v1/key/create/earlier", "", 0).await;
    let import = r#"{"bytes": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#;
    let mut change = begin(&server, "/v1/key/import/late", import, 20).await;
    let mut data = begin(&server, "/v1/key/generate/key", "{}", 1).await;
    let http2 = begin_http2(&server).await;
    let mut follower = server.connect(&server.tls(&server.admin, "http/1.1")).await.unwrap();
    follower.write_all(b"GET /v1/log/audit HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // so that the stream has begun for sure, its first line is awaited
    let mut begun = Vec::new();
    while !begun.ends_with(b"}\n\r\n") {
        server.client(&server.admin).generate(&key(), b"").await.unwrap();
        let more = tokio::time::timeout(Duration::from_millis(50), follower.read_u8()).await;
        begun.extend(more.into_iter().map(Result::unwrap));
    }
    server.is_busy_with(3).await;

    server.terminate();
    server.logs("stopping: no new connections").await;
    let told = Instant::now();
    let refused = TcpStream::connect(server.address).await.expect_err("the port is closed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(server.ready().await, "HTTP/1.1 503 Service Unavailable");
    assert!(rest(idle).await.starts_with("HTTP/1.1 200"), "an idle connection is closed after its answer");
    let stream = rest(follower).await;
    assert!(stream.ends_with("0\r\n\r\n"), "the log stream ends in good order, not broken off: {stream}");
    assert!(server.is_running(), "it waits for requests that are on their way");

    change.write_all(&import.as_bytes()[20..]).await.unwrap();
    change.flush().await.unwrap();
    assert!(rest(change).await.starts_with("HTTP/1.1 200 OK"), "a change in flight is made");
    data.write_all(b"}").await.unwrap();
    data.flush().await.unwrap();
    let answer = rest(data).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"plaintext\""), "{answer}");
    let answer = finish_http2(http2).await;
    assert!(answer.contains("\"plaintext\""), "over HTTP/2: {answer}");

    assert_eq!(server.exited(PATIENCE).await, Some(0));
    // the last request was answered: nobody is waited for any more
    assert!(server.log().contains("\"drained\":true"), "{}", server.log());
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());

    server.start_again().await;
    let late = server.client(&server.admin).describe_key(&"late".parse().unwrap()).await;
    late.expect("what was answered is there after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_never_finishes_holds_the_exit_for_ten_seconds_and_no_longer() {
    let mut server = Server::start().await;
    let mut data = begin(&server, "/v1/key/generate/key", "{}", 1).await;
    let change = begin(&server, "/v1/key/import/never", "{}", 1).await;
    let http2 = begin_http2(&server).await;
    let mut header = server.connect(&server.tls(&server.admin, "http/1.1")).await.unwrap();
    header.write_all(b"GET /v1/status HTTP/1.1\r\nHo").await.unwrap();
    let half_open = TcpStream::connect(server.address).await.unwrap();
    server.is_busy_with(3).await;

    let told = Instant::now();
    server.terminate();
    assert_eq!(server.exited(PATIENCE).await, Some(0));
    assert!(told.elapsed() > Duration::from_secs(8), "they had {:?} to finish", told.elapsed());
    assert!(server.log().contains("\"drained\":false"), "{}", server.log());
    assert_eq!(data.read(&mut [0; 1]).await.unwrap_or(0), 0, "nothing is answered to half a request");
    drop((change, http2, header, half_open));

    server.start_again().await;
    let never = server.client(&server.admin).describe_key(&"never".parse().unwrap()).await;
    never.expect_err("half a change is none");
}
