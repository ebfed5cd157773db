//! certificate: decides what the servers present. Pure.
//!
//! 1. The servers read one Secret of ours, whoever made the certificate in it. So a broken one of somebody else's never
//!    reaches them.
//! 2. A certificate is taken over only if clients accept it: key, names, dates, and the authority in its `ca.crt`.
//! 3. MinIO reads authorities when it starts and never again. While tenants are wired, a certificate is taken over only
//!    if the authorities that they were given vouch for it.
//! 4. One from our own authority is renewed after two thirds of its life, with the same key.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};

use super::{
    keyring::{self, AUTHORITY, CERTIFICATE, PRIVATE_KEY},
    purpose::Purpose,
    wanted::{Tls, Wanted},
};
use crate::{
    crd::CertificateStatus,
    operator::rule::Rule,
    pki::{self, ServerCertificate},
};

/// One of somebody else's that has less than this left is complained about.
const ALARM: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What happens to the Secret that the servers read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Nothing.
    Keep,
    /// A new key and certificate from our authority.
    Make,
    /// A new certificate from our authority for the key that is there.
    Renew,
    /// A certificate of somebody else's.
    Copy(BTreeMap<String, ByteString>),
    /// There is none yet, and servers cannot start without: it is asked for, and nothing else is done.
    Await(Rule),
}

/// The step, and what is wrong with the certificate that the spec asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) step: Step,
    pub(crate) problem: Option<Rule>,
}

impl From<Step> for Verdict {
    fn from(step: Step) -> Self {
        Self { step, problem: None }
    }
}

/// What there is to decide on.
pub(crate) struct Found<'a> {
    /// Our authority, if it was made already.
    pub(crate) authority: Option<&'a Secret>,
    /// What the servers read.
    pub(crate) live: Option<&'a Secret>,
    /// What somebody else keeps up to date.
    pub(crate) source: Option<&'a Secret>,
    /// Tenants that were given an authority to trust.
    pub(crate) wired: &'a [String],
}

/// Decides.
///
/// # Errors
/// The rule that forbids servers to start: there is no certificate at all.
pub(crate) fn decide(wanted: &Wanted, found: &Found<'_>, now: Timestamp) -> Result<Verdict, Rule> {
    match &wanted.tls {
        Tls::Own { .. } => Ok(own(wanted, found, now)),
        Tls::Secret { name } => {
            let missing =
                || Rule::ServerSecretUnusable { secret: name.clone(), problem: "it does not exist".into() };
            foreign(wanted, found, name, missing, now)
        }
        Tls::Issuer { issuer, secret } => {
            let missing =
                || Rule::WaitingForCertificate { issuer: issuer.name.clone(), secret: secret.clone() };
            // who makes it has to be asked first
            foreign(wanted, found, secret, missing, now).or_else(|rule| Ok(Step::Await(rule).into()))
        }
    }
}

fn own(wanted: &Wanted, found: &Found<'_>, now: Timestamp) -> Verdict {
    let (Some(authority), Some(live)) = (found.authority, found.live) else { return Step::Make.into() };
    let Ok(trust) = keyring::bytes(authority, CERTIFICATE) else { return Step::Make.into() };
    let Ok((certificate, _)) = readable(live) else { return Step::Make.into() };
    let (begins, ends) = pki::validity_of_pem(certificate).unwrap_or((Timestamp::MIN, Timestamp::MIN));
    // at a moment when it is valid, and under a name that each of ours has: only its signature is asked about
    let is_ours = pki::verify_server(certificate, trust, &["localhost".into()], begins).is_ok();
    if is_ours {
        let has_names = pki::verify_server(certificate, trust, &wanted.checked_names(), begins).is_ok();
        return if has_names && now < renewal(begins, ends) { Step::Keep } else { Step::Renew }.into();
    }
    let is_trusted = keyring::bytes(live, AUTHORITY).is_ok_and(|known| contains(known, trust));
    if found.wired.is_empty() || is_trusted {
        return Step::Make.into();
    }
    Verdict { step: Step::Keep, problem: Some(trust_would_change(found)) }
}

fn foreign(
    wanted: &Wanted,
    found: &Found<'_>,
    name: &str,
    missing: impl Fn() -> Rule,
    now: Timestamp,
) -> Result<Verdict, Rule> {
    let keep = |rule: Rule| {
        // without any certificate the servers cannot start, with the former one they go on
        if found.live.is_some() { Ok(Verdict { step: Step::Keep, problem: Some(rule) }) } else { Err(rule) }
    };
    let unusable = |problem: String| Rule::ServerSecretUnusable { secret: name.into(), problem };
    let Some(source) = found.source else { return keep(missing()) };
    let checked = readable(source).and_then(|(certificate, trust)| {
        pki::verify_server(certificate, trust, &wanted.checked_names(), now)?;
        Ok((certificate, trust))
    });
    let (certificate, trust) = match checked {
        Ok(checked) => checked,
        Err(error) => return keep(unusable(error.to_string())),
    };
    let key = keyring::bytes(source, PRIVATE_KEY).map_err(|error| unusable(error.to_string()))?;
    // ours stays trusted, so that the way back is open
    let own =
        found.authority.and_then(|authority| keyring::bytes(authority, CERTIFICATE).ok()).unwrap_or_default();
    let data = BTreeMap::from([
        (CERTIFICATE.to_owned(), ByteString(certificate.to_vec())),
        (PRIVATE_KEY.to_owned(), ByteString(key.to_vec())),
        (AUTHORITY.to_owned(), ByteString(together(own, trust))),
    ]);
    let (_, ends) = pki::validity_of_pem(certificate).map_err(|error| unusable(error.to_string()))?;
    let expires = ends.duration_since(now) < ALARM;
    let problem = expires.then(|| Rule::CertificateExpires { secret: name.into(), at: ends });
    let Some(live) = found.live else { return Ok(Verdict { step: Step::Copy(data), problem }) };
    if live.data.as_ref() == Some(&data) {
        return Ok(Verdict { step: Step::Keep, problem });
    }
    let given = keyring::bytes(live, AUTHORITY).unwrap_or_default();
    let is_accepted = pki::verify_server(certificate, given, &wanted.checked_names(), now).is_ok();
    if found.wired.is_empty() || is_accepted {
        return Ok(Verdict { step: Step::Copy(data), problem });
    }
    Ok(Verdict { step: Step::Keep, problem: Some(trust_would_change(found)) })
}

fn trust_would_change(found: &Found<'_>) -> Rule {
    Rule::TrustWouldChange { tenants: found.wired.to_vec() }
}

/// Certificate and authority of a Secret whose key belongs to its certificate.
fn readable(secret: &Secret) -> Result<(&[u8], &[u8]), keyring::Error> {
    let certificate = keyring::bytes(secret, CERTIFICATE)?;
    ServerCertificate::from_pem(certificate, keyring::bytes(secret, PRIVATE_KEY)?)?;
    Ok((certificate, keyring::bytes(secret, AUTHORITY)?))
}

/// When two thirds of the life are over.
fn renewal(begins: Timestamp, ends: Timestamp) -> Timestamp {
    begins.checked_add(ends.duration_since(begins) * 2 / 3).unwrap_or(begins)
}

/// Two PEM texts in one, each in lines of its own.
fn together(one: &[u8], other: &[u8]) -> Vec<u8> {
    if contains(other, one) || one.is_empty() {
        return other.to_vec();
    }
    let separator: &[u8] = if one.ends_with(b"\n") { b"" } else { b"\n" };
    [one, separator, other].concat()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    let part = part.trim_ascii();
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

/// What the status says about the certificate in `secret`.
pub(crate) fn status(wanted: &Wanted, secret: &Secret) -> Option<CertificateStatus> {
    let (begins, ends) = pki::validity_of_pem(keyring::bytes(secret, CERTIFICATE).ok()?).ok()?;
    let renewal_at = matches!(wanted.tls, Tls::Own { .. }).then(|| Time(renewal(begins, ends)));
    Some(CertificateStatus {
        secret: Purpose::ServerCertificate.secret(&wanted.name),
        not_after: Time(ends),
        renewal_at,
    })
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
