//! Self-signed certificates: all that a client of the key server needs, since it is known by its key alone.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
    SerialNumber,
};

use super::{ApiKey, Error, PemPair, ed25519::Seed, pem};
use crate::world::{Random, System};

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Usage {
    /// To call a server.
    Client,
    /// To call a server and to be one, as `kes identity new` makes them.
    Both,
    /// To be a server.
    Server,
}

/// The content of a self-signed certificate.
#[derive(Clone, Debug)]
pub struct SelfSigned {
    /// Common name of subject and issuer.
    pub common_name: String,
    /// Host names that it is valid for.
    pub dns: Vec<String>,
    /// Addresses that it is valid for.
    pub ip: Vec<IpAddr>,
    /// How long from now.
    pub validity: Duration,
    /// What it may be used for.
    pub usage: Usage,
}

/// Makes an Ed25519 key and a self-signed certificate for it, valid from now.
///
/// # Errors
/// [`Error::Name`] for a name that no certificate can carry, [`Error::Validity`] for one beyond the year 9999.
pub fn self_signed(content: &SelfSigned) -> Result<PemPair, Error> {
    sign(content, &Seed::generate(&System), Timestamp::now())
}

/// Makes a self-signed certificate for the key that `key` holds, valid from now.
///
/// # Errors
/// As [`self_signed`].
pub fn self_signed_for(key: &ApiKey, content: &SelfSigned) -> Result<PemPair, Error> {
    sign(content, key.seed(), Timestamp::now())
}

/// Makes a key pair for a client: Ed25519, no host names.
///
/// # Errors
/// As [`self_signed`].
pub fn self_signed_client(common_name: &str, validity: Duration) -> Result<PemPair, Error> {
    self_signed(&SelfSigned {
        common_name: common_name.into(),
        dns: Vec::new(),
        ip: Vec::new(),
        validity,
        usage: Usage::Client,
    })
}

/// Signs `content` with the key `seed`.
pub(super) fn sign(content: &SelfSigned, seed: &Seed, now: Timestamp) -> Result<PemPair, Error> {
    let SelfSigned { common_name, dns, ip, validity, usage } = content;
    let mut params = params(common_name, dns, ip, now, *validity)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usage.purposes();
    let certificate = params.self_signed(&seed.key_pair()?).map_err(Error::crypto("sign a certificate"))?;
    Ok(PemPair { certificate: certificate.pem(), key: pem::encode_private_key(&seed.to_pkcs8()) })
}

impl Usage {
    pub(super) fn purposes(self) -> Vec<ExtendedKeyUsagePurpose> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        match self {
            Self::Client => vec![ClientAuth],
            Self::Both => vec![ServerAuth, ClientAuth],
            Self::Server => vec![ServerAuth],
        }
    }
}

/// What every certificate that we make has in common: names, dates, a random 128-bit serial, not an authority.
pub(super) fn params(
    common_name: &str,
    dns: &[String],
    ip: &[IpAddr],
    not_before: Timestamp,
    validity: Duration,
) -> Result<CertificateParams, Error> {
    let not_after = not_before.checked_add(validity).map_err(|_| Error::Validity)?;
    let mut params = CertificateParams::default();
    // rcgen's dates are of the crate `time`; seconds after 1970 get there without that dependency
    let date = |at: Timestamp| {
        let seconds = u64::try_from(at.as_second()).map_err(|_| Error::Validity)?;
        Ok(rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds))
    };
    params.not_before = date(not_before)?;
    params.not_after = date(not_after)?;
    params.serial_number = Some(serial());
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    for name in dns {
        let name =
            name.as_str().try_into().map_err(|_| Error::Name { kind: "DNS name", name: name.clone() })?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.subject_alt_names.extend(ip.iter().copied().map(SanType::IpAddress));
    Ok(params)
}

/// A random positive serial of 128 bits (RFC 5280 §4.1.2.2 wants it positive and at most 20 bytes).
fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    System.fill(&mut bytes);
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{ApiKey, ClientIdentity, identity, identity_of_pem};

    fn content(usage: Usage) -> SelfSigned {
        SelfSigned {
            common_name: "minio".into(),
            dns: vec!["kes.example".into(), "*.kes.example".into()],
            ip: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            validity: Duration::from_secs(720 * 3600),
            usage,
        }
    }

    #[test]
    fn a_self_signed_certificate_says_what_was_asked() {
        let pair = self_signed(&content(Usage::Both)).unwrap();
        let der = pem::certificates(pair.certificate.as_bytes(), "test").unwrap().remove(0);
        let certificate = identity::parse(&der, "test").unwrap();
        assert_eq!(certificate.subject().to_string(), "CN=minio");
        assert_eq!(certificate.issuer().to_string(), "CN=minio");
        assert!(!certificate.is_ca());
        assert!(certificate.basic_constraints().unwrap().unwrap().critical);
        assert!(certificate.key_usage().unwrap().unwrap().value.digital_signature());
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && usage.server_auth);
        assert_eq!(certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 4);
        let validity = certificate.validity();
        assert_eq!(validity.not_after.timestamp() - validity.not_before.timestamp(), 720 * 3600);
    }

    #[test]
    fn key_and_certificate_belong_together_and_give_one_identity() {
        let pair = self_signed_client("app", Duration::from_secs(60)).unwrap();
        let client = ClientIdentity::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes()).unwrap();
        assert_eq!(client.identity(), &identity_of_pem(pair.certificate.as_bytes()).unwrap());
        let key = ApiKey::from_private_key_pem(pair.key.as_bytes()).unwrap();
        assert_eq!(client.identity(), key.identity());
    }

    #[test]
    fn a_name_outside_ascii_and_a_validity_without_end_are_refused() {
        let bad = SelfSigned { dns: vec!["kés".into()], ..content(Usage::Client) };
        assert!(matches!(self_signed(&bad), Err(Error::Name { .. })));
        let bad = SelfSigned { validity: Duration::MAX, ..content(Usage::Client) };
        assert!(matches!(self_signed(&bad), Err(Error::Validity)));
    }
}
