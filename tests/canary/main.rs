//! No key, plaintext, context, message, secret or unseal key leaves the server except in the answer to whoever may have it.
//!
//! The real server answers every route there is, with bytes that are easy to recognise, well formed and not. Then
//! everything it wrote is searched for them in every encoding: standard output and error at the most talkative level that
//! a release has, the audit file, both registries of metrics, the log streams, and each file of the data directory.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod needle;
mod server;

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use self::{needle::Needles, server::Server};

/// 32 bytes, as keys are.
const KEY: &[u8; 32] = b"canary-key-0123456789-abcdefghij";
const OTHER_KEY: &[u8; 32] = b"other-canary-key-9876543210-zyxw";
const PLAINTEXT: &[u8] = b"canary: the plaintext of an application";
const CONTEXT: &[u8] = b"{\"canary-bucket\":\"canary-bucket/object\"}";
const MESSAGE: &[u8] = b"canary: the message to authenticate";
const SECRET: &[u8] = b"canary: the value of a secret, \"quoted\"";

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_anything_that_the_server_writes() {
    let server = Server::start().await;
    let mut needles = Needles::default();
    for secret in [KEY, OTHER_KEY, PLAINTEXT, CONTEXT, MESSAGE, SECRET, &server.unseal_key()] {
        needles.add(secret);
    }
    let audit_stream = server.follow("/v1/log/audit").await;
    let error_stream = server.follow("/v1/log/error").await;
    use_everything(&server, &mut needles).await;
    misuse_everything(&server).await;
    let mut written = vec![("/v1/metrics", server.must("GET", "/v1/metrics", "").await.into_bytes())];
    server.must_as_system("POST", "/v1/sys/seal", "").await;
    let metrics = server.health("/metrics").await;
    every_route_was_used(&metrics);
    written.push(("/metrics", metrics.into_bytes()));

    let stopped = server.stop().await;
    written.push(("audit stream", audit_stream.into_rest().await));
    written.push(("error stream", error_stream.into_rest().await));
    assert!(stopped.log.contains("answered"), "the log is at its most talkative:\n{}", stopped.log);
    for path in ["/v1/key/import/k", "/v1/secret/create/s"] {
        assert!(stopped.audit_file.contains(path) && stopped.stdout.contains(path), "{path} is audited");
    }
    every_audited_request_has_the_same_id_in_the_log(&stopped.audit_file, &stopped.log);
    written.push(("standard error", stopped.log.into_bytes()));
    written.push(("standard output", stopped.stdout.into_bytes()));
    written.push(("audit file", stopped.audit_file.into_bytes()));
    for (place, text) in &written {
        needles.assert_not_in(place, text);
    }
    let mut files = 0;
    for (path, content) in stopped.data.files() {
        needles.assert_not_in(&path, &content);
        files += 1;
    }
    assert!(files >= 4, "the data directory was searched: {files} files");
    // the search finds what is there: names are in clear, as documented
    assert!(Needles::of(b"canary-name").are_in(&stopped.data.everything()), "a name is found");
}

async fn use_everything(server: &Server, needles: &mut Needles) {
    for path in
        ["/version", "/v1/ready", "/v1/status", "/v1/api", "/v1/metrics", "/v1/identity/self/describe"]
    {
        server.must("GET", path, "").await;
    }
    let import = json!({"bytes": base64(KEY), "algorithm": "AES256-GCM_SHA256"});
    server.must("POST", "/v1/key/import/k", &import.to_string()).await;
    let import = json!({"key": base64(OTHER_KEY), "cipher": "ChaCha20"});
    server.must("PUT", "/v1/key/import/chacha", &import.to_string()).await;
    server.must("POST", "/v1/key/create/canary-name", "").await;
    let context = base64(CONTEXT);
    for key in ["k", "chacha", "canary-name"] {
        server.must("GET", &format!("/v1/key/describe/{key}"), "").await;
        let body = json!({"context": context}).to_string();
        let data_key: Value =
            serde_json::from_str(&server.must("POST", &format!("/v1/key/generate/{key}"), &body).await)
                .unwrap();
        needles.add(&bytes(&data_key["plaintext"]));
        let body = json!({"plaintext": base64(PLAINTEXT), "context": context}).to_string();
        let sealed: Value =
            serde_json::from_str(&server.must("POST", &format!("/v1/key/encrypt/{key}"), &body).await)
                .unwrap();
        let body = json!({"ciphertext": sealed["ciphertext"], "context": context});
        let opened = server.must("POST", &format!("/v1/key/decrypt/{key}"), &body.to_string()).await;
        assert!(opened.contains(&base64(PLAINTEXT)), "the answer itself has it");
        let path = format!("/v1/key/bulk/decrypt/{key}");
        server.must("POST", &path, &json!([body, body]).to_string()).await;
        let body = json!({"message": base64(MESSAGE)}).to_string();
        let mac: Value =
            serde_json::from_str(&server.must("PUT", &format!("/v1/key/hmac/{key}"), &body).await).unwrap();
        needles.add(&bytes(&mac["hmac"]));
    }
    server.must("GET", "/v1/key/list/*", "").await;
    let secret = json!({"bytes": base64(SECRET)}).to_string();
    for name in ["s", "t"] {
        server.must("POST", &format!("/v1/secret/create/{name}"), &secret).await;
    }
    for verb in ["describe", "read"] {
        server.must("GET", &format!("/v1/secret/{verb}/s"), "").await;
    }
    server.must("GET", "/v1/secret/list/*", "").await;
    server.must("POST", "/v1/policy/write/p", r#"{"allow":["/v1/key/*/k"]}"#).await;
    server.must("POST", "/v1/policy/assign/p", r#"{"identity":"app"}"#).await;
    for path in
        ["policy/describe/p", "policy/read/p", "policy/list/*", "identity/describe/app", "identity/list/*"]
    {
        server.must("GET", &format!("/v1/{path}"), "").await;
    }
    let cluster: Value =
        serde_json::from_str(&server.must_as_system("GET", "/v1/sys/cluster", "").await).unwrap();
    let bootstrap = json!({"cluster_id": cluster["cluster_id"]}).to_string();
    server.must_as_system("POST", "/v1/sys/bootstrap", &bootstrap).await;
    server.must_as_system("POST", "/v1/enclave/create/e", r#"{"admin":"a"}"#).await;
    server.must_as_system("GET", "/v1/enclave/describe/e", "").await;
    server.must_as_system("GET", "/v1/enclave/list/", "").await;
    server.must_as_system("POST", "/v1/enclave/rotate/default", "").await;
    server.must_as_system("POST", "/v1/sys/rotate", "").await;
    server.must_as_system("GET", "/v1/sys/rotation", "").await;
    server.must_as_system("DELETE", "/v1/enclave/delete/e", "").await;
    for path in ["key/delete/chacha", "secret/delete/t", "identity/delete/app", "policy/delete/p"] {
        server.must("DELETE", &format!("/v1/{path}"), "").await;
    }
}

/// What goes wrong must not be quoted either.
async fn misuse_everything(server: &Server) {
    let (key, plaintext, context) = (base64(KEY), base64(PLAINTEXT), base64(CONTEXT));
    for (path, body) in [
        ("/v1/key/import/k", format!(r#"{{"bytes":"{key}"}}"#)),
        ("/v1/key/import/new", format!(r#"{{"bytes":"{key}AAAA"}}"#)),
        ("/v1/key/import/new", format!(r#"{{"bytes":"{key}","algorithm":7}}"#)),
        ("/v1/key/import/new", format!(r#"{{"bytes":["{key}"]}}"#)),
        ("/v1/key/generate/k", format!(r#"{{"context":"{context}"#)),
        ("/v1/key/generate/k", format!(r#"{{"context":{{"{context}":1}}}}"#)),
        ("/v1/key/encrypt/k", format!(r#"{{"plaintext":"{plaintext}!"}}"#)),
        ("/v1/key/encrypt/missing", format!(r#"{{"plaintext":"{plaintext}"}}"#)),
        ("/v1/key/encrypt/k", format!(r#"["{plaintext}"]"#)),
        ("/v1/key/decrypt/k", format!(r#"{{"ciphertext":"{plaintext}","context":"{context}"}}"#)),
        ("/v1/key/bulk/decrypt/k", format!(r#"[{{"ciphertext":"{plaintext}"}}, "{context}"]"#)),
        ("/v1/key/hmac/k", format!(r#"{{"message":"{}?"}}"#, base64(MESSAGE))),
        ("/v1/secret/create/s", format!(r#"{{"bytes":"{}"}}"#, base64(SECRET))),
        ("/v1/secret/create/u", format!(r#"{{"bytes":{{"a":"{}"}}}}"#, base64(SECRET))),
        ("/v1/key/create/k", format!(r#"{{"bytes":"{key}"}}"#)),
        ("/v1/nothing", format!(r#"{{"bytes":"{key}"}}"#)),
    ] {
        let (status, answer) = server.ask("POST", path, &body).await;
        assert!(status >= 400, "{path} {body}: {status} {answer}");
        for secret in [KEY, PLAINTEXT, CONTEXT, MESSAGE, SECRET] {
            Needles::of(secret).assert_not_in(path, answer.as_bytes());
        }
    }
}

/// Whoever reads an audit line finds what the log says of the same request. Some routes are not audited, as in KES.
fn every_audited_request_has_the_same_id_in_the_log(audit: &str, log: &str) {
    let actions = |text: &str, wanted: fn(&Value) -> bool| -> Vec<(String, Value)> {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let wanted = lines.filter(wanted);
        wanted.map(|line| (line["id"].as_str().unwrap().to_owned(), line["action"].clone())).collect()
    };
    let audited = actions(audit, |_| true);
    let answered: BTreeMap<_, _> = actions(log, |line| line["message"] == "answered").into_iter().collect();
    assert!(audited.len() > 50, "{} lines", audited.len());
    let ids: BTreeSet<_> = audited.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), audited.len(), "an id for two requests");
    for (id, action) in &audited {
        assert_eq!(answered.get(id), Some(action), "{id}");
    }
}

/// The metrics know every route, so a new one that this test forgets is noticed.
fn every_route_was_used(metrics: &str) {
    let mut actions = 0;
    for line in metrics.lines().filter(|line| line.starts_with("kes_requests_total{") && line.contains("2xx"))
    {
        // asking for metrics is not counted, as in KES
        assert!(!line.ends_with(" 0") || line.contains("\"Metrics\""), "not used: {line}");
        actions += 1;
    }
    assert!(actions > 35, "{actions} actions:\n{metrics}");
}
