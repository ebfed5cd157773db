//! A request's path and enclave: what is matched by policies is what is done, and no name leaves its route.

use http::{HeaderMap, HeaderValue, Uri};
use kes::{
    api::{
        EnclaveName,
        message::{self, Matching},
        name::check_name,
    },
    authz::{Decision, Policy},
    server::probe,
};

/// The first line is the request's target, the second the header `Kes-Enclave`.
pub(super) fn run(data: &[u8]) {
    let (uri, header) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], Some(&data[at + 1..])),
        None => (data, None),
    };
    let Ok(uri) = Uri::try_from(uri) else { return };
    let mut headers = HeaderMap::new();
    if let Some(value) = header.and_then(|value| HeaderValue::from_bytes(value).ok()) {
        headers.insert("kes-enclave", value);
    }
    enclave(&uri, &headers);
    path(&uri);
}

fn path(uri: &Uri) {
    let decoded = decode(uri.path().as_bytes()).map(String::from_utf8);
    let target = match probe::target(uri) {
        Ok(target) => target,
        Err(error) => {
            assert!(decoded.is_none_or(|text| text.is_err()) && error.status() == 400, "{uri}: {error}");
            return;
        }
    };
    let decoded = decoded.expect("percent signs are left alone where no digits follow");
    let decoded = decoded.expect("the path is UTF-8");
    let Some(probe::Target { route, argument, policy_path }) = target else {
        assert!(!decoded.starts_with("/v1/key/create/"), "{decoded}");
        return;
    };
    // the policy sees exactly what is done
    assert_eq!(policy_path, format!("{route}{argument}"), "{decoded}");
    assert!(decoded == policy_path || format!("{decoded}/") == policy_path, "{decoded} became {policy_path}");
    if check_name(&argument).is_err() {
        return;
    }
    // a name is one element of the path, whole
    assert!(!argument.contains(['/', '.', '%', ' ', '\0']), "{argument}");
    let rules = message::Policy {
        allow: vec![format!("{route}*")],
        deny: vec![format!("{route}secret")],
        matching: Matching::Glob,
    };
    let decision = Policy::compile(&rules).expect("plain patterns").decide(&policy_path);
    let want = if argument == "secret" { Decision::Deny(Some(0)) } else { Decision::Allow(0) };
    assert_eq!(decision, want, "{policy_path}");
}

fn enclave(uri: &Uri, headers: &HeaderMap) {
    let want = |text: &str| {
        if text.is_empty() {
            Some("default".to_owned())
        } else {
            check_name(text).is_ok().then(|| text.to_owned())
        }
    };
    let query = uri.query().into_iter().flat_map(|query| query.split('&'));
    let named = query.filter_map(|pair| pair.strip_prefix("enclave=")).next();
    let named = named.map(|text| decode(text.replace('+', " ").as_bytes()).unwrap_or_default());
    let expected = match named.filter(|name| !name.is_empty()) {
        // what is not UTF-8 is no name
        Some(name) => String::from_utf8(name).ok().and_then(|name| want(&name)),
        None => want(headers.get("kes-enclave").and_then(|value| value.to_str().ok()).unwrap_or_default()),
    };
    let got = probe::enclave(uri, headers).ok();
    assert_eq!(got.as_ref().map(EnclaveName::as_str), expected.as_deref(), "{uri} {headers:?}");
}

/// Percent-decoding by hand (RFC 3986 §2.1), which leaves a `%` without two digits as it is.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let pair = match after {
            [a, b, ..] if *first == b'%' => digit(*a).zip(digit(*b)),
            _ => None,
        };
        if let Some((high, low)) = pair {
            out.push(high << 4 | low);
            rest = &after[2..];
        } else {
            out.push(*first);
        }
    }
    Some(out)
}
