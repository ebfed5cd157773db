//! Bodies of every kind of wrong, and at the limits.

use super::{Body, KEY, List, SEALED, short};
use crate::stage::Who::{self, Admin, System};

const MIB: usize = 1 << 20;

/// Routes that read a body, who may call them, and a body whose field `<field>` can be given any value.
const ROUTES: [(&str, Who, &str, &str); 10] = [
    ("/v1/key/import/", Admin, "bytes", r#"{"bytes":@}"#),
    ("/v1/key/generate/", Admin, "context", r#"{"context":@}"#),
    ("/v1/key/encrypt/", Admin, "plaintext", r#"{"plaintext":@}"#),
    ("/v1/key/encrypt/", Admin, "context", r#"{"plaintext":"aGVsbG8=","context":@}"#),
    ("/v1/key/decrypt/", Admin, "ciphertext", r#"{"ciphertext":@}"#),
    ("/v1/key/bulk/decrypt/", Admin, "ciphertext", r#"[{"ciphertext":@}]"#),
    ("/v1/secret/create/", Admin, "bytes", r#"{"bytes":@}"#),
    ("/v1/policy/write/", Admin, "allow", r#"{"allow":@}"#),
    ("/v1/policy/assign/", Admin, "identity", r#"{"identity":@}"#),
    ("/v1/enclave/create/", System, "admin", r#"{"admin":@}"#),
];

pub(super) fn bodies(list: &mut List) {
    for (path, who, field, template) in ROUTES {
        let target = |what: &str| {
            let fresh = format!("app-b-{}-{}", field, what.replace([' ', ',', '\'', '='], "-"));
            let name = if path.starts_with("/v1/key") && !path.contains("import") { "app-k" } else { &fresh };
            format!("POST {path}{name}")
        };
        if field != "context" || path.contains("generate") {
            for (what, body) in [
                ("nothing", ""),
                ("blanks", " \n"),
                ("empty object", "{}"),
                ("null", "null"),
                ("empty array", "[]"),
                ("array of null", "[null]"),
                ("array of number", "[7]"),
                ("string", r#""app""#),
                ("number", "7"),
                ("true", "true"),
                ("open brace", "{"),
                ("cut", r#"{"a":"b"#),
                ("comma last", r#"{"a":"b",}"#),
                ("single quotes", "{'a':'b'}"),
                ("comment", "{} // comment"),
                ("two values", "{}{}"),
                ("garbage after", "{}garbage"),
                ("byte order mark", "\u{feff}{}"),
                ("unknown field", r#"{"unknown":[1,{"x":null}]}"#),
                ("control character", "{\"a\":\"\n\"}"),
                ("lone surrogate", r#"{"a":"\ud800"}"#),
            ] {
                list.tell(format!("body {} / {what}", short(path)), who, &target(what), body);
            }
            list.push(format!("body {} / no body", short(path)), who, &target("no body"), Body::None);
            list.push(
                format!("body {} / length 0", short(path)),
                who,
                &target("length 0"),
                Body::Text(String::new()),
            );
            let bytes = Body::Bytes(b"{\"a\":\"\xff\"}");
            list.push(format!("body {} / not UTF-8", short(path)), who, &target("not UTF-8"), bytes);
            let deep = format!("{}{}", r#"{"a":"#.repeat(20_000), "}".repeat(20_000));
            list.tell(format!("body {} / deep", short(path)), who, &target("deep"), deep);
        }
        for (what, value) in [
            ("null", "null"),
            ("number", "7"),
            ("negative", "-1"),
            ("false", "false"),
            ("empty", r#""""#),
            ("empty object", "{}"),
            ("empty array", "[]"),
            ("array of numbers", "[104,101]"),
            ("array of strings", r#"["aGVsbG8="]"#),
            ("base64", r#""aGVsbG8=""#),
            ("unpadded", r#""aGVsbG8""#),
            ("url alphabet", r#""_-8=""#),
            ("standard alphabet", r#""/+8=""#),
            ("newline inside", r#""aGVs\nbG8=""#),
            ("blank inside", r#""aGVs bG8=""#),
            ("stray bits", r#""aGVsbG9=""#),
            ("text", r#""no base64!""#),
            ("escaped", r#""\u0061GVsbG8=""#),
        ] {
            let id = format!("field {} {field} = {what}", short(path));
            let body = template.replace('@', value);
            list.tell(id, who, &target(&format!("field {what}")), body);
        }
        let upper = template.replace(field, &field.to_uppercase()).replace('@', &valid(field));
        list.tell(format!("field {} {field} in upper case", short(path)), who, &target("upper"), upper);
        let one = |value: &str| template.replace('@', value);
        let twice = one(&format!(r#""x","{field}":{}"#, valid(field)));
        list.tell(format!("field {} {field} twice", short(path)), who, &target("twice"), twice);
    }
}

/// A value that the field takes.
fn valid(field: &str) -> String {
    match field {
        "allow" => r#"["/v1/status"]"#.into(),
        "identity" | "admin" => r#""app-v""#.into(),
        "ciphertext" => format!(r#""{SEALED}""#),
        "context" => r#""aGVsbG8=""#.into(),
        _ => format!(r#""{KEY}""#),
    }
}

pub(super) fn limits(list: &mut List) {
    for (what, size) in
        [("1 MiB less 1", MIB - 1), ("1 MiB", MIB), ("1 MiB and 1", MIB + 1), ("2 MiB", 2 * MIB)]
    {
        let text = "{}";
        list.push(
            format!("limit {what}"),
            Admin,
            "POST /v1/key/generate/app-k",
            Body::Padded(size - 2, text),
        );
    }
    for (what, size) in [("1 MiB", MIB), ("1 MiB and 1", MIB + 1)] {
        let body = format!("{}{{}}", " ".repeat(size - 2));
        list.tell(format!("limit {what} chunked"), Admin, "POST /v1/key/generate/app-k", body);
        let body = format!("{{}}{}", " ".repeat(size - 2));
        list.tell(format!("limit {what} after the value"), Admin, "POST /v1/key/generate/app-k", body);
    }
    list.push(
        "limit 3 MiB and nobody",
        Who::Unknown,
        "POST /v1/key/generate/app-k",
        Body::Padded(3 * MIB, ""),
    );
    list.push("limit 3 MiB and no key", Admin, "POST /v1/key/generate/app-none", Body::Padded(3 * MIB, ""));
    let identity = r#"{"identity":"app-l"}"#;
    for (what, blanks) in [("1 KiB", 1024 - identity.len()), ("1 KiB and 1", 1025 - identity.len())] {
        list.push(
            format!("limit assign {what}"),
            Admin,
            "POST /v1/policy/assign/app-p",
            Body::Padded(blanks, identity),
        );
    }
    for (line, who) in [
        ("GET /v1/status", Admin),
        ("GET /version", Admin),
        ("POST /v1/key/create/app-limit", Admin),
        ("GET /v1/key/describe/app-k", Admin),
        ("GET /v1/key/list/app-k", Admin),
        ("DELETE /v1/key/delete/app-none", Admin),
        ("GET /v1/key/describe/app-k", Who::Unknown),
    ] {
        let id = |what: &str| format!("limit {what} {line} {}", who.name());
        // v0.23.0 closes the connection some time after it ignored a body
        let close = "Connection: close\r\n";
        list.push(id("a body"), who, line, Body::Text("{}".into())).headers = close.into();
        list.push(id("a chunked body"), who, line, Body::Chunked("{}".into())).headers = close.into();
    }
    for (what, bytes) in [("4 KiB", 4 << 10), ("16 KiB", 16 << 10), ("60 KiB", 60 << 10)] {
        let header = format!("X-Long: {}\r\n", "x".repeat(bytes));
        list.push(format!("limit header of {what}"), Admin, "GET /v1/status", Body::None).headers = header;
        let line = format!("GET /v1/key/describe/{}", "x".repeat(bytes));
        list.ask(format!("limit path of {what}"), Admin, &line);
    }
    let many: String = (0..200).map(|n| format!("X-{n}: {n}\r\n")).collect();
    list.push("limit 200 headers", Admin, "GET /v1/status", Body::None).headers = many;
    let plaintext = "A".repeat(700 << 10);
    let large = format!(r#"{{"plaintext":"{plaintext}"}}"#);
    list.tell("limit plaintext of 525 KiB", Admin, "POST /v1/key/encrypt/app-k", large);
    let again = r#"{"ciphertext":"{limit plaintext of 525 KiB}"}"#;
    list.tell("limit ciphertext of 525 KiB", Admin, "POST /v1/key/decrypt/app-k", again);
}
