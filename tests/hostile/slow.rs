//! Clients that take their time.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    frames,
    server::{Server, Witness, stranger},
    times,
};

/// Sends `bytes` one by one until the server closes, and returns how long that took.
async fn trickle(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite,
    bytes: impl Iterator<Item = u8>,
) -> Duration {
    let (mut reading, mut writing) = tokio::io::split(Box::pin(stream));
    let began = Instant::now();
    let write = async {
        for byte in bytes {
            if writing.write_all(&[byte]).await.is_err() || writing.flush().await.is_err() {
                break;
            }
            // the pace of the attack
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = write => {}
        _ = reading.read_to_end(&mut answer) => {}
    }
    began.elapsed()
}

/// All at once, since each takes as long as the server's patience.
#[tokio::test(flavor = "multi_thread")]
async fn slow_headers_handshakes_and_bodies_are_cut_off_in_time_and_slow_nobody_down() {
    let server = Server::start().await;
    let witness = Witness::start(&server).await;
    tokio::join!(
        slow_headers(&server),
        slow_headers_of_http2(&server),
        slow_handshakes(&server),
        slow_bodies(&server),
        slow_bodies_of_http2(&server)
    );
    witness.kept_its_latency("slow clients").await;
}

/// A header that comes byte by byte is cut off after 5 to 10 seconds.
async fn slow_headers(server: &Server) {
    let config = server.tls(&stranger(), "http/1.1");
    let attackers = (0..times(100)).map(|_| async {
        let stream = server.connect(&config).await.unwrap();
        let bytes = b"GET /version HTTP/1.1\r\nHost: x\r\nX: ".iter().copied().chain(std::iter::repeat(b'x'));
        trickle(stream, bytes).await
    });
    for took in futures::future::join_all(attackers).await {
        assert!((Duration::from_secs(4)..Duration::from_secs(15)).contains(&took), "header: {took:?}");
    }
}

/// So is one of HTTP/2, whether its frames stop, come without end, or come byte by byte, and also beside a request that is
/// on its way.
async fn slow_headers_of_http2(server: &Server) {
    let (stranger, block) = (stranger(), frames::block("GET", "/version"));
    let begun = |stream| frames::frame(frames::HEADERS, 0, stream, &block);
    let half = frames::request(1, "GET", "/version")[..20].to_vec();
    let post = frames::block("POST", "/v1/key/generate/key");
    let on_its_way = frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &post);
    let attacks = [
        (&stranger, begun(1), None),
        (&stranger, half.clone(), None),
        (&stranger, half, Some(vec![b'x'])),
        (&stranger, begun(1), Some(frames::frame(frames::CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y']))),
        (&server.admin, [on_its_way, begun(3)].concat(), None),
    ];
    let attackers = attacks.iter().cycle().take(times(50)).map(|(who, begun, more)| async move {
        let mut stream = server.connect(&server.tls(who, "h2")).await.unwrap();
        stream.write_all(&[frames::hello(&[]), begun.clone()].concat()).await.unwrap();
        stream.flush().await.unwrap();
        // the half of a frame has 30 bytes to come, which is less than three seconds' worth of one attack
        let bytes = more.iter().flat_map(|more| std::iter::repeat_n(more.clone(), 100)).flatten();
        let bytes =
            if more.as_ref().is_some_and(|more| more.len() == 1) { bytes.take(10) } else { bytes.take(1000) };
        trickle(stream, bytes).await
    });
    for took in futures::future::join_all(attackers).await {
        assert!(
            (Duration::from_secs(4)..Duration::from_secs(15)).contains(&took),
            "header of HTTP/2: {took:?}"
        );
    }
}

/// A handshake that is never completed ends after 10 seconds.
async fn slow_handshakes(server: &Server) {
    // the first bytes of a TLS record that holds a ClientHello of 508 bytes
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let attackers = (0..times(100)).map(|_| async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let began = Instant::now();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        began.elapsed()
    });
    for took in futures::future::join_all(attackers).await {
        assert!((Duration::from_secs(9)..Duration::from_secs(15)).contains(&took), "handshake: {took:?}");
    }
}

/// A body that never comes is answered with 503 after 15 seconds, and a stranger's is not awaited at all.
async fn slow_bodies(server: &Server) {
    let began = Instant::now();
    let post = |who, announced: &'static str| {
        let config = server.tls(who, "http/1.1");
        async move {
            let mut stream = server.connect(&config).await.unwrap();
            let head = format!("POST /v1/key/generate/key HTTP/1.1\r\nHost: x\r\n{announced}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            // all of these share one task, and TLS keeps what it could not write in its turn
            stream.flush().await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            (String::from_utf8(answer.to_vec()).unwrap(), began.elapsed())
        }
    };
    let stranger = stranger();
    for announced in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let (answer, took) = post(&stranger, announced).await;
        assert_eq!(answer, "HTTP/1.1 403");
        assert!(took < Duration::from_secs(10), "a stranger's body: {took:?}");
    }
    let waiting = (0..times(50)).map(|n| {
        post(&server.admin, if n % 2 == 0 { "Content-Length: 1000" } else { "Transfer-Encoding: chunked" })
    });
    for (answer, took) in futures::future::join_all(waiting).await {
        assert_eq!(answer, "HTTP/1.1 503");
        assert!((Duration::from_secs(14)..Duration::from_secs(25)).contains(&took), "body: {took:?}");
    }
}

/// Over HTTP/2 as well.
async fn slow_bodies_of_http2(server: &Server) {
    let attackers = (0..times(10)).map(|_| async {
        let mut stream = server.connect(&server.tls(&server.admin, "h2")).await.unwrap();
        let head = frames::block("POST", "/v1/key/generate/key");
        let head = frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &head);
        let begun = frames::frame(frames::DATA, 0, 1, b"{");
        stream.write_all(&[frames::hello(&[]), head, begun].concat()).await.unwrap();
        stream.flush().await.unwrap();
        let began = Instant::now();
        loop {
            let frame = frames::read(&mut stream).await.unwrap();
            if frame.kind == frames::HEADERS {
                // :status 503, literally or in the Huffman code of HPACK (RFC 7541 appendix B)
                let is_503 = [&b"503"[..], &[0x6c, 0x0c, 0xff]]
                    .iter()
                    .any(|code| frame.payload.windows(3).any(|three| three == *code));
                assert!(is_503, "{:x?}", frame.payload);
                return began.elapsed();
            }
        }
    });
    for took in futures::future::join_all(attackers).await {
        assert!(
            (Duration::from_secs(14)..Duration::from_secs(25)).contains(&took),
            "body of HTTP/2: {took:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_probes_do_not_keep_the_health_port_from_the_kubelet() {
    let server = Server::start().await;
    let attackers = (0..times(200)).map(|_| async {
        let mut stream = TcpStream::connect(server.health).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        stream
    });
    let attackers = futures::future::join_all(attackers).await;
    // the kubelet gives a probe one second by default; here the machine is shared
    let probe = async {
        let mut stream = TcpStream::connect(server.health).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), probe).await.expect("the probe is answered");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(attackers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_http2_that_is_never_finished_holds_nobody_up() {
    let server = Server::start().await;
    let witness = Witness::start(&server).await;
    let config = server.tls(&stranger(), "h2");
    let mut held = Vec::new();
    for _ in 0..times(100) {
        let mut stream = server.connect(&config).await.unwrap();
        let begun = frames::frame(frames::HEADERS, 0, 1, &frames::block("GET", "/version"));
        stream.write_all(&[frames::hello(&[]), begun].concat()).await.unwrap();
        held.push(stream);
    }
    server.answers().await;
    witness.sees_enough().await;
    witness.kept_its_latency("unfinished headers").await;
}
