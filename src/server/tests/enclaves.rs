//! Enclaves are separate: for each kind of thing, nothing crosses.

use super::{ADMIN, Bare, SYSTEM};
use crate::api::ApiError;

const OTHER: &str = "other-admin";

/// A server with the enclaves `default` of [`ADMIN`] and `other` of [`OTHER`].
async fn server() -> Bare {
    let server = Bare::new().await;
    server.must(SYSTEM, "POST", "/v1/enclave/create/other", r#"{"admin":"other-admin"}"#).await;
    server
}

#[tokio::test]
async fn keys_of_one_enclave_are_not_in_another_and_do_not_open_its_ciphertexts() {
    let server = server().await;
    server.must(ADMIN, "POST", "/v1/key/create/k", "").await;
    let missing = server.ask(OTHER, "GET", "/v1/key/describe/k?enclave=other", "").await;
    assert!(missing.is(&ApiError::KEY_NOT_FOUND), "{}", missing.body);
    assert_eq!(server.must(OTHER, "GET", "/v1/key/list/*?enclave=other", "").await.body, "");
    // the same name is another key
    server.must(OTHER, "POST", "/v1/key/create/k?enclave=other", "").await;
    let key = server.must(ADMIN, "POST", "/v1/key/generate/k", "").await;
    let key: serde_json::Value = serde_json::from_str(&key.body).unwrap();
    let body = format!(r#"{{"ciphertext":{}}}"#, key["ciphertext"]);
    let opened = server.ask(OTHER, "POST", "/v1/key/decrypt/k?enclave=other", &body).await;
    assert!(opened.is(&ApiError::DECRYPT), "{}", opened.body);
    let hmac = r#"{"message":"eA=="}"#;
    assert_ne!(
        server.must(ADMIN, "PUT", "/v1/key/hmac/k", hmac).await.body,
        server.must(OTHER, "PUT", "/v1/key/hmac/k?enclave=other", hmac).await.body
    );
    server.must(OTHER, "DELETE", "/v1/key/delete/k?enclave=other", "").await;
    server.must(ADMIN, "POST", "/v1/key/decrypt/k", &body).await;
}

#[tokio::test]
async fn secrets_of_one_enclave_are_not_in_another() {
    let server = server().await;
    server.must(ADMIN, "POST", "/v1/secret/create/s", r#"{"bytes":"b25l"}"#).await;
    let missing = server.ask(OTHER, "GET", "/v1/secret/read/s?enclave=other", "").await;
    assert!(missing.is(&ApiError::SECRET_NOT_FOUND), "{}", missing.body);
    assert_eq!(server.must(OTHER, "GET", "/v1/secret/list/*?enclave=other", "").await.body, "");
    server.must(OTHER, "POST", "/v1/secret/create/s?enclave=other", r#"{"bytes":"dHdv"}"#).await;
    server.must(OTHER, "DELETE", "/v1/secret/delete/s?enclave=other", "").await;
    assert!(server.must(ADMIN, "GET", "/v1/secret/read/s", "").await.body.contains("b25l"));
}

#[tokio::test]
async fn policies_of_one_enclave_are_not_in_another() {
    let server = server().await;
    server.must(ADMIN, "POST", "/v1/policy/write/p", r#"{"allow":["/v1/status"]}"#).await;
    let missing = server.ask(OTHER, "GET", "/v1/policy/read/p?enclave=other", "").await;
    assert!(missing.is(&ApiError::POLICY_NOT_FOUND), "{}", missing.body);
    assert_eq!(server.must(OTHER, "GET", "/v1/policy/list/*?enclave=other", "").await.body, "");
    // a name that is assigned means the policy of the enclave it is assigned in
    server.must(OTHER, "POST", "/v1/policy/assign/p?enclave=other", r#"{"identity":"app"}"#).await;
    let app = server.ask("app", "GET", "/v1/status?enclave=other", "").await;
    assert!(app.is(&ApiError::NOT_ALLOWED), "{}", app.body);
    server.must(OTHER, "POST", "/v1/policy/write/p?enclave=other", r#"{"deny":["/v1/status"]}"#).await;
    assert!(
        server.must(ADMIN, "GET", "/v1/policy/read/p", "").await.body.contains(r#""allow":["/v1/status"]"#)
    );
    server.must(OTHER, "DELETE", "/v1/policy/delete/p?enclave=other", "").await;
    server.must(ADMIN, "GET", "/v1/policy/read/p", "").await;
}

#[tokio::test]
async fn identities_of_one_enclave_are_nobody_in_another_and_admins_too() {
    let server = server().await;
    server.must(ADMIN, "POST", "/v1/policy/write/p", r#"{"allow":["/v1/status"]}"#).await;
    server.must(ADMIN, "POST", "/v1/policy/assign/p", r#"{"identity":"app"}"#).await;
    server.must("app", "GET", "/v1/status", "").await;
    for (who, enclave) in [("app", "other"), (ADMIN, "other"), (OTHER, "default")] {
        for path in ["/v1/status", "/v1/identity/self/describe", "/v1/key/list/*", "/v1/log/audit"] {
            let got = server.ask(who, "GET", &format!("{path}?enclave={enclave}"), "").await;
            // to whoever asks about itself "nobody knows you" is the answer, as in KES
            let about_itself = path.ends_with("self/describe");
            let refusal = if about_itself { ApiError::IDENTITY_NOT_FOUND } else { ApiError::NOT_ALLOWED };
            assert!(got.is(&refusal), "{who} {path} in {enclave}: {}", got.body);
        }
    }
    let missing = server.ask(OTHER, "GET", "/v1/identity/describe/app?enclave=other", "").await;
    assert!(missing.is(&ApiError::IDENTITY_NOT_FOUND), "{}", missing.body);
    assert_eq!(server.must(OTHER, "GET", "/v1/identity/list/*?enclave=other", "").await.body, "");
    let other = server.ask(OTHER, "DELETE", "/v1/identity/delete/app?enclave=other", "").await;
    assert!(other.is(&ApiError::IDENTITY_NOT_FOUND), "{}", other.body);
    server.must("app", "GET", "/v1/status", "").await;
}

#[tokio::test]
async fn an_enclave_made_anew_under_an_old_name_has_nothing_of_the_old_one() {
    let server = server().await;
    for (path, body) in [
        ("/v1/key/create/k", ""),
        ("/v1/secret/create/s", "{}"),
        ("/v1/policy/write/p", r#"{"allow":["/v1/*"]}"#),
        ("/v1/policy/assign/p", r#"{"identity":"app"}"#),
    ] {
        server.must(OTHER, "POST", &format!("{path}?enclave=other"), body).await;
    }
    server.must(OTHER, "POST", "/v1/key/generate/k?enclave=other", "").await;
    server.must(SYSTEM, "DELETE", "/v1/enclave/delete/other", "").await;
    server.must(SYSTEM, "POST", "/v1/enclave/create/other", r#"{"admin":"third-admin"}"#).await;
    for kind in ["key", "secret", "policy", "identity"] {
        let list = server.must("third-admin", "GET", &format!("/v1/{kind}/list/*?enclave=other"), "").await;
        assert_eq!(list.body, "", "{kind}");
    }
    let key = server.ask("third-admin", "POST", "/v1/key/generate/k?enclave=other", "").await;
    assert!(key.is(&ApiError::KEY_NOT_FOUND), "{}", key.body);
    for who in [OTHER, "app"] {
        let got = server.ask(who, "GET", "/v1/status?enclave=other", "").await;
        assert!(got.is(&ApiError::NOT_ALLOWED), "{who}: {}", got.body);
    }
}
