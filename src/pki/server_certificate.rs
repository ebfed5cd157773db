//! The certificate of a server, read and checked before anybody connects.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

use super::{Error, Password, identity, pem};

/// A certificate chain whose leaf names at least one host, and the key that belongs to it.
pub struct ServerCertificate {
    certified: Arc<CertifiedKey>,
    names: Vec<String>,
    not_after: Timestamp,
}

impl ServerCertificate {
    /// Reads both files.
    ///
    /// # Errors
    /// One that names the file: it cannot be read, is no PEM, its key does not match, it names no host.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        Self::load_under(certificate, key, None)
    }

    /// The same with a key that may be under a password.
    ///
    /// # Errors
    /// As [`Self::load`], and [`Error::Encrypted`] and [`Error::Password`] for no password and a wrong one.
    pub fn load_under(certificate: &Path, key: &Path, password: Option<&Password>) -> Result<Self, Error> {
        let names = [
            format!("server certificate '{}'", certificate.display()),
            format!("server key '{}'", key.display()),
        ];
        let certificate = read("server certificate", certificate)?;
        let key = Zeroizing::new(read("server key", key)?);
        Self::new((&certificate, &names[0]), (&key, &names[1]), password)
    }

    /// Reads both texts.
    ///
    /// # Errors
    /// It is no PEM, its key does not match, it names no host.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, Error> {
        Self::new((certificate, "server certificate"), (key, "server key"), None)
    }

    /// Chain and key in the form that `rustls` takes.
    #[must_use]
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// Host names and addresses of the leaf.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// When the leaf expires.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Of texts and what they are called.
    fn new(
        (certificate, certificate_name): (&[u8], &str),
        (key, key_name): (&[u8], &str),
        password: Option<&Password>,
    ) -> Result<Self, Error> {
        let chain = pem::certificates(certificate, certificate_name)?;
        let key = pem::private_key(key, key_name, password)?;
        let certified = certified(&chain, &key, certificate_name, key_name)?;
        let [leaf, ..] = chain.as_slice() else { return Err(Error::NoCertificate) };
        let names = host_names(leaf, certificate_name)?;
        if names.is_empty() {
            return Err(Error::NoServerName { what: certificate_name.into() });
        }
        Ok(Self { certified, names, not_after: not_after(leaf, certificate_name)? })
    }
}

/// Whether a client that trusts the authorities of `trust` accepts the chain in `certificate` under every one of `names`
/// at `now`: signatures, dates and names.
///
/// # Errors
/// [`Error::NoPem`], [`Error::Malformed`], and [`Error::NotTrusted`] with the first name that is refused.
pub fn verify_server(
    certificate: &[u8],
    trust: &[u8],
    names: &[String],
    now: Timestamp,
) -> Result<(), Error> {
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        pki_types::{ServerName, UnixTime},
    };
    let chain = pem::certificates(certificate, "server certificate")?;
    let [leaf, intermediates @ ..] = chain.as_slice() else { return Err(Error::NoCertificate) };
    let mut roots = RootCertStore::empty();
    for authority in pem::certificates(trust, "certificate of the authority")? {
        roots.add(authority).map_err(|_| Error::Malformed {
            what: "certificate of the authority".into(),
            reason: "it cannot vouch for others".into(),
        })?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let refused = |name: &str, reason: String| Error::NotTrusted { name: name.into(), reason };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| refused("any name", error.to_string()))?;
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    for name in names {
        let server = ServerName::try_from(name.as_str()).map_err(|error| refused(name, error.to_string()))?;
        verifier
            .verify_server_cert(leaf, intermediates, &server, &[], at)
            .map_err(|error| refused(name, reason(&error)))?;
    }
    Ok(())
}

/// What a verifier says, without the names of its types.
fn reason(error: &rustls::Error) -> String {
    use rustls::CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        UnknownIssuer,
    };
    match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => "it has expired".into(),
        rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            "it is not valid yet".into()
        }
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "it does not have that name".into()
        }
        rustls::Error::InvalidCertificate(UnknownIssuer) => "no authority in ca.crt has signed it".into(),
        error => error.to_string(),
    }
}

/// From when until when the first certificate in a PEM text is valid.
///
/// # Errors
/// [`Error::NoPem`] and [`Error::Malformed`].
pub fn validity_of_pem(text: &[u8]) -> Result<(Timestamp, Timestamp), Error> {
    let chain = pem::certificates(text, "certificate")?;
    let [leaf, ..] = chain.as_slice() else { return Err(Error::NoCertificate) };
    let begins = identity::parse(leaf, "certificate")?.validity().not_before.timestamp();
    let begins = Timestamp::from_second(begins).map_err(|_| Error::Malformed {
        what: "certificate".into(),
        reason: "its begin of validity is out of range".into(),
    })?;
    Ok((begins, not_after(leaf, "certificate")?))
}

/// When the first certificate in a PEM text expires.
///
/// # Errors
/// [`Error::NoPem`] and [`Error::Malformed`].
pub fn not_after_of_pem(text: &[u8]) -> Result<Timestamp, Error> {
    let chain = pem::certificates(text, "certificate")?;
    let [leaf, ..] = chain.as_slice() else { return Err(Error::NoCertificate) };
    not_after(leaf, "certificate")
}

/// Reads one file.
pub(super) fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { what, path: path.into(), source })
}

/// Checks that `key` is the key of the first certificate.
pub(super) fn certified(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    certificate_name: &str,
    key_name: &str,
) -> Result<Arc<CertifiedKey>, Error> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(key.clone_key()).map_err(|_| Error::Malformed {
        what: key_name.into(),
        reason: "the key is of a kind that is not supported".into(),
    })?;
    let certified = CertifiedKey::new(chain.to_vec(), key);
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Error::KeyMismatch { what: format!("{certificate_name}, {key_name}") })
        }
        Err(_) => {
            Err(Error::Malformed { what: certificate_name.into(), reason: "not an X.509 certificate".into() })
        }
    }
}

fn not_after(leaf: &CertificateDer<'_>, what: &str) -> Result<Timestamp, Error> {
    let seconds = identity::parse(leaf, what)?.validity().not_after.timestamp();
    Timestamp::from_second(seconds).map_err(|_| Error::Malformed {
        what: what.into(),
        reason: "its end of validity is out of range".into(),
    })
}

fn host_names(leaf: &CertificateDer<'_>, what: &str) -> Result<Vec<String>, Error> {
    let leaf = identity::parse(leaf, what)?;
    let extension = leaf.subject_alternative_name().map_err(|_| Error::Malformed {
        what: what.into(),
        reason: "its alternative names are broken".into(),
    })?;
    let names = extension.iter().flat_map(|names| &names.value.general_names);
    Ok(names.filter_map(host_name).collect())
}

fn host_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).into()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pki::{SelfSigned, Usage, self_signed, self_signed_client};

    #[test]
    fn a_server_certificate_is_read_with_its_names_and_its_end() {
        let pair = self_signed(&SelfSigned {
            common_name: "server".into(),
            dns: vec!["localhost".into()],
            ip: vec!["::1".parse().unwrap(), "10.0.0.1".parse().unwrap()],
            validity: Duration::from_secs(3600),
            usage: Usage::Server,
        })
        .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("a.crt"), directory.path().join("a.key"));
        std::fs::write(&certificate, &pair.certificate).unwrap();
        std::fs::write(&key, pair.key.as_bytes()).unwrap();
        let server = ServerCertificate::load(&certificate, &key).unwrap();
        assert_eq!(server.names(), ["localhost", "::1", "10.0.0.1"]);
        assert!(server.not_after() > Timestamp::now());
    }

    #[test]
    fn every_unusable_pair_is_refused_with_what_why_and_what_next() {
        let pair = self_signed_client("no names", Duration::from_secs(3600)).unwrap();
        let other = self_signed_client("other", Duration::from_secs(3600)).unwrap();
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let (certificate, key) = (pair.certificate.as_str(), pair.key.as_str());
        for (certificate, key, expected) in [
            (certificate, key, "names no host"),
            (certificate, other.key.as_str(), "does not match"),
            ("garbage", key, "no PEM block 'CERTIFICATE'"),
            (certificate, certificate, "no PEM block 'PRIVATE KEY'"),
            (certificate, encrypted, "encrypted with a password"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                key,
                "not an X.509 certificate",
            ),
            ("-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n", key, "no valid base64"),
        ] {
            let error = ServerCertificate::from_pem(certificate.as_bytes(), key.as_bytes()).err().unwrap();
            assert!(error.to_string().contains(expected), "{error} should contain {expected}");
            assert!(!error.next_step().is_empty());
        }
        let missing =
            ServerCertificate::load(Path::new("/nowhere/a.crt"), Path::new("/nowhere/a.key")).err().unwrap();
        assert!(
            missing.to_string().starts_with("failed to read server certificate '/nowhere/a.crt'"),
            "{missing}"
        );
    }
}
