//! Every route, asked by everybody.

use super::{Body, IMPORT, List, ROUTES, short};
use crate::stage::Who;

/// Who asks every route.
const CALLERS: [Who; 10] = [
    Who::System,
    Who::Admin,
    Who::Other,
    Who::App,
    Who::Denied,
    Who::Dangling,
    Who::Glob,
    Who::Expired,
    Who::Unknown,
    Who::Nobody,
];

/// What the other groups take for granted.
pub(super) fn fixtures(list: &mut List) {
    list.tell("fixture key", Who::Admin, "POST /v1/key/import/app-k", IMPORT);
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let chacha = format!(
        r#"{{"bytes":"{zeros}","algorithm":"XCHACHA20-POLY1305","key":"{zeros}","cipher":"ChaCha20"}}"#
    );
    list.tell("fixture chacha", Who::Admin, "POST /v1/key/import/app-z", chacha);
    let undefined = format!(r#"{{"bytes":"{0}","key":"{0}","cipher":"AES256"}}"#, super::KEY);
    list.tell("fixture undefined", Who::Admin, "POST /v1/key/import/app-u", undefined);
    list.tell("fixture secret", Who::Admin, "POST /v1/secret/create/app-s", r#"{"bytes":"aGVsbG8="}"#);
    list.tell("fixture policy", Who::Admin, "POST /v1/policy/write/app-p", r#"{"allow":["/v1/status"]}"#);
    list.tell("fixture identity", Who::Admin, "POST /v1/policy/assign/app-p", r#"{"identity":"app-i"}"#);
    list.tell("fixture dangling", Who::Admin, "POST /v1/policy/assign/gone", r#"{"identity":"<dangling>"}"#);
    list.tell("fixture enclave", Who::System, "POST /v1/enclave/create/app-e", r#"{"admin":"app-a"}"#);
    for caller in CALLERS {
        let name = format!("app-d-{}", caller.name());
        list.tell(
            format!("fixture delete {name} key"),
            Who::Admin,
            &format!("POST /v1/key/import/{name}"),
            IMPORT,
        );
        let secret = r#"{"bytes":""}"#;
        list.tell(
            format!("fixture delete {name} secret"),
            Who::Admin,
            &format!("POST /v1/secret/create/{name}"),
            secret,
        );
        list.tell(
            format!("fixture delete {name} policy"),
            Who::Admin,
            &format!("POST /v1/policy/write/{name}"),
            "{}",
        );
        let identity = format!(r#"{{"identity":"{name}"}}"#);
        list.tell(
            format!("fixture delete {name} identity"),
            Who::Admin,
            "POST /v1/policy/assign/app-p",
            identity,
        );
    }
}

pub(super) fn everybody(list: &mut List) {
    for (line, body) in ROUTES {
        let (_, path) = line.split_once(' ').unwrap();
        for caller in CALLERS {
            let who = caller.name();
            // streams do not end, and the server is needed after it could be sealed
            let ends = !path.starts_with("/v1/log/") || caller != Who::Admin;
            if !ends || (path == "/v1/sys/seal" && caller == Who::System) {
                continue;
            }
            let body = if body.is_empty() { Body::None } else { Body::Chunked(body.into()) };
            let line = format!("{line}{}", argument(path, &who));
            list.push(format!("matrix {} / {who}", short(path)), caller, &line, body);
        }
    }
}

/// Something that is there, for what reads; something of the caller's own, for what changes.
fn argument(path: &str, who: &str) -> String {
    match path {
        "/v1/policy/assign/" => "app-p".into(),
        "/v1/identity/describe/" => "app-i".into(),
        "/v1/policy/describe/" | "/v1/policy/read/" => "app-p".into(),
        "/v1/enclave/describe/" => "app-e".into(),
        "/v1/secret/describe/" | "/v1/secret/read/" => "app-s".into(),
        _ if path.ends_with("list/") => "app-k*".into(),
        _ if path.ends_with("delete/") => format!("app-d-{who}"),
        _ if path.ends_with("create/") || path.ends_with("import/") || path.ends_with("write/") => {
            format!("app-m-{}-{who}", short(path).replace(' ', "-"))
        }
        _ if path.ends_with('/') => "app-k".into(),
        _ => String::new(),
    }
}
