//! One audited request as a JSON line (contract §7.4, and what it lacks: enclave, action, decision, rule).

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;

use super::text;
use crate::api::{EnclaveName, Identity};

/// What authorisation said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// The caller may do it.
    Allow,
    /// The caller may not.
    Deny,
}

/// What decided: a word and, for a pattern, its place in its list, e.g. `allow[3]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cause {
    /// Needs no escapes.
    pub word: &'static str,
    /// Counted from 0.
    pub index: Option<usize>,
}

/// A request and its answer.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// When the request was received.
    pub time: Timestamp,
    /// Where it came from.
    pub ip: IpAddr,
    /// The enclave as the request named it, or empty.
    pub selector: &'a str,
    /// The decoded path, without query.
    pub path: &'a str,
    /// Who asked, if the certificate says.
    pub identity: Option<&'a Identity>,
    /// The enclave that the request is about: absent where it is about the server, or the name is none.
    pub enclave: Option<&'a EnclaveName>,
    /// The name of the action.
    pub action: &'a str,
    /// What authorisation said; `None` when the request did not get that far.
    pub decision: Option<Decision>,
    /// What decided.
    pub rule: Option<Cause>,
    /// Status of the answer.
    pub code: u16,
    /// From receiving the request to its answer.
    pub took: Duration,
    /// Number of the request, as in the server's log.
    pub id: u64,
}

impl Event<'_> {
    /// Appends the line, with its newline. Every request pays for this, so it goes around `fmt`, which takes five times as
    /// long.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Self { time, ip, selector, path, identity, enclave, action, decision, rule, code, took, id } =
            *self;
        let field = |out: &mut Vec<u8>, name: &str, value: &str| {
            out.extend_from_slice(name.as_bytes());
            // names need no escapes
            out.extend_from_slice(value.as_bytes());
            out.push(b'"');
        };
        out.extend_from_slice(br#"{"time":""#);
        text::time(out, time);
        out.extend_from_slice(br#"","request":{"ip":""#);
        text::ip(out, ip);
        out.push(b'"');
        if !selector.is_empty() {
            out.extend_from_slice(br#","enclave":"#);
            text::json(out, selector);
        }
        out.extend_from_slice(br#","path":"#);
        text::json(out, path);
        if let Some(identity) = identity {
            field(out, r#","identity":""#, identity.as_str());
        }
        out.extend_from_slice(br#"},"response":{"code":"#);
        text::number(out, code.into());
        out.extend_from_slice(br#","time":"#);
        // nanoseconds in whole microseconds, as KES
        text::number(out, u64::try_from(took.as_micros()).unwrap_or(u64::MAX).saturating_mul(1000));
        field(out, r#"},"action":""#, action);
        if let Some(enclave) = enclave {
            field(out, r#","enclave":""#, enclave.as_str());
        }
        match decision {
            None => {}
            Some(Decision::Allow) => out.extend_from_slice(br#","decision":"allow""#),
            Some(Decision::Deny) => out.extend_from_slice(br#","decision":"deny""#),
        }
        if let Some(Cause { word, index }) = rule {
            out.extend_from_slice(br#","rule":""#);
            out.extend_from_slice(word.as_bytes());
            if let Some(index) = index {
                out.push(b'[');
                text::number(out, index as u64);
                out.push(b']');
            }
            out.push(b'"');
        }
        out.extend_from_slice(br#","id":""#);
        text::hex(out, id);
        out.push(b'"');
        out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_the_shape_of_kes_and_says_who_decided() {
        let identity = Identity::new("abcd").unwrap();
        let enclave = EnclaveName::default_enclave();
        let mut line = Vec::new();
        Event {
            time: "2026-01-02T03:04:05.000000006Z".parse().unwrap(),
            ip: [127, 0, 0, 1].into(),
            selector: "",
            path: "/v1/key/describe/\"x\"",
            identity: Some(&identity),
            enclave: Some(&enclave),
            action: "DescribeKey",
            decision: Some(Decision::Deny),
            rule: Some(Cause { word: "deny", index: Some(2) }),
            code: 403,
            took: Duration::from_nanos(91_234),
            id: 0xabc,
        }
        .write(&mut line);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"time\":\"2026-01-02T03:04:05.000000006Z\",\"request\":{\"ip\":\"127.0.0.1\",\
             \"path\":\"/v1/key/describe/\\\"x\\\"\",\"identity\":\"abcd\"},\"response\":{\"code\":403,\"time\":91000},\
             \"action\":\"DescribeKey\",\"enclave\":\"default\",\"decision\":\"deny\",\"rule\":\"deny[2]\",\
             \"id\":\"0000000000000abc\"}\n"
        );
    }
}
