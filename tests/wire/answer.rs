//! An answer in aspects that can be compared: what differs from run to run gets a name in angle brackets.

use std::collections::BTreeMap;

use crate::http::Response;

/// Aspect to text.
pub(crate) type Answer = BTreeMap<&'static str, String>;

/// Headers that a client may look at.
const HEADERS: [&str; 7] = [
    "accept",
    "allow",
    "content-type",
    "location",
    "retry-after",
    "www-authenticate",
    "x-content-type-options",
];

/// The comparable aspects of `response`; `identities` are known by name.
pub(crate) fn answer(response: &Response, identities: &BTreeMap<String, String>) -> Answer {
    let mut answer = Answer::new();
    if response.status == 0 {
        answer.insert("status", "none: the connection ended".into());
        return answer;
    }
    answer.insert("status", response.status.to_string());
    for name in HEADERS {
        if let Some(value) = response.headers.get(name) {
            answer.insert(name, value.clone());
        }
    }
    let body = String::from_utf8_lossy(&response.body);
    if response.headers.get("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
        // for browsers; it repeats the status or the location
        return answer;
    }
    if response.status >= 400 && body.starts_with("{\"message\":\"") {
        let (message, form) = refusal(&body);
        answer.insert("message", message);
        answer.insert("form", form.into());
    } else if !body.is_empty() {
        answer.insert("body", normalise(&body, identities));
    }
    answer
}

/// The message of a refusal, and how it is wrapped.
fn refusal(body: &str) -> (String, &'static str) {
    let form = if body.ends_with("\n}\n") {
        "newline before and after the brace"
    } else if body.ends_with("\n}") {
        "newline before the brace"
    } else if body.ends_with("}\n") {
        "newline after the brace"
    } else {
        "no newline"
    };
    let parsed: Option<String> = serde_json::from_str::<BTreeMap<String, String>>(body)
        .ok()
        .and_then(|object| object.get("message").cloned());
    // v0.22.3 does not escape, so its text may be no JSON
    let raw = || {
        body.trim_start_matches("{\"message\":\"")
            .trim_end_matches(['\n', '}'])
            .trim_end_matches('"')
            .to_owned()
    };
    match parsed {
        Some(message) => (message, form),
        None => (raw(), "no valid JSON"),
    }
}

fn normalise(body: &str, identities: &BTreeMap<String, String>) -> String {
    let mut text = body.to_owned();
    if text.starts_with("# HELP") || text.starts_with("# TYPE") {
        let mut families: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        families.sort_unstable();
        return families.join(", ");
    }
    for (identity, name) in identities {
        text = text.replace(identity, &format!("<{name}>"));
    }
    let data_key = text.contains("\"plaintext\":") && text.contains("\"ciphertext\":");
    for field in ["uptime", "num_cpu", "num_cpu_used", "mem_heap_used", "mem_stack_used", "keystore_latency"]
    {
        text = replace_value(
            &text,
            field,
            |value| value.trim_matches(|c: char| c.is_ascii_digit()).is_empty(),
            "<number>",
        );
    }
    for field in ["version", "commit"] {
        text = replace_value(&text, field, |_| true, "\"<release>\"");
    }
    text = replace_value(&text, "ciphertext", |_| true, "\"<ciphertext>\"");
    if data_key {
        text = replace_value(&text, "plaintext", |value| value.len() == 46, "\"<32 bytes>\"");
    }
    for field in ["created_at", "mod_time"] {
        text = replace_value(&text, field, |value| !value.starts_with("\"0001-"), "\"<time>\"");
    }
    // ids of key material that a test chose are the same everywhere
    text = replace_value(&text, "id", |value| !KNOWN_IDS.contains(&value.trim_matches('"')), "\"<id>\"");
    // directories are listed in any order, and v0.23.0 keeps its routes in a map
    let mut lines: Vec<_> = text.lines().collect();
    if lines.len() > 1 {
        lines.sort_unstable();
        return lines.join("\n");
    }
    if let Some(routes) = text.strip_prefix("[{\"method\":") {
        let mut routes: Vec<_> = routes.trim_end().trim_end_matches("}]").split("},{\"method\":").collect();
        routes.sort_unstable();
        return routes.join("\n");
    }
    text
}

/// The ids of the keys in `requests`: 00 01 … 1f, and zeros.
const KNOWN_IDS: [&str; 2] = ["630dcd2966c4336691125448bbb25b4f", "66687aadf862bd776c8fc18b8e9f8e20"];

/// Puts `name` in the place of each value of `field`, a string or a number, that `matches`.
fn replace_value(text: &str, field: &str, matches: impl Fn(&str) -> bool, name: &str) -> String {
    let label = format!("\"{field}\":");
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(&label) {
        let (before, after) = rest.split_at(at + label.len());
        out += before;
        let end = if let Some(string) = after.strip_prefix('"') {
            string.find('"').map_or(after.len(), |end| end + 2)
        } else {
            after.find([',', '}', ']']).unwrap_or(after.len())
        };
        out += if matches(&after[..end]) { name } else { &after[..end] };
        rest = &after[end..];
    }
    out + rest
}

/// The value of the text field `ciphertext` of a body, if it has one.
pub(crate) fn ciphertext(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(value.get("ciphertext")?.as_str()?.to_owned())
}
