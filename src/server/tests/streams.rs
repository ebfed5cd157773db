//! Answers in parts: long listings, and logs without end.

use std::time::Duration;

use super::{ADMIN, Bare, Got, SYSTEM};
use crate::api::ApiError;

/// Waits until `got` holds `text`.
async fn until(got: &mut Got, text: &str) {
    let found = async {
        while !got.body.contains(text) {
            assert!(got.more().await, "the stream ended before {text:?}: {}", got.body);
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), found).await;
    assert!(waited.is_ok(), "no {text:?} came");
}

fn paths(got: &Got) -> Vec<String> {
    let path = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["request"]["path"].clone();
    got.body.lines().map(|line| path(line).as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_many_pages_is_complete_in_order_and_without_repetition() {
    let server = Bare::new().await;
    let mut names: Vec<_> = (0..700).map(|n| format!("key-{n}")).collect();
    names.push("other".into());
    let create = names.iter().map(|name| {
        let path = format!("/v1/key/create/{name}");
        let server = &server;
        async move { server.must(ADMIN, "POST", &path, "").await }
    });
    futures::future::join_all(create).await;
    names.sort();
    let listed = async |pattern: &str| {
        let got = server.must(ADMIN, "GET", &format!("/v1/key/list/{pattern}"), "").await;
        assert_eq!(got.headers["content-type"], "application/x-ndjson");
        let name = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["name"].clone();
        got.body.lines().map(|line| name(line).as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed("*").await, names);
    assert_eq!(listed("").await, names);
    let with = |f: &dyn Fn(&str) -> bool| names.iter().filter(|n| f(n)).cloned().collect::<Vec<_>>();
    assert_eq!(listed("key-").await, with(&|n| n.starts_with("key-")));
    assert_eq!(listed("key-1*").await, with(&|n| n.starts_with("key-1")));
    assert_eq!(listed("*9").await, with(&|n| n.ends_with('9')));
    assert_eq!(listed("oth").await, ["other"]);
}

#[tokio::test]
async fn the_audit_stream_shows_what_is_asked_of_its_enclave_and_nothing_else() {
    let server = Bare::new().await;
    server.must(SYSTEM, "POST", "/v1/enclave/create/other", r#"{"admin":"other-admin"}"#).await;
    server.must(ADMIN, "POST", "/v1/key/create/before", "").await;
    let mut mine = server.must(ADMIN, "GET", "/v1/log/audit", "").await;
    let mut theirs = server.must("other-admin", "GET", "/v1/log/audit?enclave=other", "").await;
    assert_eq!(mine.headers["content-type"], "application/x-ndjson");
    assert_eq!(mine.body, "", "no backlog");
    server.must(ADMIN, "POST", "/v1/key/create/k", "").await;
    server.must("other-admin", "POST", "/v1/key/create/their-key?enclave=other", "").await;
    server.must(SYSTEM, "POST", "/v1/enclave/create/third", r#"{"admin":"third-admin"}"#).await;
    server.must(SYSTEM, "GET", "/v1/enclave/list/", "").await;
    server.must("somebody", "GET", "/version", "").await;
    server.ask("intruder", "GET", "/v1/key/list/*", "").await;
    server.must(ADMIN, "GET", "/v1/status", "").await;
    server.must(ADMIN, "POST", "/v1/key/generate/k", "").await;
    until(&mut mine, "generate").await;
    assert_eq!(paths(&mine), ["/v1/key/create/k", "/v1/key/list/*", "/v1/key/generate/k"]);
    let second = mine.body.lines().nth(1).unwrap();
    assert!(second.contains(r#""identity":"intruder""#) && second.contains(r#""code":403"#), "{second}");
    assert!(second.contains(r#""decision":"deny","rule":"default""#), "{second}");
    until(&mut theirs, "their-key").await;
    assert_eq!(paths(&theirs), ["/v1/key/create/their-key"]);
}

#[tokio::test]
async fn the_error_stream_shows_what_fails_in_its_enclave_and_nothing_else() {
    let server = Bare::new().await;
    server.must(SYSTEM, "POST", "/v1/enclave/create/other", r#"{"admin":"other-admin"}"#).await;
    let mut mine = server.must(ADMIN, "GET", "/v1/log/error", "").await;
    let mut theirs = server.must("other-admin", "GET", "/v1/log/error?enclave=other", "").await;
    // the service stops under the server's feet
    server.shared.service.close().await;
    let failed = server.ask(ADMIN, "POST", "/v1/key/create/k", "").await;
    assert!(failed.status >= 500, "{}", failed.status);
    let failed = server.ask("other-admin", "POST", "/v1/key/create/their-key?enclave=other", "").await;
    assert!(failed.status >= 500, "{}", failed.status);
    until(&mut mine, "/v1/key/create/k").await;
    let line: serde_json::Value = serde_json::from_str(&mine.body).unwrap();
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("http: CreateKey /v1/key/create/k failed with 503:"), "{message}");
    assert_eq!(&message[4..5], "/", "it begins with the date: {message}");
    until(&mut theirs, "/v1/key/create/their-key").await;
    assert_eq!(theirs.body.lines().count(), 1);
}

#[tokio::test]
async fn a_stream_ends_when_its_reader_loses_the_right_to_it() {
    let server = Bare::new().await;
    server.must(ADMIN, "POST", "/v1/policy/write/auditor", r#"{"allow":["/v1/log/*"]}"#).await;
    server.must(ADMIN, "POST", "/v1/policy/assign/auditor", r#"{"identity":"auditor"}"#).await;
    let mut stream = server.must("auditor", "GET", "/v1/log/audit", "").await;
    server.must(ADMIN, "POST", "/v1/key/create/seen", "").await;
    until(&mut stream, "seen").await;
    server.must(ADMIN, "DELETE", "/v1/policy/delete/auditor", "").await;
    server.must(ADMIN, "POST", "/v1/key/create/unseen", "").await;
    let ended = async { while stream.more().await {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the stream ends");
    assert!(!stream.body.contains("unseen"), "{}", stream.body);
    assert!(server.ask("auditor", "GET", "/v1/log/audit", "").await.is(&ApiError::NOT_ALLOWED));
}

#[tokio::test]
async fn a_stream_does_not_outlive_its_enclave_into_one_of_the_same_name() {
    let server = Bare::new().await;
    server.must(SYSTEM, "POST", "/v1/enclave/create/other", r#"{"admin":"other-admin"}"#).await;
    let mut stream = server.must("other-admin", "GET", "/v1/log/audit?enclave=other", "").await;
    server.must(SYSTEM, "DELETE", "/v1/enclave/delete/other", "").await;
    server.must(SYSTEM, "POST", "/v1/enclave/create/other", r#"{"admin":"third-admin"}"#).await;
    server.must("third-admin", "POST", "/v1/key/create/private?enclave=other", "").await;
    let ended = async { while stream.more().await {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the stream ends");
    assert_eq!(stream.body, "");
}

#[tokio::test]
async fn a_reader_that_does_not_read_blocks_nobody_and_its_losses_are_counted() {
    let server = Bare::new().await;
    let _slow = server.must(ADMIN, "GET", "/v1/log/audit", "").await;
    server.must(ADMIN, "POST", "/v1/key/create/k", "").await;
    for _ in 0..600 {
        server.must(ADMIN, "POST", "/v1/key/generate/k", "").await;
    }
    assert!(server.shared.audit.feed().dropped() >= 80, "{}", server.shared.audit.feed().dropped());
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let server = Bare::new().await;
    let mut stream = server.must(ADMIN, "GET", "/v1/log/error", "").await;
    server.shared.draining.cancel();
    let ended = async { while stream.more().await {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the stream ends");
}
