//! A certificate becomes an identity: lower-case hex of SHA-256 over the DER `SubjectPublicKeyInfo` (contract §2.1).

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Error, pem};
use crate::api::Identity;

/// The identity of a public key given as DER `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
#[must_use]
pub fn identity_of_spki(spki: &[u8]) -> Identity {
    use std::fmt::Write;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(spki) {
        // writing to a string does not fail
        let _ = write!(hex, "{byte:02x}");
    }
    #[expect(clippy::expect_used, reason = "64 hex digits satisfy the name rule")]
    Identity::new(&hex).expect("64 hex digits are a name")
}

/// The identity of whoever presented `chain`: of its only certificate that is not an authority's, or of the only
/// certificate at all.
///
/// # Errors
/// [`Error::NoCertificate`], [`Error::TooManyCertificates`], or [`Error::Malformed`] for one that is no X.509.
pub fn identity_of_der(chain: &[CertificateDer<'_>]) -> Result<Identity, Error> {
    leaf(chain).map(|leaf| identity_of_spki(leaf.tbs_certificate.subject_pki.raw))
}

/// The identity of the certificates in a PEM text; the rule is that of [`identity_of_der`].
///
/// # Errors
/// As [`identity_of_der`], and [`Error::NoPem`].
pub fn identity_of_pem(text: &[u8]) -> Result<Identity, Error> {
    identity_of_der(&pem::certificates(text, "certificate")?)
}

/// The certificate in a PEM text that holds exactly one.
///
/// # Errors
/// [`Error::NoPem`], [`Error::TooManyCertificates`] or [`Error::Malformed`].
pub fn only_certificate_of_pem(text: &[u8]) -> Result<CertificateDer<'static>, Error> {
    let what = "client certificate";
    let mut chain = pem::certificates(text, what)?;
    let (Some(certificate), None) = (chain.pop(), chain.pop()) else {
        return Err(Error::TooManyCertificates);
    };
    parse(&certificate, what)?;
    Ok(certificate)
}

fn leaf<'a>(chain: &'a [CertificateDer<'_>]) -> Result<X509Certificate<'a>, Error> {
    if let [only] = chain {
        return parse(only, "certificate");
    }
    let mut leaf = None;
    for certificate in chain {
        let certificate = parse(certificate, "certificate")?;
        if certificate.is_ca() {
            continue;
        }
        if leaf.replace(certificate).is_some() {
            return Err(Error::TooManyCertificates);
        }
    }
    leaf.ok_or(Error::NoCertificate)
}

/// Reads one DER certificate.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>, what: &str) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Error::Malformed { what: what.into(), reason: "bytes follow the certificate".into() }),
        Err(_) => Err(Error::Malformed { what: what.into(), reason: "not an X.509 certificate".into() }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pki::{Authority, PemPair, ServerNames, self_signed_client};

    fn der(pair: &PemPair) -> CertificateDer<'static> {
        pem::certificates(pair.certificate.as_bytes(), "test").unwrap().remove(0)
    }

    #[test]
    fn certificates_of_authorities_are_skipped_and_one_leaf_must_remain() {
        let day = Duration::from_secs(86_400);
        let now = jiff::Timestamp::now();
        let one = self_signed_client("one", day).unwrap();
        let two = self_signed_client("two", day).unwrap();
        let authority = Authority::new("authority", now).unwrap();
        let ca = pem::certificates(authority.certificate_pem().as_bytes(), "test").unwrap().remove(0);
        let names = ServerNames { dns: vec!["a.example".into()], ip: vec![] };
        let leaf = authority.issue_server(&names, now, day).unwrap();

        let expected = identity_of_pem(leaf.certificate.as_bytes()).unwrap();
        assert_eq!(identity_of_der(&[ca.clone(), der(&leaf)]).unwrap(), expected);
        assert_eq!(identity_of_der(&[der(&leaf), ca.clone()]).unwrap(), expected);
        assert!(matches!(identity_of_der(&[der(&one), der(&two)]), Err(Error::TooManyCertificates)));
        assert!(matches!(identity_of_der(&[]), Err(Error::NoCertificate)));
        assert!(matches!(identity_of_der(&[ca.clone(), ca.clone()]), Err(Error::NoCertificate)));
        assert!(identity_of_der(&[ca]).is_ok(), "the only certificate counts, whatever it is");
        assert!(identity_of_der(&[CertificateDer::from(vec![0x30, 0])]).is_err());
        assert!(identity_of_pem(b"no pem").is_err());
    }

    #[test]
    fn the_identity_of_an_ed25519_key_is_the_hash_of_prefix_and_key() {
        let mut spki = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
        spki.extend([7; 32]);
        let identity = identity_of_spki(&spki);
        assert_eq!(identity.as_str().len(), 64);
        assert!(identity.as_str().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    }
}
