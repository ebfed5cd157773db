//! The life of each kind of thing, through the routes, with the exact answers.

use serde_json::{Value, json};

use super::{ADMIN, Bare, Got, SYSTEM};
use crate::api::{ApiError, message::Generation};

fn value(got: &Got) -> Value {
    serde_json::from_str(&got.body).unwrap()
}

/// The names of the fields in the order in which they are sent.
fn fields(text: &str) -> Vec<String> {
    // serde_json sorts; the text does not
    let object: serde_json::Map<String, Value> = serde_json::from_str(text).unwrap();
    let mut names: Vec<_> = object.keys().cloned().collect();
    names.sort_by_key(|name| text.find(&format!("\"{name}\":")));
    names
}

#[tokio::test]
async fn a_secret_lives_its_life() {
    let server = Bare::new().await;
    let body = r#"{"bytes":"aHVudGVyMg==","type":"generic"}"#;
    let created = server.must(ADMIN, "POST", "/v1/secret/create/db-password", body).await;
    assert_eq!((&*created.body, created.headers["content-length"].as_bytes()), ("", &b"0"[..]));
    server.must(ADMIN, "POST", "/v1/secret/create/empty", "{}").await;

    let read = server.must(ADMIN, "GET", "/v1/secret/read/db-password", "").await;
    assert_eq!(fields(&read.body), ["bytes", "type", "created_at", "mod_time", "created_by"]);
    let read = value(&read);
    assert_eq!(
        (&read["type"], &read["bytes"], &read["created_by"]),
        (&json!("generic"), &json!("aHVudGVyMg=="), &json!(ADMIN))
    );
    assert_eq!(read["created_at"], read["mod_time"]);
    assert_eq!(value(&server.must(ADMIN, "GET", "/v1/secret/read/empty", "").await)["bytes"], "");

    let described = server.must(ADMIN, "GET", "/v1/secret/describe/db-password", "").await;
    assert_eq!(fields(&described.body), ["type", "created_at", "mod_time", "created_by"]);
    assert!(!described.body.contains("aHVudGVyMg"));

    let list = server.must(ADMIN, "GET", "/v1/secret/list/*", "").await;
    assert_eq!(list.headers["content-type"], "application/x-ndjson");
    let lines: Vec<_> = list.body.lines().collect();
    assert_eq!(fields(lines[0]), ["name", "created_at", "mod_time", "created_by"]);
    assert!(lines[0].starts_with(r#"{"name":"db-password""#) && lines[1].starts_with(r#"{"name":"empty""#));
    assert_eq!(server.must(ADMIN, "GET", "/v1/secret/list/db", "").await.body.lines().count(), 1);
    assert_eq!(server.must(ADMIN, "GET", "/v1/secret/list/x*", "").await.body, "");

    server.must(ADMIN, "DELETE", "/v1/secret/delete/db-password", "").await;
    let gone = server.ask(ADMIN, "GET", "/v1/secret/read/db-password", "").await;
    assert!(gone.is(&ApiError::SECRET_NOT_FOUND), "{}", gone.body);
}

#[tokio::test]
async fn a_secret_is_never_overwritten_and_that_is_said_with_404_as_in_kes() {
    let server = Bare::new().await;
    server.must(ADMIN, "POST", "/v1/secret/create/s", r#"{"bytes":"b25l"}"#).await;
    let again = server.ask(ADMIN, "POST", "/v1/secret/create/s", r#"{"bytes":"dHdv"}"#).await;
    assert_eq!((again.status, &*again.body), (404, r#"{"message":"secret already exists"}"#));
    assert!(server.must(ADMIN, "GET", "/v1/secret/read/s", "").await.body.contains("b25l"));
    // as kes-go v0.2 sends it
    server.must(ADMIN, "POST", "/v1/secret/create/named", r#"{"secret":"b25l"}"#).await;
    assert_eq!(value(&server.must(ADMIN, "GET", "/v1/secret/read/named", "").await)["bytes"], "b25l");
    // null is a value without fields
    server.must(ADMIN, "POST", "/v1/secret/create/none", "null").await;
    server.must(ADMIN, "POST", "/v1/secret/create/untyped", r#"{"type":null}"#).await;
    assert_eq!(value(&server.must(ADMIN, "GET", "/v1/secret/read/untyped", "").await)["type"], "generic");
    let typed = server.ask(ADMIN, "POST", "/v1/secret/create/t", r#"{"type":"\"tls\""}"#).await;
    assert_eq!((typed.status, &value(&typed)["message"]), (400, &json!("unsupported secret type '\"tls\"'")));
}

#[tokio::test]
async fn a_secret_may_fill_the_whole_body_and_not_a_byte_more() {
    let server = Bare::new().await;
    let frame = r#"{"bytes":""}"#.len();
    let longest = "A".repeat(((1 << 20) - frame) / 4 * 4);
    server.must(ADMIN, "POST", "/v1/secret/create/s", &format!(r#"{{"bytes":"{longest}"}}"#)).await;
    assert_eq!(value(&server.must(ADMIN, "GET", "/v1/secret/read/s", "").await)["bytes"], longest);
    let longer = format!(r#"{{"bytes":"{longest}AAAA"}}"#);
    let got = server.ask(ADMIN, "POST", "/v1/secret/create/t", &longer).await;
    assert!(got.is(&ApiError::BODY_TOO_LARGE), "{}", got.body);
}

#[tokio::test]
async fn a_key_authenticates_messages_the_same_way_always_and_unlike_any_other_key() {
    let server = Bare::new().await;
    for key in ["one", "two"] {
        server.must(ADMIN, "POST", &format!("/v1/key/create/{key}"), "").await;
    }
    let import = r#"{"bytes":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}"#;
    server.must(ADMIN, "POST", "/v1/key/import/three", import).await;
    let mut macs = std::collections::BTreeSet::new();
    for key in ["one", "two", "three"] {
        let path = format!("/v1/key/hmac/{key}");
        let put = server.must(ADMIN, "PUT", &path, r#"{"message":"aGVsbG8=","version":""}"#).await;
        let post = server.must(ADMIN, "POST", &path, r#"{"Message":"aGVsbG8="}"#).await;
        assert_eq!(put.body, post.body);
        let mac = value(&put)["hmac"].as_str().unwrap().to_owned();
        assert_eq!(mac.len(), 44, "32 bytes in base64");
        macs.insert(mac);
        let other = server.must(ADMIN, "PUT", &path, r#"{"message":null}"#).await;
        macs.insert(value(&other)["hmac"].as_str().unwrap().to_owned());
    }
    assert_eq!(macs.len(), 6, "no two keys and no two messages have the same");
}

#[tokio::test]
async fn a_policy_and_the_callers_own_description_have_the_shape_of_the_generation_that_is_set() {
    for generation in [Generation::V022, Generation::V2025] {
        let mut server = Bare::new().await;
        std::sync::Arc::get_mut(&mut server.shared).unwrap().generation = generation;
        let policy = r#"{"allow":{"/v1/key/*/a":{}},"deny":["/v1/key/delete/*"]}"#;
        server.must(ADMIN, "POST", "/v1/policy/write/p", policy).await;
        server.must(ADMIN, "POST", "/v1/policy/assign/p", r#"{"identity":"app"}"#).await;
        let read = server.must(ADMIN, "GET", "/v1/policy/read/p", "").await;
        let own = server.must("app", "GET", "/v1/identity/self/describe", "").await;
        let admin = server.must(ADMIN, "GET", "/v1/identity/self/describe", "").await;
        if generation == Generation::V022 {
            assert_eq!(fields(&read.body), ["allow", "deny", "created_at", "created_by"]);
            assert_eq!(value(&read)["allow"], json!(["/v1/key/*/a"]));
            assert_eq!(fields(&own.body), ["identity", "policy_name", "created_at", "policy"]);
            assert_eq!(value(&own)["policy"]["deny"], json!(["/v1/key/delete/*"]));
            assert_eq!(value(&admin)["policy"], json!({"created_at": "0001-01-01T00:00:00Z"}));
        } else {
            assert_eq!(fields(&read.body), ["name", "allow", "deny", "created_at", "created_by"]);
            assert_eq!(value(&read)["allow"], json!({"/v1/key/*/a": {}}));
            assert_eq!(fields(&own.body), ["identity", "policy", "allow", "deny", "created_at"]);
            assert_eq!(value(&own)["policy"], "p");
            assert_eq!(value(&own)["deny"], json!({"/v1/key/delete/*": {}}));
            assert_eq!(fields(&admin.body), ["identity", "admin", "created_at", "created_by"]);
        }
    }
}

#[tokio::test]
async fn a_policy_matches_by_prefix_only_when_it_says_so() {
    let server = Bare::new().await;
    server.must(ADMIN, "POST", "/v1/policy/write/glob", r#"{"allow":["/v1/*"]}"#).await;
    let prefix = r#"{"allow":["/v1/*"],"deny":["/v1/key/d*"],"match":"prefix"}"#;
    server.must(ADMIN, "POST", "/v1/policy/write/prefix", prefix).await;
    for policy in ["glob", "prefix"] {
        let body = format!(r#"{{"identity":"{policy}"}}"#);
        server.must(ADMIN, "POST", &format!("/v1/policy/assign/{policy}"), &body).await;
        server.must(policy, "GET", "/v1/status", "").await;
    }
    assert!(server.ask("glob", "POST", "/v1/key/create/k", "").await.is(&ApiError::NOT_ALLOWED));
    server.must("prefix", "POST", "/v1/key/create/k", "").await;
    assert!(server.ask("prefix", "DELETE", "/v1/key/delete/k", "").await.is(&ApiError::NOT_ALLOWED));
    assert_eq!(value(&server.must(ADMIN, "GET", "/v1/policy/read/prefix", "").await)["match"], "prefix");
    let glob = value(&server.must(ADMIN, "GET", "/v1/policy/read/glob", "").await);
    assert_eq!(glob.get("match"), None, "what old clients wrote reads as it was");
    let inner = r#"{"deny":["/v1/status","/v1/*/x"],"match":"prefix"}"#;
    let refused = server.ask(ADMIN, "POST", "/v1/policy/write/p", inner).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("deny[1]: pattern '/v1/*/x' is malformed at byte 4"), "{}", refused.body);
}

#[tokio::test]
async fn imports_of_both_generations_are_refused_each_in_its_own_words() {
    let server = Bare::new().await;
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (body, status, message) in [
        (r#"{"bytes":"YQ=="}"#.to_owned(), 400, "invalid key size"),
        (r#"{"key":"YQ==","cipher":"AES256"}"#.to_owned(), 406, "invalid key size for 'AES256'"),
        (format!(r#"{{"key":"{key}","cipher":"DES"}}"#), 406, "algorithm 'DES' is not supported"),
        (format!(r#"{{"bytes":"{key}","algorithm":"DES"}}"#), 400, "algorithm 'DES' is not supported"),
    ] {
        let got = server.ask(ADMIN, "POST", "/v1/key/import/k", &body).await;
        assert_eq!((got.status, &value(&got)["message"]), (status, &json!(message)), "{body}");
    }
    for (name, body, algorithm) in [
        ("old", format!(r#"{{"bytes":"{key}","algorithm":"XCHACHA20-POLY1305"}}"#), "XCHACHA20-POLY1305"),
        ("new", format!(r#"{{"key":"{key}","cipher":"AES256"}}"#), "AES256-GCM_SHA256"),
    ] {
        server.must(ADMIN, "PUT", &format!("/v1/key/import/{name}"), &body).await;
        let info = value(&server.must(ADMIN, "GET", &format!("/v1/key/describe/{name}"), "").await);
        assert_eq!(info["algorithm"], algorithm);
        assert_eq!(info["id"], "66687aadf862bd776c8fc18b8e9f8e20");
    }
    server.must(ADMIN, "PUT", "/v1/key/import/none", &format!(r#"{{"bytes":"{key}"}}"#)).await;
    let info = server.must(ADMIN, "GET", "/v1/key/describe/none", "").await;
    assert_eq!(fields(&info.body), ["name", "id", "created_at", "created_by"], "never an empty algorithm");
}

#[tokio::test]
async fn an_enclave_lives_its_life_and_deleting_none_is_fine() {
    let server = Bare::new().await;
    let body = r#"{"admin":"other-admin"}"#;
    server.must(SYSTEM, "POST", "/v1/enclave/create/tenant", body).await;
    assert!(
        server.ask(SYSTEM, "POST", "/v1/enclave/create/tenant", body).await.is(&ApiError::ENCLAVE_EXISTS)
    );
    let described = server.must(SYSTEM, "GET", "/v1/enclave/describe/tenant", "").await;
    assert_eq!(fields(&described.body), ["name", "created_at", "created_by"]);
    assert_eq!(value(&described)["created_by"], SYSTEM);
    for (pattern, names) in [("", "default tenant"), ("*", "default tenant"), ("t", "tenant"), ("x*", "")] {
        let list = server.must(SYSTEM, "GET", &format!("/v1/enclave/list/{pattern}"), "").await;
        assert_eq!(list.headers["content-type"], "application/json");
        let list = value(&list);
        let names: Vec<_> = names.split_whitespace().collect();
        assert_eq!((&list["names"], &list["continue_at"]), (&json!(names), &json!("")));
        let described = list["enclaves"].as_array().unwrap().iter();
        assert!(described.map(|enclave| enclave["name"].as_str().unwrap()).eq(names));
    }
    for _ in 0..2 {
        server.must(SYSTEM, "DELETE", "/v1/enclave/delete/tenant", "").await;
    }
    let gone = server.ask(SYSTEM, "GET", "/v1/enclave/describe/tenant", "").await;
    assert!(gone.is(&ApiError::ENCLAVE_NOT_FOUND));
    let own = server.ask(SYSTEM, "POST", "/v1/enclave/create/x", r#"{"admin":"system-admin"}"#).await;
    assert!(own.is(&ApiError::ADMIN_IS_SYSTEM_ADMIN), "{}", own.body);
}

#[tokio::test]
async fn a_sealed_server_says_so_to_everybody_and_keeps_no_key_in_memory() {
    let server = Bare::new().await;
    server.must(ADMIN, "POST", "/v1/key/create/k", "").await;
    server.must(ADMIN, "POST", "/v1/key/generate/k", "").await;
    assert!(server.ask(ADMIN, "POST", "/v1/sys/seal", "").await.is(&ApiError::NOT_ALLOWED));
    assert!(server.shared.service.holds_keys());
    server.must(SYSTEM, "POST", "/v1/sys/seal", "").await;
    assert!(!server.shared.service.holds_keys(), "the last reference is gone, so its keys are wiped");
    for (who, method, path) in [
        (ADMIN, "POST", "/v1/key/generate/k"),
        (ADMIN, "POST", "/v1/key/create/other"),
        (ADMIN, "GET", "/v1/key/list/*"),
        (ADMIN, "GET", "/v1/status"),
        (ADMIN, "GET", "/v1/ready"),
        ("nobody", "GET", "/v1/identity/self/describe"),
        (SYSTEM, "GET", "/v1/key/list/*"),
        (SYSTEM, "POST", "/v1/enclave/create/x"),
        (SYSTEM, "GET", "/v1/enclave/list/"),
        (SYSTEM, "POST", "/v1/sys/seal"),
    ] {
        let body = if path.contains("enclave/create") { r#"{"admin":"a"}"# } else { "" };
        let got = server.ask(who, method, path, body).await;
        assert!(got.is(&ApiError::SEALED), "{who} {path}: {}", got.body);
    }
    assert!(server.ask(ADMIN, "POST", "/v1/enclave/create/x", "{}").await.is(&ApiError::NOT_ALLOWED));
    server.must("nobody", "GET", "/version", "").await;
    let cluster = value(&server.must(SYSTEM, "GET", "/v1/sys/cluster", "").await);
    assert_eq!((&cluster["sealed"], &cluster["cluster_id"]), (&json!(true), &json!("test")));
}

#[tokio::test]
async fn the_status_pleases_both_generations_of_sdks() {
    let server = Bare::new().await;
    let status = server.must(ADMIN, "GET", "/v1/status", "").await;
    assert_eq!(status.headers["content-type"], "application/json");
    let status = value(&status);
    for field in ["uptime", "num_cpu", "num_cpu_used", "mem_heap_used", "mem_stack_used", "keystore_latency"]
    {
        assert!(status[field].is_u64(), "{field}: {status}");
    }
    for field in ["version", "os", "arch"] {
        assert!(status[field].is_string(), "{field}: {status}");
    }
    assert_eq!(status.get("keystore_unreachable"), None, "only said when it is so, and then with its twin");
}
