//! The certificate authority of one cluster: ECDSA P-256, made once, kept in a Secret by the operator.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use zeroize::Zeroizing;

use super::{Error, PemPair, Usage, identity, pem, self_signed::params};

/// How long the authority's own certificate is valid: ten years of 365 days.
pub const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Certificates begin this much before they are made, so that a node whose clock is behind accepts them.
const BACKDATE: Duration = Duration::from_secs(3600);

/// A certificate and key that sign others.
pub struct Authority {
    certificate: String,
    key: KeyPair,
}

/// The names that a server certificate is valid for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServerNames {
    /// Host names; the first becomes the common name.
    pub dns: Vec<String>,
    /// Addresses.
    pub ip: Vec<IpAddr>,
}

impl Authority {
    /// Makes a new authority, valid for [`AUTHORITY_VALIDITY`] from `now`.
    ///
    /// # Errors
    /// Only when the cryptographic library refuses.
    pub fn new(common_name: &str, now: Timestamp) -> Result<Self, Error> {
        let key = generate()?;
        let mut params = params(common_name, &[], &[], backdated(now)?, AUTHORITY_VALIDITY + BACKDATE)?;
        // it issues leaves only
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate =
            params.self_signed(&key).map_err(Error::crypto("sign the certificate of an authority"))?.pem();
        Ok(Self { certificate, key })
    }

    /// Reads an authority back.
    ///
    /// # Errors
    /// For text that is no PEM, a key that does not match, and a certificate that is no authority's.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let what = "certificate of the authority";
        let key = key_pair(key, "private key of the authority")?;
        let chain = pem::certificates(certificate.as_bytes(), what)?;
        let [der, ..] = chain.as_slice() else { return Err(Error::NoCertificate) };
        let parsed = identity::parse(der, what)?;
        if !parsed.is_ca() {
            return Err(Error::NotAuthority);
        }
        if parsed.tbs_certificate.subject_pki.raw != key.subject_public_key_info() {
            return Err(Error::KeyMismatch { what: "authority".into() });
        }
        Ok(Self { certificate: certificate.into(), key })
    }

    /// The certificate that clients must trust, as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The secret key as PEM (PKCS#8).
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        pem::encode_private_key(self.key.serialized_der())
    }

    /// Issues a certificate with a new ECDSA P-256 key for a server that is also a client of its peers.
    ///
    /// # Errors
    /// [`Error::NoServerName`] without any name, [`Error::Name`] for one that is no host name.
    pub fn issue_server(
        &self,
        names: &ServerNames,
        now: Timestamp,
        validity: Duration,
    ) -> Result<PemPair, Error> {
        self.sign_server(names, &generate()?, now, validity)
    }

    /// Issues a certificate for the key that a server already has, so that renewal keeps the key.
    ///
    /// # Errors
    /// As [`Self::issue_server`], and for a key that cannot be read.
    pub fn renew_server(
        &self,
        names: &ServerNames,
        key: &str,
        now: Timestamp,
        validity: Duration,
    ) -> Result<PemPair, Error> {
        self.sign_server(names, &key_pair(key, "private key of the server")?, now, validity)
    }

    fn sign_server(
        &self,
        names: &ServerNames,
        key: &KeyPair,
        now: Timestamp,
        validity: Duration,
    ) -> Result<PemPair, Error> {
        let ServerNames { dns, ip } = names;
        // a common name holds 64 characters at most (RFC 5280 appendix A.1)
        let common_name = match (dns.iter().find(|name| name.len() <= 64), ip.first()) {
            (Some(name), _) => name.clone(),
            (None, Some(ip)) => ip.to_string(),
            (None, None) if dns.is_empty() => return Err(Error::NoServerName { what: "it".into() }),
            (None, None) => "kes".into(),
        };
        let mut params = params(&common_name, dns, ip, backdated(now)?, validity + BACKDATE)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = Usage::Both.purposes();
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, &self.key)
            .map_err(Error::crypto("read the authority"))?;
        let certificate =
            params.signed_by(key, &issuer).map_err(Error::crypto("sign a server certificate"))?;
        Ok(PemPair { certificate: certificate.pem(), key: pem::encode_private_key(key.serialized_der()) })
    }
}

fn generate() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::crypto("make an ECDSA key"))
}

fn key_pair(text: &str, what: &str) -> Result<KeyPair, Error> {
    let der = pem::private_key(text.as_bytes(), what, None)?;
    KeyPair::try_from(&der).map_err(|_| Error::Malformed {
        what: what.into(),
        reason: "the key is of a kind that is not supported".into(),
    })
}

fn backdated(now: Timestamp) -> Result<Timestamp, Error> {
    now.checked_sub(BACKDATE).map_err(|_| Error::Validity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{ServerCertificate, identity_of_pem, not_after_of_pem, validity_of_pem, verify_server};

    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    fn names() -> ServerNames {
        ServerNames { dns: vec!["kes.default.svc".into()], ip: vec!["127.0.0.1".parse().unwrap()] }
    }

    #[test]
    fn an_authority_read_back_issues_certificates_that_its_first_self_vouches_for() {
        let now = Timestamp::now();
        let first = Authority::new("kes-authority", now).unwrap();
        let again = Authority::from_pem(first.certificate_pem(), &first.key_pem()).unwrap();
        let leaf = again.issue_server(&names(), now, YEAR).unwrap();

        let mut roots = rustls::RootCertStore::empty();
        roots.add(pem::certificates(first.certificate_pem().as_bytes(), "ca").unwrap().remove(0)).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap();
        let der = pem::certificates(leaf.certificate.as_bytes(), "leaf").unwrap().remove(0);
        let at = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(
            u64::try_from(now.as_second()).unwrap(),
        ));
        use rustls::client::danger::ServerCertVerifier;
        for name in ["kes.default.svc", "127.0.0.1"] {
            verifier.verify_server_cert(&der, &[], &name.try_into().unwrap(), &[], at).unwrap();
        }
        assert!(verifier.verify_server_cert(&der, &[], &"other".try_into().unwrap(), &[], at).is_err());
        ServerCertificate::from_pem(leaf.certificate.as_bytes(), leaf.key.as_bytes()).unwrap();
    }

    #[test]
    fn a_server_certificate_is_refused_for_another_name_time_or_authority() {
        let now = Timestamp::now();
        let authority = Authority::new("one", now).unwrap();
        let other = Authority::new("two", now).unwrap();
        let leaf = authority.issue_server(&names(), now, YEAR).unwrap();
        let trust = |authority: &Authority| authority.certificate_pem().as_bytes().to_vec();
        let check = |trust: &[u8], name: &str, now| {
            verify_server(leaf.certificate.as_bytes(), trust, &[name.to_owned()], now)
        };
        let both = [trust(&other), trust(&authority)].concat();
        check(&trust(&authority), "kes.default.svc", now).unwrap();
        check(&both, "127.0.0.1", now).unwrap();
        let later = now + jiff::SignedDuration::from_hours(400 * 24);
        for (trust, name, now, reason) in [
            (trust(&authority), "other.svc", now, "it does not have that name"),
            (trust(&other), "kes.default.svc", now, "no authority in ca.crt has signed it"),
            (trust(&authority), "kes.default.svc", later, "it has expired"),
        ] {
            let error = check(&trust, name, now).unwrap_err().to_string();
            assert!(error.ends_with(reason), "{error}");
        }
        let (begins, ends) = validity_of_pem(leaf.certificate.as_bytes()).unwrap();
        assert_eq!(ends.as_second() - begins.as_second(), 365 * 86_400 + 3600);
    }

    #[test]
    fn renewal_keeps_the_key_and_so_the_identity() {
        let now = Timestamp::now();
        let authority = Authority::new("kes-authority", now).unwrap();
        let first = authority.issue_server(&names(), now, YEAR).unwrap();
        let second = authority.renew_server(&names(), &first.key, now, 2 * YEAR).unwrap();
        assert_eq!(*first.key, *second.key);
        assert_eq!(
            identity_of_pem(first.certificate.as_bytes()).unwrap(),
            identity_of_pem(second.certificate.as_bytes()).unwrap()
        );
        let ends = not_after_of_pem(second.certificate.as_bytes()).unwrap();
        assert_eq!(ends.as_second(), now.as_second() + 2 * 365 * 86_400);
    }

    #[test]
    fn a_leaf_or_a_foreign_key_is_no_authority() {
        let now = Timestamp::now();
        let authority = Authority::new("one", now).unwrap();
        let other = Authority::new("two", now).unwrap();
        let leaf = authority.issue_server(&names(), now, YEAR).unwrap();
        assert!(matches!(Authority::from_pem(&leaf.certificate, &leaf.key), Err(Error::NotAuthority)));
        let mixed = Authority::from_pem(authority.certificate_pem(), &other.key_pem());
        assert!(matches!(mixed, Err(Error::KeyMismatch { .. })));
        assert!(matches!(
            authority.issue_server(&ServerNames::default(), now, YEAR),
            Err(Error::NoServerName { .. })
        ));
    }
}
