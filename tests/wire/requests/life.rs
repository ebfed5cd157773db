//! What things go through from their making to their end.

use super::{Body, IMPORT, List, SEALED};
use crate::stage::Who::{self, Admin, App, Glob, Other, System, Unknown};

pub(super) fn keys(list: &mut List) {
    list.ask("key create", App, "POST /v1/key/create/app-1");
    list.ask("key describe created", App, "GET /v1/key/describe/app-1");
    list.ask("key create again", App, "POST /v1/key/create/app-1");
    list.tell("key import over it", App, "POST /v1/key/import/app-1", IMPORT);
    list.tell("key import", App, "POST /v1/key/import/app-2", IMPORT);
    list.ask("key create over imported", App, "POST /v1/key/create/app-2");
    for name in ["app-2", "app-k", "app-z", "app-u"] {
        list.ask(format!("key describe imported {name}"), Admin, &format!("GET /v1/key/describe/{name}"));
    }
    for (what, key, algorithm) in [
        ("16 bytes", "AAAAAAAAAAAAAAAAAAAAAA==", "AES256-GCM_SHA256"),
        ("33 bytes", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AES256-GCM_SHA256"),
        ("no bytes", "", "AES256-GCM_SHA256"),
        ("new spelling", super::KEY, "AES256"),
        ("undefined", super::KEY, "undefined"),
        ("no algorithm", super::KEY, ""),
        ("unknown algorithm", super::KEY, "DES"),
        ("lower case algorithm", super::KEY, "aes256-gcm_sha256"),
    ] {
        let target = format!("POST /v1/key/import/app-i-{}", what.replace(' ', "-"));
        let (old, new) = (
            format!(r#"{{"bytes":"{key}","algorithm":"{algorithm}"}}"#),
            format!(r#"{{"key":"{key}","cipher":"{algorithm}"}}"#),
        );
        list.tell(format!("key import {what}, old fields"), Admin, &format!("{target}-old"), old);
        list.tell(format!("key import {what}, new fields"), Admin, &format!("{target}-new"), new);
    }
    for line in
        ["GET /v1/key/describe/", "POST /v1/key/generate/", "POST /v1/key/encrypt/", "DELETE /v1/key/delete/"]
    {
        let (verb, body) =
            (line.rsplit('/').nth(1).unwrap(), if line.starts_with("POST") { "{}" } else { "" });
        // v0.23.0 closes the connection some time after it ignored a body
        let headers = if body.is_empty() { "Connection: close\r\n" } else { "" };
        for (what, body) in [("", body), (", bad body", "7")] {
            let id = format!("key missing {verb}{what}");
            let request = list.push(id, Admin, &format!("{line}app-none"), Body::Chunked(body.into()));
            request.headers = headers.into();
        }
    }
    list.ask("key delete", Admin, "DELETE /v1/key/delete/app-1");
    list.ask("key delete again", Admin, "DELETE /v1/key/delete/app-1");
    list.ask("key describe deleted", Admin, "GET /v1/key/describe/app-1");
    list.ask("key create after delete", Admin, "POST /v1/key/create/app-1");
}

pub(super) fn ciphertexts(list: &mut List) {
    list.tell("data key", App, "POST /v1/key/generate/app-k", r#"{"context":"Y29udGV4dA=="}"#);
    list.tell(
        "data key decrypt",
        App,
        "POST /v1/key/decrypt/app-k",
        r#"{"ciphertext":"{data key}","context":""}"#,
    );
    list.tell(
        "encrypt",
        App,
        "POST /v1/key/encrypt/app-k",
        r#"{"plaintext":"aGVsbG8=","context":"Y29udGV4dA=="}"#,
    );
    list.tell("encrypt nothing", App, "POST /v1/key/encrypt/app-k", "{}");
    list.tell(
        "encrypt elsewhere",
        App,
        "POST /v1/key/encrypt/app-z",
        r#"{"plaintext":"aGVsbG8=","context":"Y29udGV4dA=="}"#,
    );
    for (what, key, ciphertext, context) in [
        ("same context", "app-k", "{encrypt}", "Y29udGV4dA=="),
        ("no context", "app-k", "{encrypt}", ""),
        ("other context", "app-k", "{encrypt}", "aGVsbG8="),
        ("same bytes under another name", "app-2", "{encrypt}", "Y29udGV4dA=="),
        ("same bytes without algorithm", "app-u", "{encrypt}", "Y29udGV4dA=="),
        ("other key", "app-z", "{encrypt}", "Y29udGV4dA=="),
        ("chacha", "app-z", "{encrypt elsewhere}", "Y29udGV4dA=="),
        ("empty plaintext", "app-k", "{encrypt nothing}", ""),
        ("of v0.22.3", "app-k", SEALED, "e30="),
        ("of v0.22.3 by a key without algorithm", "app-u", SEALED, "e30="),
        ("of v0.22.3, other context", "app-k", SEALED, "e31="),
        (
            "of v0.23.0",
            "app-k",
            "laZBRVMyNTbZIDYzMGRjZDI5NjZjNDMzNjY5MTEyNTQ0OGJiYjI1YjRmxBALOsNSBOEZ/ANngaNep7x8xAwrqMUC6vsc2AFBC6jEFXnPruIf0m9e/67XzvjQeR+4rRb7zQ==",
            "e30=",
        ),
        (
            "raw of 2024",
            "app-k",
            "Odrzc7pJxbJaRTVHRwCksuSKpTxeQEFCQ0RFRkdISUpLTE1OT4CBgoOEhYaHiImKiw==",
            "e30=",
        ),
        (
            "JSON of v0.19.1",
            "app-k",
            "eyJhZWFkIjoiQUVTLTI1Ni1HQ00tSE1BQy1TSEEtMjU2IiwiaWQiOiI2MzBkY2QyOTY2YzQzMzY2OTExMjU0NDhiYmIyNWI0ZiIsIml2IjoiUUVGQ1EwUkZSa2RJU1VwTFRFMU9Udz09Iiwibm9uY2UiOiJnSUdDZzRTRmhvZUlpWXFMIiwiYnl0ZXMiOiJPZHJ6YzdwSnhiSmFSVFZIUndDa3N1U0twVHhlIn0=",
            "e30=",
        ),
        ("empty", "app-k", "", ""),
        ("one byte", "app-k", "lQ==", ""),
        ("43 bytes", "app-k", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==", ""),
        (
            "zeros",
            "app-k",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "",
        ),
        ("JSON object", "app-k", "e30=", ""),
        ("missing key", "app-none", "{encrypt}", "Y29udGV4dA=="),
    ] {
        let body = format!(r#"{{"ciphertext":"{ciphertext}","context":"{context}"}}"#);
        list.tell(format!("decrypt {what}"), App, &format!("POST /v1/key/decrypt/{key}"), body);
    }
    let item = format!(r#"{{"ciphertext":"{SEALED}","context":"e30="}}"#);
    for (what, items) in [
        ("none", String::new()),
        ("one", item.clone()),
        ("three", [item.as_str(); 3].join(",")),
        ("one of them wrong", format!(r#"{item},{{"ciphertext":"{SEALED}"}},{item}"#)),
        ("one of them empty", format!("{item},{{}}")),
        ("one of them null", format!("{item},null")),
        ("1000", [item.as_str(); 1000].join(",")),
        ("1001", [item.as_str(); 1001].join(",")),
    ] {
        let body = format!("[{items}]");
        list.tell(format!("bulk {what}"), App, "POST /v1/key/bulk/decrypt/app-k", body);
    }
    list.tell("bulk missing key", App, "POST /v1/key/bulk/decrypt/app-none", "[]");
    list.tell("hmac", App, "PUT /v1/key/hmac/app-1", r#"{"message":"aGVsbG8="}"#);
    list.tell("hmac of an imported key", App, "PUT /v1/key/hmac/app-k", r#"{"message":"aGVsbG8="}"#);
    list.tell("hmac by POST", App, "POST /v1/key/hmac/app-1", r#"{"message":"aGVsbG8="}"#);
    list.tell("hmac of nothing", App, "PUT /v1/key/hmac/app-1", "{}");
    list.tell("hmac missing key", App, "PUT /v1/key/hmac/app-none", r#"{"message":"aGVsbG8="}"#);
    list.tell("hmac bad body", App, "PUT /v1/key/hmac/app-1", "7");
}

pub(super) fn listings(list: &mut List) {
    for name in ["list-a", "list-ab", "list-b", "Xlist"] {
        list.tell(format!("list fixture {name}"), Admin, &format!("POST /v1/key/import/{name}"), IMPORT);
    }
    for pattern in [
        "list-*", "list-a", "list-a*", "list-", "*ist-a", "li*a", "*list", "l*t-*b", "list-**", "list-z*",
        "list-z", "?ist-a", "[l]ist-a",
    ] {
        list.ask(
            format!("list {pattern}"),
            Admin,
            &format!("GET /v1/key/list/{}", pattern.replace('?', "%3f")),
        );
    }
    list.ask("list foreign", Other, "GET /v1/key/list/*?enclave=other");
    for (kind, pattern) in [
        ("policy", "*"),
        ("policy", "gl*"),
        ("policy", "zz*"),
        ("policy", "glob"),
        ("identity", "zz*"),
        ("identity", "app-i"),
    ] {
        list.ask(format!("list {kind} {pattern}"), Admin, &format!("GET /v1/{kind}/list/{pattern}"));
    }
}

pub(super) fn policies(list: &mut List) {
    list.tell(
        "policy write",
        Admin,
        "POST /v1/policy/write/p-1",
        r#"{"allow":["/v1/status"],"deny":["/v1/api"]}"#,
    );
    list.ask("policy read", Admin, "GET /v1/policy/read/p-1");
    list.ask("policy describe", Admin, "GET /v1/policy/describe/p-1");
    list.tell("policy overwrite", Admin, "POST /v1/policy/write/p-1", r#"{"allow":["/v1/metrics"]}"#);
    list.ask("policy read overwritten", Admin, "GET /v1/policy/read/p-1");
    let sdk =
        r#"{"Allow":["/v1/status"],"Deny":null,"Info":{"name":"","created_at":"0001-01-01T00:00:00Z"}}"#;
    list.tell("policy write of the old SDK", Admin, "POST /v1/policy/write/p-2", sdk);
    list.ask("policy read of the old SDK", Admin, "GET /v1/policy/read/p-2");
    list.tell(
        "policy write escapes",
        Admin,
        "POST /v1/policy/write/p-3",
        r#"{"allow":["/v1/<&>\u2028\u00e4\"*"]}"#,
    );
    list.ask("policy read escapes", Admin, "GET /v1/policy/read/p-3");
    for (what, pattern) in [
        ("bracket", "/v1/key/["),
        ("range", "/v1/[z-a]"),
        ("backslash", "/v1/\\\\"),
        ("empty", ""),
        ("relative", "v1/status"),
    ] {
        let body = format!(r#"{{"deny":["{pattern}"]}}"#);
        list.tell(format!("policy write malformed {what}"), Admin, "POST /v1/policy/write/p-4", body);
    }
    for (what, identity) in [
        ("somebody", "app-x"),
        ("again", "app-x"),
        ("admin", "<admin>"),
        ("the system admin", "<system>"),
        ("nobody", ""),
        ("not a name", "a b"),
    ] {
        let body = format!(r#"{{"identity":"{identity}"}}"#);
        list.tell(format!("policy assign {what}"), Admin, "POST /v1/policy/assign/p-1", body);
    }
    list.ask("policy assigned", Admin, "GET /v1/identity/describe/app-x");
    list.tell("policy assign oneself", App, "POST /v1/policy/assign/app-p", r#"{"identity":"<app>"}"#);
    list.tell(
        "policy assign one that is not there",
        Admin,
        "POST /v1/policy/assign/p-none",
        r#"{"identity":"app-y"}"#,
    );
    list.ask("policy assigned one that is not there", Admin, "GET /v1/identity/describe/app-y");
    list.ask("policy delete", Admin, "DELETE /v1/policy/delete/p-1");
    list.ask("policy delete again", Admin, "DELETE /v1/policy/delete/p-1");
    list.ask("policy read deleted", Admin, "GET /v1/policy/read/p-1");
    list.ask("policy of app-x deleted", Admin, "GET /v1/identity/describe/app-x");
}

/// What the policy `glob` of the stage lets through.
pub(super) fn patterns(list: &mut List) {
    for name in [
        "a",
        "c",
        "m",
        "z",
        "ab",
        "ax",
        "bx",
        "cx",
        "x-end",
        "x-end-not",
        "deny",
        "deny-end",
        "any",
        "back*slash",
        "x%2f-end",
    ] {
        list.ask(format!("pattern describe {name}"), Glob, &format!("GET /v1/key/describe/{name}"));
    }
    for path in [
        "/v1/policy/describe/any",
        "/v1/secret/read/any",
        "/v1/secret",
        "/v1/status",
        "/v1/statuses",
        "/v1/metrics",
    ] {
        list.ask(format!("pattern {path}"), Glob, &format!("GET {path}"));
    }
    list.ask("pattern with a query", Glob, "GET /v1/status?x=/../y");
    list.ask("pattern of a cleaned path", Glob, "GET /v1/key/describe/x/../../../status");
}

pub(super) fn identities(list: &mut List) {
    for who in Who::KNOWN {
        let name = who.name();
        list.ask(format!("identity describe {name}"), Admin, &format!("GET /v1/identity/describe/<{name}>"));
        list.ask(format!("identity self {name}"), who, "GET /v1/identity/self/describe");
    }
    list.ask("identity list", Admin, "GET /v1/identity/list/*");
    list.ask("identity describe missing", Admin, "GET /v1/identity/describe/nobody");
    list.ask("identity delete admin", Admin, "DELETE /v1/identity/delete/<admin>");
    list.ask("identity delete system admin", Admin, "DELETE /v1/identity/delete/<system>");
    list.ask("identity delete", Admin, "DELETE /v1/identity/delete/app-i");
    list.ask("identity delete again", Admin, "DELETE /v1/identity/delete/app-i");
    list.ask("identity deleted", Admin, "GET /v1/identity/describe/app-i");
    list.ask("identity delete expired", Admin, "DELETE /v1/identity/delete/<expired>");
    list.ask("identity deleted and refused", Who::Expired, "GET /v1/key/describe/app-k");
}

pub(super) fn secrets(list: &mut List) {
    list.tell(
        "secret create",
        App,
        "POST /v1/secret/create/app-s1",
        r#"{"bytes":"aGVsbG8=","type":"generic"}"#,
    );
    list.tell("secret create again", App, "POST /v1/secret/create/app-s1", r#"{"bytes":"aGVsbG8="}"#);
    list.tell(
        "secret create other type",
        App,
        "POST /v1/secret/create/app-s2",
        r#"{"bytes":"aGVsbG8=","type":"special"}"#,
    );
    list.tell("secret create empty", App, "POST /v1/secret/create/app-s3", r#"{"bytes":""}"#);
    list.tell(
        "secret create null type",
        App,
        "POST /v1/secret/create/app-s4",
        r#"{"bytes":"aGVsbG8=","type":null}"#,
    );
    for name in ["app-s1", "app-s3", "app-none"] {
        list.ask(format!("secret describe {name}"), App, &format!("GET /v1/secret/describe/{name}"));
        list.ask(format!("secret read {name}"), App, &format!("GET /v1/secret/read/{name}"));
    }
    for pattern in ["app-s*", "app-s1", "app-zz*"] {
        list.ask(format!("secret list {pattern}"), App, &format!("GET /v1/secret/list/{pattern}"));
    }
    list.ask("secret delete", App, "DELETE /v1/secret/delete/app-s1");
    list.ask("secret delete again", App, "DELETE /v1/secret/delete/app-s1");
    list.ask("secret read deleted", App, "GET /v1/secret/read/app-s1");
}

pub(super) fn enclaves(list: &mut List) {
    list.tell("enclave create", System, "POST /v1/enclave/create/new", r#"{"admin":"<unknown>"}"#);
    list.tell("enclave create again", System, "POST /v1/enclave/create/new", r#"{"admin":"<unknown>"}"#);
    list.tell(
        "enclave create for the system admin",
        System,
        "POST /v1/enclave/create/wrong",
        r#"{"admin":"<system>"}"#,
    );
    list.tell("enclave create for nobody", System, "POST /v1/enclave/create/wrong", r#"{"admin":""}"#);
    list.ask("enclave describe", System, "GET /v1/enclave/describe/new");
    list.ask("enclave describe missing", System, "GET /v1/enclave/describe/missing");
    list.ask("enclave list", System, "GET /v1/enclave/list/new*");
    list.ask("enclave list nothing", System, "GET /v1/enclave/list/zz*");
    list.ask("enclave new create key", Unknown, "POST /v1/key/create/app-k?enclave=new");
    list.ask("enclave new describe key", Unknown, "GET /v1/key/describe/app-k?enclave=new");
    list.tell(
        "enclave new decrypt of another enclave",
        Unknown,
        "POST /v1/key/decrypt/app-k?enclave=new",
        r#"{"ciphertext":"{encrypt}","context":"Y29udGV4dA=="}"#,
    );
    list.ask("enclave new list keys", Unknown, "GET /v1/key/list/*?enclave=new");
    list.ask("enclave new of another admin", Admin, "GET /v1/key/describe/app-k?enclave=new");
    list.ask("enclave delete", System, "DELETE /v1/enclave/delete/new");
    list.ask("enclave delete again", System, "DELETE /v1/enclave/delete/new");
    list.ask("enclave deleted", Unknown, "GET /v1/key/describe/app-k?enclave=new");
    list.tell("enclave create anew", System, "POST /v1/enclave/create/new", r#"{"admin":"<unknown>"}"#);
    list.ask("enclave anew has no keys", Unknown, "GET /v1/key/describe/app-k?enclave=new");
}

/// Last, because nothing comes after it.
pub(super) fn seal(list: &mut List) {
    list.ask("seal", System, "POST /v1/sys/seal");
    list.ask("seal again", System, "POST /v1/sys/seal");
    list.ask("sealed status", Admin, "GET /v1/status");
    list.ask("sealed describe", Admin, "GET /v1/key/describe/app-k");
    list.tell("sealed generate", Admin, "POST /v1/key/generate/app-k", "{}");
    list.ask("sealed unknown", Unknown, "GET /v1/key/describe/app-k");
    list.ask("sealed enclave", System, "GET /v1/enclave/describe/other");
    list.ask("sealed version", Admin, "GET /version");
    list.ask("sealed ready", Admin, "GET /v1/ready");
    list.ask("sealed self", Admin, "GET /v1/identity/self/describe");
}
