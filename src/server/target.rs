//! What a request's URI names: the decoded path, and the enclave.

use std::borrow::Cow;

use http::{HeaderMap, Uri};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::api::{ApiError, EnclaveName, NameError};

/// The header with which the second generation of SDKs selects an enclave; KES never read it.
const ENCLAVE_HEADER: &str = "kes-enclave";

/// The path, percent-decoded once. Policies and names are matched against this and nothing else.
pub(super) fn path(uri: &Uri) -> Result<Cow<'_, str>, ApiError> {
    let path = uri.path();
    if !path.contains('%') {
        return Ok(path.into());
    }
    percent_decode_str(path).decode_utf8().map_err(|_| NameError::InvalidCharacter.into())
}

/// What a path in a header must not hold as it is.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// Where a decoded path with empty or dotted elements leads, with the query, as Go's servers redirect it; nothing for a
/// path without. The clean path is never answered directly, since policies look at what was asked.
pub(super) fn cleaned(path: &str, query: Option<&str>) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let mut elements: Vec<&str> = Vec::new();
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." => drop(elements.pop()),
            element => elements.push(element),
        }
    }
    let mut clean = String::with_capacity(path.len());
    for element in &elements {
        clean.push('/');
        clean.push_str(element);
    }
    if path.ends_with('/') || elements.is_empty() {
        clean.push('/');
    }
    if clean == path {
        return None;
    }
    let mut location = utf8_percent_encode(&clean, ESCAPED).to_string();
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    Some(location)
}

/// The enclave as the request named it: the query parameter, or else the header, or empty.
pub(super) fn selector<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Cow<'r, str> {
    let from_query = uri.query().and_then(|query| {
        query.split('&').find_map(|pair| pair.strip_prefix("enclave=")).map(|value| {
            if value.contains(['%', '+']) {
                let spaced = value.replace('+', " ");
                Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
            } else {
                Cow::Borrowed(value)
            }
        })
    });
    from_query
        .filter(|name| !name.is_empty())
        .or_else(|| headers.get(ENCLAVE_HEADER).and_then(|value| value.to_str().ok()).map(Cow::Borrowed))
        .unwrap_or_default()
}

/// The enclave that a selector means.
pub(super) fn enclave(selector: &str, default: &EnclaveName) -> Result<EnclaveName, ApiError> {
    if selector.is_empty() { Ok(default.clone()) } else { EnclaveName::new(selector).map_err(ApiError::from) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        for (uri, want) in [
            ("/v1/key/create/my-key", Some("/v1/key/create/my-key")),
            ("/v1/key/create/a%2Fb", Some("/v1/key/create/a/b")),
            ("/v1/key/create/a%2520b?x=%41", Some("/v1/key/create/a%20b")),
            ("/v1/key/create/%c3%a4", Some("/v1/key/create/ä")),
            ("/v1/key/create/%ff", None),
        ] {
            assert_eq!(path(&uri.parse().unwrap()).ok().as_deref(), want, "{uri}");
        }
    }

    #[test]
    fn a_path_that_needs_cleaning_is_cleaned_as_go_does() {
        for (path, want) in [
            ("/v1/status", None),
            ("/v1/key/list/", None),
            ("/", None),
            ("*", None),
            ("//v1/status", Some("/v1/status?x=y")),
            ("/v1//key///list//", Some("/v1/key/list/?x=y")),
            ("/v1/./status", Some("/v1/status?x=y")),
            ("/v1/key/create/../list/a*", Some("/v1/key/list/a*?x=y")),
            ("/../../v1/status", Some("/v1/status?x=y")),
            ("/v1/..", Some("/?x=y")),
            ("/v1/key/create//ä b?", Some("/v1/key/create/%C3%A4%20b%3F?x=y")),
            ("//evil.example/v1", Some("/evil.example/v1?x=y")),
        ] {
            assert_eq!(cleaned(path, Some("x=y")).as_deref(), want, "{path}");
        }
        assert_eq!(cleaned("//", None).as_deref(), Some("/"));
    }

    #[test]
    fn the_enclave_comes_from_the_query_or_the_header() {
        let mut headers = HeaderMap::new();
        let no_headers = HeaderMap::new();
        headers.insert(ENCLAVE_HEADER, "tenant".parse().unwrap());
        for (uri, headers, want) in [
            ("/", &no_headers, ""),
            ("/?enclave=one", &no_headers, "one"),
            ("/?x=y&enclave=%6fne", &no_headers, "one"),
            ("/?enclave=a+b", &no_headers, "a b"),
            ("/?enclave=", &headers, "tenant"),
            ("/?enclave=one", &headers, "one"),
            ("/", &headers, "tenant"),
        ] {
            assert_eq!(selector(&uri.parse().unwrap(), headers), want, "{uri}");
        }
        let default = EnclaveName::default_enclave();
        assert_eq!(enclave("", &default).unwrap(), default);
        assert_eq!(enclave("a b", &default).err(), Some(NameError::InvalidCharacter.into()));
    }
}
