//! One audited request as a JSON line (contract §7.4, and what it lacks: enclave, action, decision, rule).

use std::{fmt, io::Write as _, net::IpAddr, time::Duration};

use jiff::Timestamp;

use crate::api::{EnclaveName, Identity};

/// What authorisation said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// The caller may do it.
    Allow,
    /// The caller may not.
    Deny,
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
    pub rule: Option<&'a (dyn fmt::Display + Sync)>,
    /// Status of the answer.
    pub code: u16,
    /// From receiving the request to its answer.
    pub took: Duration,
    /// Number of the request, as in the server's log.
    pub id: u64,
}

impl Event<'_> {
    /// Appends the line, with its newline.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Self { time, ip, selector, path, identity, enclave, action, decision, rule, code, took, id } =
            self;
        // writing to a vector does not fail
        let _ = write!(out, r#"{{"time":"{time}","request":{{"ip":"{ip}""#);
        if !selector.is_empty() {
            out.extend_from_slice(br#","enclave":"#);
            text(out, selector);
        }
        out.extend_from_slice(br#","path":"#);
        text(out, path);
        if let Some(identity) = identity {
            // names need no escapes
            let _ = write!(out, r#","identity":"{identity}""#);
        }
        // nanoseconds in whole microseconds, as KES
        let nanos = took.as_micros() * 1000;
        let _ = write!(out, r#"}},"response":{{"code":{code},"time":{nanos}}},"action":"{action}""#);
        if let Some(enclave) = enclave {
            let _ = write!(out, r#","enclave":"{enclave}""#);
        }
        if let Some(decision) = decision {
            let word = match decision {
                Decision::Allow => "allow",
                Decision::Deny => "deny",
            };
            let _ = write!(out, r#","decision":"{word}""#);
        }
        if let Some(rule) = rule {
            let _ = write!(out, r#","rule":"{rule}""#);
        }
        let _ = write!(out, r#","id":"{id:016x}""#);
        out.extend_from_slice(b"}\n");
    }
}

/// A JSON string with its escapes.
fn text(out: &mut Vec<u8>, text: &str) {
    // neither the writer nor a string can fail
    let _ = serde_json::to_writer(out, text);
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
            rule: Some(&"deny[2]"),
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
