//! The order of checks, and the exact answers.

use super::{ADMIN, Bare, SYSTEM};
use crate::{
    api::{ApiError, NameError},
    server::route::ROUTES,
};

const UNKNOWN: &str = "nobody";

#[tokio::test]
async fn checks_come_in_the_order_of_kes() {
    let server = Bare::new().await;
    server.must(ADMIN, "POST", "/v1/key/create/there", "").await;
    let huge = "x".repeat((1 << 20) + 1);
    for (who, method, path, body, want) in [
        // the method before everything else
        (UNKNOWN, "GET", "/v1/key/create/bad%20name?enclave=nowhere", "x", ApiError::WRONG_METHOD),
        // then the size of the body
        (UNKNOWN, "POST", "/v1/key/generate/x?enclave=nowhere", &*huge, ApiError::BODY_TOO_LARGE),
        // the enclave
        (UNKNOWN, "POST", "/v1/key/generate/x?enclave=no%20name", "", NameError::InvalidCharacter.into()),
        (UNKNOWN, "POST", "/v1/key/generate/bad%20name?enclave=nowhere", "", ApiError::ENCLAVE_NOT_FOUND),
        // rights
        (UNKNOWN, "POST", "/v1/key/generate/bad%20name", "{", ApiError::NOT_ALLOWED),
        (SYSTEM, "POST", "/v1/key/generate/there", "{}", ApiError::NOT_ALLOWED),
        // the name
        (ADMIN, "POST", "/v1/key/generate/bad%20name", "{", NameError::InvalidCharacter.into()),
        (ADMIN, "POST", "/v1/key/generate/", "{", NameError::Empty.into()),
        (ADMIN, "POST", "/v1/key/generate", "{", NameError::Empty.into()),
        (ADMIN, "POST", "/v1/key/generate/a/b", "{", NameError::InvalidCharacter.into()),
        (ADMIN, "GET", "/v1/key/list/a%20b", "", ApiError::INVALID_PATTERN),
        // existence
        (ADMIN, "POST", "/v1/key/generate/missing", "{", ApiError::KEY_NOT_FOUND),
        (ADMIN, "POST", "/v1/key/encrypt/missing", "{", ApiError::KEY_NOT_FOUND),
        (ADMIN, "PUT", "/v1/key/hmac/missing", "{", ApiError::KEY_NOT_FOUND),
        (ADMIN, "GET", "/v1/secret/read/missing", "", ApiError::SECRET_NOT_FOUND),
        (ADMIN, "GET", "/v1/secret/describe/missing", "", ApiError::SECRET_NOT_FOUND),
        (ADMIN, "DELETE", "/v1/secret/delete/missing", "", ApiError::SECRET_NOT_FOUND),
        (ADMIN, "POST", "/v1/secret/create/bad%20name", "{", NameError::InvalidCharacter.into()),
        (ADMIN, "POST", "/v1/key/decrypt/missing", "{", ApiError::KEY_NOT_FOUND),
        (ADMIN, "POST", "/v1/key/bulk/decrypt/missing", "{", ApiError::KEY_NOT_FOUND),
        (ADMIN, "POST", "/v1/key/bulk/decrypt/missing", "[]", ApiError::KEY_NOT_FOUND),
        // the body, last
        (ADMIN, "POST", "/v1/key/generate/there", "{", ApiError::INVALID_BODY),
        (ADMIN, "POST", "/v1/key/encrypt/there", "", ApiError::INVALID_BODY),
        (ADMIN, "POST", "/v1/key/decrypt/there", "[]", ApiError::INVALID_BODY),
        (ADMIN, "POST", "/v1/key/decrypt/there", "{}", ApiError::DECRYPT),
        (ADMIN, "POST", "/v1/key/bulk/decrypt/there", "{}", ApiError::INVALID_BODY),
        (ADMIN, "POST", "/v1/key/import/new", "{}", ApiError::INVALID_KEY_SIZE),
        (ADMIN, "PUT", "/v1/key/hmac/there", "", ApiError::INVALID_BODY),
        (ADMIN, "POST", "/v1/secret/create/new", "", ApiError::INVALID_BODY),
        (ADMIN, "DELETE", "/v1/identity/delete/system-admin", "", ApiError::DELETE_SYSTEM_ADMIN),
        (ADMIN, "DELETE", "/v1/identity/delete/enclave-admin", "", ApiError::DELETE_ADMIN),
        (ADMIN, "DELETE", "/v1/identity/delete/nobody", "", ApiError::IDENTITY_NOT_FOUND),
        (ADMIN, "POST", "/v1/key/create/there", "", ApiError::KEY_EXISTS),
        // what is no route
        (ADMIN, "GET", "/v1/nothing", "", ApiError::UNKNOWN_ROUTE),
        (UNKNOWN, "POST", "/v1/cluster/expand", "", ApiError::UNKNOWN_ROUTE),
        (ADMIN, "GET", "/v1/key/describe/%ff", "", NameError::InvalidCharacter.into()),
    ] {
        let got = server.ask(who, method, path, body).await;
        assert!(got.is(&want), "{who} {method} {path}: {} {} instead of {want}", got.status, got.body);
        assert_eq!(got.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn the_wrong_method_is_told_the_right_one_in_the_accept_header() {
    let server = Bare::new().await;
    for route in ROUTES {
        let got = server.ask(ADMIN, "PATCH", route.path, "").await;
        assert!(got.is(&ApiError::WRONG_METHOD), "{}", route.path);
        assert_eq!(got.headers["accept"], route.methods[0]);
    }
}

#[tokio::test]
async fn a_path_that_needs_cleaning_is_redirected_and_one_without_its_slash_is_answered() {
    let server = Bare::new().await;
    for path in ["//v1/status?enclave=x", "/v1/../v1/status?enclave=x", "/v1/key/list/../../status?enclave=x"]
    {
        let got = server.ask(UNKNOWN, "GET", path, "").await;
        assert_eq!((got.status, &got.headers["location"]), (307, &"/v1/status?enclave=x".parse().unwrap()));
    }
    for path in ["/v1/key/list", "/v1/policy/list", "/v1/identity/list", "/v1/secret/list"] {
        for path in [path.to_owned(), format!("{path}/")] {
            let got = server.must(ADMIN, "GET", &path, "").await;
            assert_eq!(got.headers["content-type"], "application/x-ndjson", "{path}");
        }
    }
}

/// Clients that always send a body do so for routes without one, too; KES never looks.
#[tokio::test]
async fn a_body_for_a_route_that_takes_none_is_ignored() {
    let server = Bare::new().await;
    let large = "x".repeat(2 << 20);
    for body in ["{}", "no JSON", &large] {
        server.must(ADMIN, "GET", "/v1/status", body).await;
        server.must(ADMIN, "POST", "/v1/key/create/k", body).await;
        server.must(ADMIN, "DELETE", "/v1/key/delete/k", body).await;
    }
}

#[tokio::test]
async fn what_is_about_the_server_does_not_depend_on_the_enclave_that_was_named() {
    let server = Bare::new().await;
    for enclave in ["nowhere", "no%20name"] {
        server.must(UNKNOWN, "GET", &format!("/version?enclave={enclave}"), "").await;
        for (method, call) in [("POST", "create"), ("GET", "describe"), ("DELETE", "delete")] {
            let path = format!("/v1/enclave/{call}/e?enclave={enclave}");
            server.must(SYSTEM, method, &path, r#"{"admin":"somebody"}"#).await;
        }
        let within = server.ask(ADMIN, "GET", &format!("/v1/key/list/*?enclave={enclave}"), "").await;
        assert!(within.status >= 400, "{}", within.body);
    }
}

#[tokio::test]
async fn a_name_that_is_none_is_told_as_such_also_in_a_body() {
    let server = Bare::new().await;
    server.must(ADMIN, "POST", "/v1/policy/write/p", "{}").await;
    let long = "x".repeat(200);
    for (name, want) in [
        ("a b", NameError::InvalidCharacter.into()),
        (&long, NameError::TooLong.into()),
        ("", NameError::Empty.into()),
        ("\\q", ApiError::INVALID_BODY),
    ] {
        let body = format!(r#"{{"identity":"{name}"}}"#);
        let got = server.ask(ADMIN, "POST", "/v1/policy/assign/p", &body).await;
        assert!(got.is(&want), "'{name}': {} {} instead of {want}", got.status, got.body);
    }
}

#[tokio::test]
async fn a_key_lives_its_life() {
    let server = Bare::new().await;
    let created = server.must(ADMIN, "PUT", "/v1/key/create/my-key", "").await;
    assert_eq!((&*created.body, &created.headers["content-length"]), ("", &"0".parse().unwrap()));

    let described = server.must(ADMIN, "GET", "/v1/key/describe/my-key", "").await;
    assert_eq!(described.headers["content-type"], "application/json");
    assert!(
        described.body.starts_with(r#"{"name":"my-key","id":""#) && described.body.ends_with("}\n"),
        "{}",
        described.body
    );

    // an empty body is allowed for generate, and fields in any case
    server.must(ADMIN, "POST", "/v1/key/generate/my-key", "").await;
    let key = server.must(ADMIN, "POST", "/v1/key/generate/my-key", r#"{"Context":"e30="}"#).await;
    let key: serde_json::Value = serde_json::from_str(&key.body).unwrap();
    let body = format!(r#"{{"ciphertext":{},"context":"e30="}}"#, key["ciphertext"]);
    let plain = server.must(ADMIN, "POST", "/v1/key/decrypt/my-key", &body).await;
    assert_eq!(plain.body, format!("{{\"plaintext\":{}}}\n", key["plaintext"]));
    let plain = server.must(ADMIN, "POST", "/v1/key/bulk/decrypt/my-key", &format!("[{body},{body}]")).await;
    assert_eq!(plain.body, format!("[{{\"plaintext\":{0}}},{{\"plaintext\":{0}}}]\n", key["plaintext"]));
    assert_eq!(server.must(ADMIN, "POST", "/v1/key/bulk/decrypt/my-key", "[]").await.body, "[]\n");
    let many = format!("[{}]", vec!["{}"; 1001].join(","));
    assert!(
        server
            .ask(ADMIN, "POST", "/v1/key/bulk/decrypt/my-key", &many)
            .await
            .body
            .contains("too many ciphertexts")
    );

    for path in ["/v1/key/list", "/v1/key/list/", "/v1/key/list/*", "/v1/key/list/my", "/v1/key/list/my-*"] {
        let list = server.must(ADMIN, "GET", path, "").await;
        assert_eq!(list.headers["content-type"], "application/x-ndjson");
        assert!(
            list.body.starts_with(r#"{"name":"my-key""#) && list.body.lines().count() == 1,
            "{path}: {}",
            list.body
        );
    }
    let none = server.must(ADMIN, "GET", "/v1/key/list/other*", "").await;
    assert_eq!((&*none.body, &none.headers["content-type"]), ("", &"application/x-ndjson".parse().unwrap()));

    server.must(ADMIN, "DELETE", "/v1/key/delete/my-key", "").await;
    assert!(server.ask(ADMIN, "DELETE", "/v1/key/delete/my-key", "").await.is(&ApiError::KEY_NOT_FOUND));
}

#[tokio::test]
async fn the_policy_sees_the_decoded_path_and_a_list_without_slash_as_with_one() {
    let server = Bare::new().await;
    server.must(ADMIN, "POST", "/v1/key/create/secret", "").await;
    let policy = r#"{"Allow":["/v1/key/describe/*","/v1/key/list/*"],"Deny":["/v1/key/describe/secret"]}"#;
    server.must(ADMIN, "POST", "/v1/policy/write/p", policy).await;
    server.must(ADMIN, "POST", "/v1/policy/assign/p", r#"{"identity":"app"}"#).await;
    for path in ["/v1/key/describe/secret", "/v1/key/describe/%73ecret", "/v1/key/describe/sec%72et?x=y"] {
        assert!(server.ask("app", "GET", path, "").await.is(&ApiError::NOT_ALLOWED), "{path}");
    }
    server.must("app", "GET", "/v1/key/list", "").await;
    server.must("app", "GET", "/v1/key/list/sec", "").await;
}

#[tokio::test]
async fn the_server_tells_of_itself() {
    let server = Bare::new().await;
    let version = server.must(UNKNOWN, "GET", "/version", "").await;
    assert!(version.body.starts_with(r#"{"version":""#), "{}", version.body);
    let api = server.must(ADMIN, "GET", "/v1/api", "").await;
    let api: Vec<serde_json::Value> = serde_json::from_str(&api.body).unwrap();
    assert_eq!(api.len(), ROUTES.len());
    assert_eq!(
        api[5],
        serde_json::json!({"method":"POST","path":"/v1/key/create/","max_body":0,"timeout":15})
    );
    let status = server.must(ADMIN, "GET", "/v1/status", "").await;
    let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
    assert_eq!(status["os"], "linux");
    assert!(status["mem_heap_used"].as_u64().unwrap() > 0);
    server.must(ADMIN, "GET", "/v1/ready", "").await;
    let metrics = server.must(ADMIN, "GET", "/v1/metrics", "").await;
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.body.contains("kes_http_request_success{code=\"200\"} 4\n"), "{}", metrics.body);
    assert!(metrics.body.contains("kes_http_request_active 1\n"));
}

#[tokio::test]
async fn a_change_is_made_and_audited_also_when_the_client_goes_away() {
    let server = Bare::new().await;
    {
        let ask = server.ask(ADMIN, "POST", "/v1/key/create/abandoned", "");
        let polled = futures::poll!(std::pin::pin!(ask));
        assert!(polled.is_pending(), "the answer waits for the audit record");
    }
    let audited = async {
        loop {
            let found = server.lines.0.lock().unwrap().iter().any(|line| {
                line["request"]["path"] == "/v1/key/create/abandoned" && line["response"]["code"] == 200
            });
            if found {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), audited).await.expect("it is audited");
    server.must(ADMIN, "GET", "/v1/key/describe/abandoned", "").await;
}

/// Otherwise whoever sends slowly keeps rights for as long as a request may take, also in a new enclave of an old name.
#[tokio::test]
async fn rights_that_are_withdrawn_while_a_body_comes_are_not_used() {
    let server = Bare::new().await;
    let policy = r#"{"allow":["/v1/key/import/*","/v1/key/encrypt/*"]}"#;
    server.must(ADMIN, "POST", "/v1/key/create/there", "").await;
    server.must(ADMIN, "POST", "/v1/policy/write/p", policy).await;
    server.must(ADMIN, "POST", "/v1/policy/assign/p", r#"{"identity":"app"}"#).await;
    let import = r#"{"bytes":"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}"#;
    for (path, body) in
        [("/v1/key/import/late", import), ("/v1/key/encrypt/there", r#"{"plaintext":"YQ=="}"#)]
    {
        for withdrawn in [false, true] {
            let (send, receive) = tokio::sync::oneshot::channel();
            let mut asked = std::pin::pin!(server.ask_slowly("app", "POST", path, receive));
            // a change is in a task of its own, which must have been let in before
            while server.shared.changes.is_quiet() && path.contains("import") {
                assert!(futures::poll!(&mut asked).is_pending());
                tokio::task::yield_now().await;
            }
            assert!(futures::poll!(&mut asked).is_pending());
            tokio::task::yield_now().await;
            if withdrawn {
                server.must(ADMIN, "DELETE", "/v1/identity/delete/app", "").await;
            }
            send.send(bytes::Bytes::from(body)).unwrap();
            let got = asked.await;
            assert_eq!(got.is(&ApiError::NOT_ALLOWED), withdrawn, "{path}: {}", got.body);
            server.must(ADMIN, "POST", "/v1/policy/assign/p", r#"{"identity":"app"}"#).await;
        }
        assert_eq!(server.ask(ADMIN, "GET", "/v1/key/describe/late", "").await.status, 200);
    }
}

#[tokio::test]
async fn no_secret_reaches_the_audit_log() {
    let server = Bare::new().await;
    let secret = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
    server.must(ADMIN, "POST", "/v1/key/import/k", &format!(r#"{{"bytes":"{secret}"}}"#)).await;
    let body = format!(r#"{{"plaintext":"{secret}","context":"{secret}"}}"#);
    let sealed = server.must(ADMIN, "POST", "/v1/key/encrypt/k", &body).await;
    let sealed: serde_json::Value = serde_json::from_str(&sealed.body).unwrap();
    let body = format!(r#"{{"ciphertext":{},"context":"{secret}"}}"#, sealed["ciphertext"]);
    server.must(ADMIN, "POST", "/v1/key/decrypt/k", &body).await;
    server.ask(ADMIN, "POST", "/v1/key/decrypt/k", &body.replace("e30", "xxx")).await;
    assert!(server.shared.audit.close(std::time::Duration::from_secs(5)));
    let lines = server.lines.0.lock().unwrap();
    assert_eq!(lines.len(), 4);
    for line in lines.iter().map(ToString::to_string) {
        assert!(!line.contains("QUFB") && !line.contains("AAAA") && !line.contains("41414141"), "{line}");
    }
}
