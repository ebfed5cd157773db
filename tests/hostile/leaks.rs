//! Whoever reads the logs, the audit log, the metrics, refusals, or the volume learns names, and no secret.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kes::api::{KeyName, SecretName, message::ImportKey};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::server::{Server, UNSEAL};

/// A secret and what it is, in every form in which it could be written somewhere.
fn forms(what: &str, secret: &[u8]) -> Vec<(String, Vec<u8>)> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    // the middle of the text is the same wherever in a longer text the secret begins
    let text = STANDARD.encode(secret);
    let list = format!("{secret:?}");
    [
        ("raw", secret.to_vec()),
        ("base64", text.trim_end_matches('=').as_bytes()[..text.len() - 4].to_vec()),
        ("hex", hex.clone().into_bytes()),
        ("HEX", hex.to_uppercase().into_bytes()),
        ("list", list.trim_matches(['[', ']']).as_bytes().to_vec()),
    ]
    .map(|(form, bytes)| (format!("{what} as {form}"), bytes))
    .into()
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_logs_audit_metrics_refusals_or_on_the_volume_and_names_are() {
    let server = Server::start_with(None, "debug").await;
    let client = server.client(&server.admin);
    let secret =
        |n: u8| -> Vec<u8> { (0..32u8).map(|at| 0xa7 ^ at.wrapping_mul(37).wrapping_add(n * 11)).collect() };
    let [material, value, plaintext, context, wrong] = [1, 2, 3, 4, 5].map(secret);

    let key = KeyName::new("canary-key").unwrap();
    let import = ImportKey { bytes: material.clone().into(), ..ImportKey::default() };
    client.import_key(&key, &import).await.unwrap();
    client.import_key(&key, &import).await.expect_err("it exists");
    let short = ImportKey { bytes: material[..31].to_vec().into(), ..ImportKey::default() };
    client.import_key(&KeyName::new("short").unwrap(), &short).await.expect_err("31 bytes");
    let named = SecretName::new("canary-secret").unwrap();
    client.create_secret(&named, &value).await.unwrap();
    client.create_secret(&named, &value).await.expect_err("it exists");
    assert!(client.read_secret(&named).await.is_ok());
    let sealed = client.encrypt(&key, &plaintext, &context).await.unwrap();
    assert!(client.decrypt(&key, sealed.as_ref(), &context).await.unwrap().as_ref() == plaintext);
    let generated = client.generate(&key, &context).await.unwrap();
    let mut refusals = Vec::new();
    for refused in [
        client.decrypt(&key, sealed.as_ref(), &wrong).await.err(),
        client.decrypt(&key, &plaintext, &context).await.err(),
        client.encrypt(&KeyName::new("missing").unwrap(), &plaintext, &context).await.err(),
    ] {
        refusals.extend_from_slice(refused.unwrap().to_string().as_bytes());
    }
    client.hmac(&key, &plaintext).await.unwrap();
    // a body that is broken after the secret, and a secret where a name belongs
    refusals.extend(raw(&server, &format!("{{\"plaintext\":\"{}\",", STANDARD.encode(&plaintext))).await);

    let metrics = client.metrics().await.unwrap() + &health(&server).await;
    client.describe_key(&KeyName::new("last-request").unwrap()).await.expect_err("missing");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !server.output().contains("last-request") {
        assert!(Instant::now() < deadline, "the audit log is not written");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let unseal = STANDARD.decode(UNSEAL).unwrap();
    let secrets: Vec<_> = [
        ("the imported key", &material),
        ("the secret", &value),
        ("the plaintext", &plaintext),
        ("the context", &context),
        ("the wrong context", &wrong),
        ("the generated key", &generated.plaintext.0),
        ("the unseal key", &unseal),
    ]
    .into_iter()
    .flat_map(|(what, secret)| forms(what, secret))
    .collect();
    let mut places = vec![
        ("the log".to_owned(), server.log().into_bytes()),
        ("the audit log".to_owned(), server.output().into_bytes()),
        ("the metrics".to_owned(), metrics.into_bytes()),
        ("a refusal".to_owned(), refusals),
    ];
    let volume = files(&server.data());
    places.extend(volume.iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap())));
    for (place, content) in &places {
        for (what, form) in &secrets {
            assert!(!holds(content, form), "{what} is in {place}");
        }
    }
    // the search finds what is there: names, which stand in clear
    for (name, place) in [("canary-key", 1), ("canary-secret", 1), ("last-request", 1)] {
        assert!(holds(&places[place].1, name.as_bytes()), "{name} is not in {}", places[place].0);
    }
    for name in ["canary-key", "canary-secret"] {
        assert!(places[4..].iter().any(|(_, content)| holds(content, name.as_bytes())), "{name}");
    }
    assert!(server.log().contains("DEBUG"), "the log is as detailed as it can be");
}

/// Sends `body` to encrypt and returns the whole answer.
async fn raw(server: &Server, body: &str) -> Vec<u8> {
    let mut stream = server.connect(&server.tls(&server.admin, "http/1.1")).await.unwrap();
    let head = "POST /v1/key/encrypt/canary-key HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
    answer
}

async fn health(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.health).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn other_users_of_the_machine_cannot_look_into_the_data_directory() {
    let server = Server::start().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&server.data()), 0o700);
    assert_eq!(mode(&server.data().join("manifest.json")), 0o600);
}

/// Line breaks, escape sequences and quotes in a path stay within their record.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_cannot_forge_a_line_of_the_audit_log_or_of_the_log() {
    let server = Server::start_with(None, "debug").await;
    let mut stream = server.connect(&server.tls(&server.admin, "http/1.1")).await.unwrap();
    let path = "/v1/key/describe/%0a%7B%22time%22:1,%22request%22:%7B%22identity%22:%22forged%22%7D%7D%0d%1b%5B31m%22";
    let head = format!("GET {path}?enclave=%0aforged%22 HTTP/1.1\r\nHost: x\r\n\r\n");
    let close = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all((head + &close).as_bytes()).await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.output().matches("forged").count() < 3 {
        assert!(Instant::now() < deadline, "the audit log is not written: {}", server.output());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let output = server.output();
    let lines: Vec<_> = output.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(lines.iter().filter(|line| line.contains("forged")).count(), 2, "{output}");
    for line in lines {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_ne!(event["request"]["identity"], "forged");
    }
    assert!(output.lines().all(|line| !line.starts_with("{\"time\":1")));
    for line in server.log().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(!server.log().contains('\u{1b}') && !output.contains('\u{1b}'));
}
