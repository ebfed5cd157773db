//! Clients that send or ask for too much.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kes::pki::PemPair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    frames::{self, End},
    server::{Server, Witness, key, stranger},
    times,
};

/// Sends `head` and then `flood` until the server has had enough, and returns the first bytes of its answer.
async fn overfeed(server: &Server, who: &PemPair, head: &str, flood: &[u8], most: usize) -> (String, usize) {
    let stream = server.connect(&server.tls(who, "http/1.1")).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(stream);
    let write = async {
        let mut sent = 0;
        let _ = writing.write_all(head.as_bytes()).await;
        while sent < most {
            if writing.write_all(flood).await.is_err() {
                return sent;
            }
            sent += flood.len();
        }
        // whoever is not answered by now gets no answer
        std::future::pending().await
    };
    let read = async {
        let mut answer = vec![0; 12];
        let read = reading.read_exact(&mut answer).await;
        read.map_or(String::new(), |_| String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::select! {
        answer = read => (answer, 0),
        sent = write => (String::new(), sent),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_it_is_kept() {
    let server = Server::start().await;
    let (before, _) = server.memory();
    let witness = Witness::start(&server).await;
    let huge = vec![b'x'; 1 << 16];
    let post = "POST /v1/key/generate/key HTTP/1.1\r\nHost: x\r\n";
    let chunk = [b"10000\r\n".as_slice(), &huge, b"\r\n"].concat();
    let most = 1 << 30;
    let attacks = [
        ("a header line", "GET /version HTTP/1.1\r\nHost: x\r\nX: ".to_owned(), &huge[..], "HTTP/1.1 431"),
        (
            "many headers",
            "GET /version HTTP/1.1\r\nHost: x\r\n".to_owned(),
            &b"X: y\r\n".repeat(1000),
            "HTTP/1.1 431",
        ),
        ("a path", "GET /".to_owned(), &huge, "HTTP/1.1 4"),
        ("an announced body", format!("{post}Content-Length: 100000000000\r\n\r\n"), &huge, "HTTP/1.1 413"),
        ("a chunked body", format!("{post}Transfer-Encoding: chunked\r\n\r\n"), &chunk, "HTTP/1.1 413"),
    ];
    for (round, (what, head, flood, want)) in attacks.iter().cycle().enumerate() {
        if round >= attacks.len() && witness.has_seen_enough() {
            break;
        }
        let fed = overfeed(&server, &server.admin, head, flood, most);
        let (answer, sent) = tokio::time::timeout(Duration::from_secs(30), fed).await.expect("it ends");
        // a server that closes while the client writes may be heard as a reset only
        assert!(
            answer.starts_with(*want) || (answer.is_empty() && sent < most),
            "{what}: '{answer}', {sent} bytes taken"
        );
    }
    let (_, most) = server.memory();
    println!("oversized: memory from {before} to at most {most} MiB");
    assert!(most < before + 64, "from {before} to {most} MiB");
    witness.kept_its_latency("oversized requests").await;
}

/// Who is refused before the body was read may ask again on the same connection, as Go's clients do at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_leaves_the_connection_usable_and_a_large_one_ends_it_with_a_word() {
    let server = Server::start().await;
    let version = "GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for (path, refusal, too_large) in
        [("/v1/key/generate/key", "403", "413"), ("/v1/nothing", "501", "501"), ("/v1//status", "307", "307")]
    {
        for (size, is_usable) in [(200 << 10, true), (5 << 20, false)] {
            let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
            let stream = server.connect(&server.tls(&stranger(), "http/1.1")).await.unwrap();
            let (mut reading, mut writing) = tokio::io::split(stream);
            let write = async {
                let _ = writing.write_all(head.as_bytes()).await;
                // what is not read is not sent either: then a reset would take the answer along
                if is_usable {
                    writing.write_all(&vec![b'x'; size]).await.unwrap();
                    writing.write_all(version.as_bytes()).await.unwrap();
                }
            };
            let mut answers = Vec::new();
            let read = async {
                let read = reading.read_to_end(&mut answers);
                tokio::time::timeout(Duration::from_secs(30), read).await.expect("it ends")
            };
            let _ = tokio::join!(write, read);
            let answers = String::from_utf8_lossy(&answers).to_lowercase();
            let codes: Vec<_> = answers.split("http/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
            let expected = if is_usable { vec![refusal, "200"] } else { vec![too_large] };
            assert_eq!(codes, expected, "{path} {size}: {answers}");
            let first = answers.split("http/1.1 ").nth(1).unwrap();
            assert_eq!(first.contains("connection: close"), !is_usable, "{path} {size}: {answers}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_list_of_http2_beyond_16_kib_is_refused() {
    let server = Server::start().await;
    let mut stream = server.connect(&server.tls(&stranger(), "h2")).await.unwrap();
    let mut block = frames::block("GET", "/version");
    for _ in 0..200 {
        block.extend_from_slice(&[0, 1, b'x', 100]);
        block.extend_from_slice(&[b'y'; 100]);
    }
    let mut bytes = frames::hello(&[]);
    let mut parts = block.chunks(16_000).peekable();
    bytes.extend(frames::frame(frames::HEADERS, frames::END_STREAM, 1, parts.next().unwrap()));
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_none() { frames::END_HEADERS } else { 0 };
        bytes.extend(frames::frame(frames::CONTINUATION, flags, 1, part));
    }
    stream.write_all(&bytes).await.unwrap();
    let mut refused = false;
    while let Some(frame) =
        tokio::time::timeout(Duration::from_secs(10), frames::read(&mut stream)).await.unwrap()
    {
        // 431 in the Huffman code of HPACK (RFC 7541 appendix B), or the stream's or the connection's end
        let is_431 = frame.kind == frames::HEADERS
            && frame.payload.windows(3).any(|three| three == [0x69, 0x90, 0xff]);
        if is_431 || matches!(frame.kind, frames::RST_STREAM | frames::GOAWAY) {
            refused = true;
            break;
        }
    }
    assert!(refused);
    server.answers().await;
}

/// Whoever may encrypt could make the server hold 500 requests and answers of a megabyte per connection.
#[tokio::test(flavor = "multi_thread")]
async fn large_requests_whose_answers_are_never_read_cost_bounded_memory() {
    let server = Server::start().await;
    let (before, _) = server.memory();
    let witness = Witness::start(&server).await;
    let config = server.tls(&server.admin, "h2");
    let body = Bytes::from(format!(r#"{{"plaintext":"{}"}}"#, "A".repeat((1 << 20) - 100)));
    let mut streams = Vec::new();
    for _ in 0..times(4) {
        let stream = server.connect(&config).await.unwrap();
        // the client takes no byte of any answer
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(0)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        for _ in 0..150 {
            let (mut sender, body) = (sender.clone(), body.clone());
            streams.push(tokio::spawn(async move {
                let uri = format!("https://localhost/v1/key/encrypt/{}", key());
                let request = http::Request::post(uri).body(Full::new(body)).unwrap();
                sender.send_request(request).await
            }));
        }
        streams.push(tokio::spawn(async move {
            let _ = connection.await;
            std::future::pending().await
        }));
    }
    // as long as a request may take, and a little
    tokio::time::sleep(Duration::from_secs(17)).await;
    let (_, most) = server.memory();
    println!("unread answers: memory from {before} to at most {most} MiB");
    assert!(most < before + 96, "from {before} to {most} MiB");
    witness.sees_enough().await;
    witness.kept_its_latency("unread answers").await;
    for stream in streams {
        stream.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_whose_answers_are_never_read_end_the_connection() {
    let server = Server::start().await;
    let (before, _) = server.memory();
    let witness = Witness::start(&server).await;
    let config = server.tls(&server.admin, "http/1.1");
    let attackers = (0..times(20)).map(|_| async {
        let mut stream = server.connect(&config).await.unwrap();
        let requests = b"GET /v1/api HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
        // until the server reads no more, or has ended it
        while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(3), stream.write_all(&requests)).await
        {
        }
        witness.sees_enough().await;
    });
    futures::future::join_all(attackers).await;
    let (_, most) = server.memory();
    println!("unread pipelines: memory from {before} to at most {most} MiB");
    assert!(most < before + 64, "from {before} to {most} MiB");
    witness.kept_its_latency("unread pipelines").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_protocol_ends_the_connection() {
    let server = Server::start().await;
    for protocol in ["h2", "http/1.1"] {
        let mut stream = server.connect(&server.tls(&stranger(), protocol)).await.unwrap();
        // it may end before all is written
        let _ = stream.write_all(&[0xff; 100_000]).await;
        let ended = async {
            match protocol {
                "h2" => frames::until_end(&mut stream).await.0,
                _ => {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    End::Closed
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it ends");
    }
    server.answers().await;
}

/// Nor may whoever lists make the server hold a page for each of 500 requests per connection.
#[tokio::test(flavor = "multi_thread")]
async fn listings_that_are_never_read_cost_bounded_memory() {
    let server = Server::start().await;
    let client = server.client(&server.admin);
    for n in 0..256 {
        client.create_key(&format!("{n:0>80}").parse().unwrap()).await.unwrap();
    }
    let (before, _) = server.memory();
    let witness = Witness::start(&server).await;
    let config = server.tls(&server.admin, "h2");
    let mut held = Vec::new();
    for _ in 0..times(8) {
        let mut stream = server.connect(&config).await.unwrap();
        // the client takes no byte of any answer: SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2) is 0
        let mut bytes = frames::hello(&[(4, 0)]);
        for n in 0..490 {
            bytes.extend(frames::request(2 * n + 1, "GET", "/v1/key/list/"));
        }
        stream.write_all(&bytes).await.unwrap();
        held.push(stream);
    }
    // as long as a request may take, and a little
    tokio::time::sleep(Duration::from_secs(17)).await;
    let (_, most) = server.memory();
    println!("unread listings: memory from {before} to at most {most} MiB");
    assert!(most < before + 128, "from {before} to {most} MiB");
    witness.sees_enough().await;
    witness.kept_its_latency("unread listings").await;
    drop(held);
}
