//! Every route for every kind of caller: the table of routes is the test's input, so that none can be forgotten.

use std::time::Duration;

use super::{ADMIN, Bare, SYSTEM};
use crate::{
    api::ApiError,
    authz::Scope,
    server::route::{Argument, Audited, ROUTES},
};

/// A policy that names every path there is.
const EVERYTHING: &str = r#"["/version","/v1/*","/v1/*/*","/v1/*/*/*","/v1/*/*/*/*"]"#;

/// Callers, and which scopes are open to them in the enclave `default`.
const CALLERS: [(&str, &[Scope]); 6] = [
    ("unknown", &[Scope::Public]),
    ("denied", &[Scope::Public, Scope::Caller]),
    ("allowed", &[Scope::Public, Scope::Caller, Scope::Enclave]),
    ("allowed-elsewhere", &[Scope::Public]),
    (ADMIN, &[Scope::Public, Scope::Caller, Scope::Enclave]),
    (SYSTEM, &[Scope::Public, Scope::System]),
];

async fn server() -> Bare {
    let server = Bare::new().await;
    let denied = format!(r#"{{"allow":{EVERYTHING},"deny":{EVERYTHING}}}"#);
    let allowed = format!(r#"{{"allow":{EVERYTHING}}}"#);
    server.must(ADMIN, "POST", "/v1/policy/write/everything", &allowed).await;
    server.must(ADMIN, "POST", "/v1/policy/write/nothing", &denied).await;
    server.must(ADMIN, "POST", "/v1/policy/assign/everything", r#"{"identity":"allowed"}"#).await;
    server.must(ADMIN, "POST", "/v1/policy/assign/nothing", r#"{"identity":"denied"}"#).await;
    server.must(SYSTEM, "POST", "/v1/enclave/create/elsewhere", r#"{"admin":"other-admin"}"#).await;
    server.must("other-admin", "POST", "/v1/policy/write/everything?enclave=elsewhere", &allowed).await;
    let elsewhere = r#"{"identity":"allowed-elsewhere"}"#;
    server.must("other-admin", "POST", "/v1/policy/assign/everything?enclave=elsewhere", elsewhere).await;
    server
}

fn path(route: &crate::server::route::Route) -> String {
    match route.argument {
        Argument::None => route.path.to_owned(),
        Argument::Name => format!("{}matrix", route.path),
        Argument::Pattern => format!("{}matrix*", route.path),
    }
}

/// What decides about `caller`; a pattern's number follows the bracket.
fn rule(caller: &str, scope: Scope) -> &'static str {
    match (caller, scope) {
        (SYSTEM, Scope::System) => "system-admin",
        (ADMIN, Scope::Enclave) => "enclave-admin",
        ("denied", Scope::Enclave) => "deny[",
        ("allowed", Scope::Enclave) => "allow[",
        ("denied" | "allowed" | ADMIN, Scope::Caller) => "known",
        (_, Scope::Public) => "public",
        _ => "default",
    }
}

#[tokio::test]
async fn every_route_answers_every_kind_of_caller_as_its_scope_says() {
    let mut server = server().await;
    let mut cells = 0;
    for (caller, open) in CALLERS {
        for route in ROUTES {
            for method in route.methods {
                let (path, scope) = (path(route), route.handler.scope());
                let before = server.lines.0.lock().unwrap().len();
                let got = server.ask(caller, method, &path, "").await;
                let may = open.contains(&scope);
                if may {
                    assert!(!got.is(&ApiError::NOT_ALLOWED), "{caller} may {path}");
                    assert_ne!(got.status, 403, "{caller} may {path}: {}", got.body);
                    assert_ne!(got.status, 500, "{caller} {path}: {}", got.body);
                } else {
                    // to whoever asks about itself "nobody knows you" is the answer, as in KES
                    let about_itself = scope == Scope::Caller;
                    let refusal =
                        if about_itself { ApiError::IDENTITY_NOT_FOUND } else { ApiError::NOT_ALLOWED };
                    assert!(got.is(&refusal), "{caller} may not {path}: {} {}", got.status, got.body);
                }
                let count = || server.lines.0.lock().unwrap().len();
                match route.audit {
                    Audited::BeforeAnswer => {
                        assert!(count() > before, "{caller} {path} is audited before the answer");
                    }
                    Audited::Soon => {
                        while count() == before {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                    Audited::Never => {}
                }
                if route.audit != Audited::Never {
                    let lines = server.lines.0.lock().unwrap();
                    let line = lines.last().unwrap();
                    assert_eq!(lines.len(), before + 1, "{caller} {path}: one line");
                    assert_eq!(line["request"]["path"], *path);
                    if scope == Scope::Enclave {
                        assert_eq!(line["enclave"], "default", "{caller} {path}");
                    }
                    assert_eq!(line["request"]["identity"], caller);
                    assert_eq!(line["action"], route.handler.action());
                    assert_eq!(line["response"]["code"], got.status);
                    assert_eq!(line["decision"], if may { "allow" } else { "deny" });
                    let (rule, expected) = (line["rule"].as_str().unwrap(), rule(caller, scope));
                    let is_pattern = expected.ends_with('[') && rule.starts_with(expected);
                    assert!(rule == expected || is_pattern, "{caller} {path}: {rule}, not {expected}");
                }
                cells += 1;
                if route.handler.action() == "Seal" && may {
                    server = self::server().await;
                }
            }
        }
    }
    let methods: usize = ROUTES.iter().map(|route| route.methods.len()).sum();
    assert_eq!(cells, CALLERS.len() * methods);
}

#[tokio::test]
async fn every_route_within_an_enclave_says_that_there_is_none() {
    let mut server = server().await;
    for (caller, _) in CALLERS {
        for route in ROUTES {
            let got =
                server.ask(caller, route.methods[0], &format!("{}?enclave=nowhere", path(route)), "").await;
            let is_within = matches!(route.handler.scope(), Scope::Caller | Scope::Enclave);
            if caller == SYSTEM {
                // it has no rights in any enclave, so it is not told which there are
                let refused = got.is(&ApiError::NOT_ALLOWED) || got.is(&ApiError::IDENTITY_NOT_FOUND);
                assert_eq!(refused, is_within, "{caller} {}", route.path);
                if route.handler.action() == "Seal" {
                    server = self::server().await;
                }
            } else {
                assert_eq!(got.is(&ApiError::ENCLAVE_NOT_FOUND), is_within, "{caller} {}", route.path);
            }
        }
    }
}

#[tokio::test]
async fn a_caller_without_a_usable_certificate_gets_nowhere() {
    let server = server().await;
    for error in [ApiError::NO_CERTIFICATE, ApiError::TOO_MANY_CERTIFICATES] {
        for route in ROUTES {
            let got = server.ask_as(Err(error.clone()), route.methods[0], &path(route), "").await;
            assert!(got.is(&error), "{}", route.path);
        }
    }
}
