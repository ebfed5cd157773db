//! Methods, names, paths and enclaves as clients get them wrong.

use super::{Body, List, ROUTES, short};
use crate::stage::Who::{self, Admin};

/// Every route with every method that is not its own.
pub(super) fn methods(list: &mut List) {
    for (line, body) in ROUTES {
        let (right, path) = line.split_once(' ').unwrap();
        for wrong in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            // PUT means POST here, and a sealed server would be of no more use
            if wrong == right || (path == "/v1/sys/seal" && wrong == "PUT") {
                continue;
            }
            let argument = if path.ends_with('/') { "app-method" } else { "" };
            let body =
                if body.is_empty() || wrong == "HEAD" { Body::None } else { Body::Chunked(body.into()) };
            list.push(
                format!("method {} {wrong}", short(path)),
                Admin,
                &format!("{wrong} {path}{argument}"),
                body,
            );
        }
    }
    list.ask("method unknown", Admin, "BREW /v1/status");
    list.ask("method lower case", Admin, "get /v1/status");
    list.ask("method wrong and not allowed", Who::Unknown, "GET /v1/key/create/app");
}

/// Names that are not quite names, in the order: what it is, how it stands in a path.
const NAMES: [(&str, &str); 24] = [
    ("empty", ""),
    ("80 characters", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    ("81 characters", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    ("underscore", "_"),
    ("hyphen", "-"),
    ("hyphen first", "-app"),
    ("hyphen last", "app-"),
    ("upper case", "APP-K"),
    ("dot", "a.b"),
    ("hidden", ".app"),
    ("space", "a%20b"),
    ("space last", "app-space%20"),
    ("space first", "%20app-space-first"),
    ("tab last", "app-tab%09"),
    ("newline", "app-newline%0a"),
    ("null", "app%00k"),
    ("unicode", "%c3%a4pp"),
    ("unicode digits", "%d9%a1"),
    ("not UTF-8", "%ff"),
    ("star", "denie*"),
    ("slash escaped", "a%2fb"),
    ("slash", "a/b"),
    ("escaped letter", "%61pp-esc"),
    ("plus", "app+esc"),
];

pub(super) fn names(list: &mut List) {
    for (what, name) in NAMES {
        for (route, body) in [
            ("POST /v1/key/create/", ""),
            ("GET /v1/key/describe/", ""),
            ("POST /v1/key/generate/", "{}"),
            ("GET /v1/key/list/", ""),
            ("GET /v1/policy/read/", ""),
            ("POST /v1/policy/write/", "{}"),
            ("GET /v1/policy/list/", ""),
            ("GET /v1/identity/describe/", ""),
            ("GET /v1/secret/read/", ""),
            ("DELETE /v1/key/delete/", ""),
        ] {
            let (_, path) = route.split_once(' ').unwrap();
            // a new name for each, or the answer would depend on the one before
            let body = if body.is_empty() { Body::None } else { Body::Chunked(body.into()) };
            list.push(format!("name {what} {}", short(path)), Admin, &format!("{route}{name}"), body);
        }
        let enclave = format!("GET /v1/enclave/describe/{name}");
        list.ask(format!("name {what} enclave describe"), Who::System, &enclave);
        list.ask(format!("name {what} not allowed"), Who::Unknown, &format!("GET /v1/key/describe/{name}"));
    }
    list.ask("name denied and blank", Who::Glob, "GET /v1/key/describe/deny-end%20");
    for bad in ["GET /v1/key/describe/%", "GET /v1/key/describe/%zz", "GET /v1/key/describe/%4"] {
        list.ask(format!("name escape {}", bad.rsplit('/').next().unwrap()), Admin, bad);
    }
}

pub(super) fn paths(list: &mut List) {
    for target in [
        "/",
        "//",
        "/v1",
        "/v1/",
        "/v2/status",
        "/v1/key",
        "/v1/key/",
        "/v1/keys/list/",
        "/V1/status",
        "/v1/Status",
        "/v1/status/",
        "/v1/status/x",
        "/version/",
        "//v1/status",
        "/v1//status",
        "/./v1/status",
        "/v1/../v1/status",
        "/v1/key/../status",
        "/../v1/status",
        "/v1/status/..",
        "/v1/key/describe/../describe/app-k",
        "/v1/key/describe/x/../app-k",
        "/v1/key/describe/app-k/",
        "/v1/key/describe//app-k",
        "/v1/key/describe/./app-k",
        "/v1/key/describe/%2e%2e/status",
        "/v1/%6bey/describe/app-k",
        "/v1%2fstatus",
        "/v1/status?",
        "/v1/status?x=y",
        "/v1/status?enclave=default",
        "/v1/status;x=y",
        "/v1/status#fragment",
        "/v1/key/list?enclave=default",
        "/v1/identity/self/describe/",
        "/v1/identity/self/describe/x",
        "/v1/identity/self",
        "/v1/key/bulk/decrypt",
        "https://kes/v1/status",
        "http://elsewhere/v1/status",
        "v1/status",
        "*",
    ] {
        list.ask(format!("path {target}"), Admin, &format!("GET {target}"));
    }
    list.ask("path options *", Admin, "OPTIONS *");
    for (line, body) in ROUTES {
        let (_, path) = line.split_once(' ').unwrap();
        if let Some(slashless) = line.strip_suffix('/') {
            let body = if body.is_empty() { Body::None } else { Body::Chunked(body.into()) };
            list.push(format!("slashless {}", short(path)), Admin, slashless, body);
        }
    }
    list.ask("slashless not allowed", Who::Unknown, "GET /v1/key/list");
    for (what, header) in [
        ("method override", "X-HTTP-Method-Override: DELETE\r\n"),
        ("accept nothing", "Accept: image/png\r\n"),
        ("encoding", "Accept-Encoding: gzip\r\n"),
        ("expect", "Expect: nothing\r\n"),
        ("forwarded", "X-Forwarded-For: 1.2.3.4\r\nX-Tls-Client-Cert: x\r\n"),
        ("origin", "Origin: https://example.org\r\n"),
        ("upgrade", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        ("twice the host", "Host: other\r\n"),
        ("no such version", "X: y\r\n"),
    ] {
        list.push(format!("header {what}"), Admin, "GET /v1/status", Body::None).headers = header.into();
    }
    let metrics = "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n";
    list.push("header metrics protobuf", Admin, "GET /v1/metrics", Body::None).headers = metrics.into();
}

pub(super) fn selectors(list: &mut List) {
    for (what, who, query, header) in [
        ("default", Admin, "?enclave=default", ""),
        ("empty", Admin, "?enclave=", ""),
        ("other", Who::Other, "?enclave=other", ""),
        ("foreign", Admin, "?enclave=other", ""),
        ("unknown", Admin, "?enclave=nowhere", ""),
        ("unknown and nobody", Who::Unknown, "?enclave=nowhere", ""),
        ("not a name", Admin, "?enclave=a.b", ""),
        (
            "too long",
            Admin,
            "?enclave=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "",
        ),
        ("blank", Admin, "?enclave=default%20", ""),
        ("escaped", Admin, "?enclave=%64efault", ""),
        ("twice", Admin, "?enclave=default&enclave=other", ""),
        ("upper case", Admin, "?Enclave=other", ""),
        ("semicolon", Admin, "?enclave=other;x=y", ""),
        ("bad escape", Admin, "?enclave=%zz", ""),
        ("header", Who::Other, "", "Kes-Enclave: other\r\n"),
        ("header unknown", Admin, "", "Kes-Enclave: nowhere\r\n"),
        ("header empty", Admin, "", "Kes-Enclave: \r\n"),
        ("query over header", Admin, "?enclave=default", "Kes-Enclave: other\r\n"),
        ("system", Who::System, "?enclave=other", ""),
    ] {
        for path in ["/v1/status", "/v1/key/describe/app-k", "/version", "/v1/identity/self/describe"] {
            let line = format!("GET {path}{query}");
            list.push(format!("enclave {what} {}", short(path)), who, &line, Body::None).headers =
                header.into();
        }
    }
    list.ask("enclave of a system call", Who::System, "GET /v1/enclave/describe/app-e?enclave=nowhere");
}
