//! The server's certificate changes under its clients.

use std::time::Duration;

use kes::pki;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::server::{Server, Witness};

const GET: &[u8] = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";

async fn is_answered(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) {
    stream.write_all(GET).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_for_new_connections_and_open_ones_go_on() {
    let mut server = Server::start().await;
    let before = server.tls(&server.admin, "http/1.1");
    let mut open = server.connect(&before).await.unwrap();
    let new = pki::self_signed(&pki::SelfSigned {
        common_name: "renewed".into(),
        dns: vec![],
        ip: vec![server.address.ip()],
        validity: Duration::from_secs(3600),
        usage: pki::Usage::Server,
    })
    .unwrap();
    let old = server.replace_certificate(&new);
    server.hang_up();
    server.logs("server certificate reloaded").await;

    is_answered(&mut open).await;
    let after = server.tls(&server.admin, "http/1.1");
    let witness = Witness::start(&server).await;
    is_answered(&mut server.connect(&after).await.unwrap()).await;
    server
        .connect(&server.tls_trusting(&old, &server.admin, "http/1.1"))
        .await
        .expect_err("the old one is gone");

    // half of a pair is no pair: the one in use stays
    server.write("server.crt", old.as_bytes());
    server.hang_up();
    server.logs("the changed certificate is not used").await;
    is_answered(&mut server.connect(&after).await.unwrap()).await;
    witness.was_served("a changed certificate").await;
}
