//! Where this server differs from KES on purpose: one test for each, named after the difference.

use std::{
    io,
    sync::{Arc, Mutex, mpsc},
};

use super::{ADMIN, Bare, SYSTEM, service, service_with};
use crate::{
    api::{ApiError, NameError},
    audit::{AuditLog, Event, Sink},
    world::{Random, System},
};

/// KES v0.22.3 encrypts for anybody: one handler forgot to ask.
#[tokio::test]
async fn encrypt_is_authorised() {
    let server = Bare::new().await;
    server.must(ADMIN, "POST", "/v1/key/create/k", "").await;
    server.must(ADMIN, "POST", "/v1/policy/write/p", r#"{"allow":["/v1/key/decrypt/k"]}"#).await;
    server.must(ADMIN, "POST", "/v1/policy/assign/p", r#"{"identity":"app"}"#).await;
    for who in ["nobody", "app", SYSTEM] {
        let got = server.ask(who, "POST", "/v1/key/encrypt/k", r#"{"plaintext":"eA=="}"#).await;
        assert!(got.is(&ApiError::NOT_ALLOWED), "{who}: {}", got.body);
    }
    server.must(ADMIN, "POST", "/v1/key/encrypt/k", r#"{"plaintext":"eA=="}"#).await;
}

/// KES v0.22.3 streams the events of all enclaves to whoever may read those of one.
#[tokio::test]
async fn audit_streams_are_confined_to_the_enclave() {
    let server = Bare::new().await;
    server.must(SYSTEM, "POST", "/v1/enclave/create/other", r#"{"admin":"other-admin"}"#).await;
    let mut stream = server.must(ADMIN, "GET", "/v1/log/audit", "").await;
    server.must("other-admin", "POST", "/v1/key/create/private?enclave=other", "").await;
    server.must(SYSTEM, "POST", "/v1/enclave/create/third", r#"{"admin":"x"}"#).await;
    server.must(ADMIN, "POST", "/v1/key/create/own", "").await;
    stream.more().await;
    assert_eq!(stream.body.lines().count(), 1, "{}", stream.body);
    assert!(stream.body.contains("/v1/key/create/own"), "{}", stream.body);
}

/// KES v0.22.3 looks for the key only among those in memory, and so replaces one that was not read since the start.
#[tokio::test(flavor = "multi_thread")]
async fn create_is_atomic_and_never_overwrites() {
    let server = Bare::new().await;
    let create = || server.ask(ADMIN, "POST", "/v1/key/create/k", "");
    let answers = futures::future::join_all((0..32).map(|_| create())).await;
    assert_eq!(answers.iter().filter(|got| got.status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|got| got.is(&ApiError::KEY_EXISTS)).count(), 31);
    let describe = async || server.must(ADMIN, "GET", "/v1/key/describe/k", "").await.body;
    let before = describe().await;
    let import = r#"{"bytes":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}"#;
    assert!(server.ask(ADMIN, "POST", "/v1/key/import/k", import).await.is(&ApiError::KEY_EXISTS));
    assert!(create().await.is(&ApiError::KEY_EXISTS));
    assert_eq!(describe().await, before);
}

/// KES v0.22.3 takes blanks off a name after its policy has looked, so that a blank leads around a deny rule.
#[tokio::test]
async fn names_are_not_trimmed() {
    let server = Bare::new().await;
    server.must(ADMIN, "POST", "/v1/key/create/secret", "").await;
    let policy = r#"{"allow":["/v1/key/describe/*"],"deny":["/v1/key/describe/secret"]}"#;
    server.must(ADMIN, "POST", "/v1/policy/write/p", policy).await;
    server.must(ADMIN, "POST", "/v1/policy/assign/p", r#"{"identity":"app"}"#).await;
    for blank in ["secret%20", "%20secret", "secret%09", "secret%0a", "secret%00", "secret%C2%A0"] {
        let got = server.ask("app", "GET", &format!("/v1/key/describe/{blank}"), "").await;
        assert!(got.is(&NameError::InvalidCharacter.into()), "{blank}: {}", got.body);
    }
    assert!(server.ask("app", "GET", "/v1/key/describe/secret", "").await.is(&ApiError::NOT_ALLOWED));
    assert!(server.ask(ADMIN, "POST", "/v1/key/create/%20k", "").await.status == 400);
}

/// KES v0.22.3 stores it and lets it never match: a deny rule with a typing error permits.
#[tokio::test]
async fn a_malformed_deny_pattern_is_rejected_when_written_with_its_position() {
    let server = Bare::new().await;
    let body = r#"{"allow":["/v1/key/*/a"],"deny":["/v1/key/create/b","/v1/key/[a"]}"#;
    let got = server.ask(ADMIN, "POST", "/v1/policy/write/p", body).await;
    assert_eq!(got.status, 400);
    let message = "invalid policy: deny[1]: pattern '/v1/key/[a' is malformed at byte 8: '[' is never closed";
    assert_eq!(got.body, format!(r#"{{"message":"{message}"}}"#));
    let read = server.ask(ADMIN, "GET", "/v1/policy/read/p", "").await;
    assert!(read.is(&ApiError::POLICY_NOT_FOUND), "nothing of it was stored: {}", read.body);
}

/// KES v0.22.3 puts the text between quotes as it is, so that a quote in it makes the answer no JSON.
#[tokio::test]
async fn error_json_is_escaped() {
    let server = Bare::new().await;
    let got = server.ask(ADMIN, "POST", "/v1/secret/create/s", r#"{"type":"\"<b>\"\n"}"#).await;
    assert_eq!(got.status, 400);
    let value: serde_json::Value = serde_json::from_str(&got.body).unwrap();
    assert_eq!(value["message"], "unsupported secret type '\"<b>\"\n'");
    assert!(!got.body.contains('<'), "no markup for those who look with a browser: {}", got.body);
}

/// Keeps what was handed out.
#[derive(Default)]
struct Noted(Mutex<Vec<Vec<u8>>>);

impl Random for Noted {
    fn fill(&self, bytes: &mut [u8]) {
        System.fill(bytes);
        self.0.lock().unwrap().push(bytes.to_vec());
    }
}

/// KES from v0.19.2 to v0.22.3 draws data keys from a generator with a fixed seed: the first after every start is known.
#[tokio::test]
async fn data_keys_are_from_a_csprng() {
    let random = Arc::new(Noted::default());
    let server = Bare::with(service_with(Arc::clone(&random) as Arc<dyn Random>).await, |lines| {
        AuditLog::new(lines).unwrap()
    });
    server.must(ADMIN, "POST", "/v1/key/create/k", "").await;
    let mut keys = std::collections::HashSet::new();
    for _ in 0..100 {
        random.0.lock().unwrap().clear();
        let got = server.must(ADMIN, "POST", "/v1/key/generate/k", "").await;
        let got: serde_json::Value = serde_json::from_str(&got.body).unwrap();
        let key = got["plaintext"].as_str().unwrap().to_owned();
        assert_ne!(key, "Uv38ByGCZU8WP18PmmIdcpVmx00QA3xNe7sEB9Hixkk=", "the first of KES after every start");
        let bytes = serde_json::from_value::<crate::api::message::Base64>(got["plaintext"].clone()).unwrap();
        let drawn = random.0.lock().unwrap().concat();
        assert!(drawn.windows(32).any(|drawn| drawn == bytes.as_ref()), "it is the random bytes themselves");
        assert!(keys.insert(key));
    }
}

/// KES reads every file, and answers when it has read the last one; later KES cuts listings off at 1024 names.
#[tokio::test(flavor = "multi_thread")]
async fn listings_are_streamed_from_an_ordered_index() {
    use crate::server::{body::Body, reply::Outgoing};
    use http_body_util::BodyExt as _;
    let server = Bare::new().await;
    let names: Vec<_> = (0..1100).map(|n| format!("key-{n:04}")).collect();
    let create = names.iter().map(|name| {
        let (server, path) = (&server, format!("/v1/key/create/{name}"));
        async move { server.must(ADMIN, "POST", &path, "").await }
    });
    futures::future::join_all(create).await;
    let empty = Body::Fixed(bytes::Bytes::new());
    let admin = Ok(ADMIN.parse().unwrap());
    let mut body = server.begin(admin, "GET", "/v1/key/list/*", empty).await.into_body();
    assert!(matches!(body, Outgoing::Parts { .. }));
    let (mut text, mut parts) = (String::new(), 0);
    while let Some(part) = body.frame().await {
        let part = part.unwrap().into_data().unwrap();
        assert!(part.len() < 128 << 10, "no part holds the whole");
        if parts == 0 {
            // made after the answer began and before the client read on
            server.must(ADMIN, "POST", "/v1/key/create/key-9999", "").await;
        }
        text.push_str(std::str::from_utf8(&part).unwrap());
        parts += 1;
    }
    assert!(parts >= 4, "{parts}");
    let name = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["name"].clone();
    let listed: Vec<_> = text.lines().map(|line| name(line).as_str().unwrap().to_owned()).collect();
    assert_eq!(listed[..1100], names);
    assert_eq!(listed[1100..], ["key-9999"]);
}

/// Takes nothing until its gate is dropped, and tells when it is asked to.
struct Stuck(mpsc::Receiver<()>, mpsc::Sender<()>);

impl Sink for Stuck {
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        let _ = self.1.send(());
        let _ = self.0.recv();
        Ok(())
    }
}

/// KES audits after it has answered, and later KES only three operations.
#[tokio::test(flavor = "multi_thread")]
async fn mutations_are_audited_before_the_answer() {
    let ((gate, stuck), (asked, _asked)) = (mpsc::channel(), mpsc::channel());
    let server = Bare::with(service().await, |_| AuditLog::new(Stuck(stuck, asked)).unwrap());
    let mut create = std::pin::pin!(server.must(ADMIN, "POST", "/v1/key/create/k", ""));
    // the change itself is made, but nobody is told
    let made = async {
        while server.ask(ADMIN, "GET", "/v1/key/describe/k", "").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut create => panic!("answered before it was audited"),
        () = made => {}
    }
    // and the data plane does not wait for a sink that is stuck
    for _ in 0..10 {
        server.must(ADMIN, "POST", "/v1/key/generate/k", "").await;
    }
    assert!(futures::poll!(&mut create).is_pending());
    drop(gate);
    create.await;
}

/// Nor is a change made that could not be noted; what waits for the sink is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_not_made_when_the_audit_log_takes_no_more() {
    let ((gate, stuck), (asked, is_asked)) = (mpsc::channel(), mpsc::channel());
    let server = Bare::with(service().await, |_| AuditLog::new(Stuck(stuck, asked)).unwrap());
    let path = "/".repeat(100_000);
    let event = Event {
        time: jiff::Timestamp::UNIX_EPOCH,
        ip: [127, 0, 0, 1].into(),
        selector: "",
        path: &path,
        identity: None,
        enclave: None,
        action: "CreateKey",
        decision: None,
        rule: None,
        code: 200,
        took: std::time::Duration::ZERO,
        id: 1,
    };
    server.shared.audit.record(&event);
    // the sink has it in hand, so that all others wait, however late it woke up
    is_asked.recv().unwrap();
    while server.shared.audit.takes_changes() {
        assert!(futures::poll!(Box::pin(server.shared.audit.record_now(&event))).is_pending());
    }
    let refused = server.ask(ADMIN, "POST", "/v1/key/create/k", "").await;
    assert!(refused.is(&ApiError::AUDIT_BEHIND), "{}", refused.body);
    let missing = server.ask(ADMIN, "GET", "/v1/key/describe/k", "").await;
    assert!(missing.is(&ApiError::KEY_NOT_FOUND), "{}", missing.body);
    drop(gate);
    while !server.shared.audit.takes_changes() {
        tokio::task::yield_now().await;
    }
    server.must(ADMIN, "POST", "/v1/key/create/k", "").await;
}
