//! material: makes the key material of Secrets that do not exist yet. Randomness enters here and nowhere else.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::{
    build,
    keyring::{self, AUTHORITY, CERTIFICATE, Keyring, PRIVATE_KEY, UNSEAL_KEY},
    purpose::Purpose,
    wanted::{Tls, Wanted},
};
use crate::{
    operator::names,
    pki::{self, Authority, PemPair, ServerNames},
    world::Random,
};

/// Clients: the identity is the key, expiry is not checked, and below 30 days of life the MinIO Operator floods its
/// log (minio-wiring §9, pitfall 5).
const CLIENT_VALIDITY: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A year, as in the CRD.
const DEFAULT_VALIDITY: Duration = Duration::from_secs(365 * 86_400);

/// Why key material was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to make {purpose}: {source}")]
    Make { purpose: String, source: pki::Error },
    #[error("failed to read the certificate authority: {0}")]
    Authority(#[source] keyring::Error),
    #[error("failed to read the server's key: {0}")]
    Key(#[source] keyring::Error),
}

/// Makes the Secret for `purpose`; `ring` holds the authority already, unless that is what is made.
///
/// # Errors
/// When the authority cannot be read or the cryptographic library refuses.
pub(crate) fn make(
    wanted: &Wanted,
    purpose: &Purpose,
    ring: &Keyring,
    now: Timestamp,
    random: &dyn Random,
) -> Result<Secret, Error> {
    let failed = |source| Error::Make { purpose: purpose.to_string(), source };
    let data = match purpose {
        Purpose::Authority => {
            let authority =
                Authority::new(&format!("{} authority", wanted.server_name()), now).map_err(failed)?;
            let pair = PemPair { certificate: authority.certificate_pem().into(), key: authority.key_pem() };
            let trust = pair.certificate.clone().into_bytes();
            pem(pair, trust)
        }
        Purpose::ServerCertificate => {
            let authority = authority(ring)?;
            let pair =
                authority.issue_server(&server_names(wanted), now, validity(wanted)).map_err(failed)?;
            pem(pair, authority.certificate_pem().as_bytes().to_vec())
        }
        Purpose::Seal => {
            let mut key = zeroize::Zeroizing::new([0_u8; 32]);
            random.fill(&mut *key);
            use base64::{Engine, engine::general_purpose::STANDARD};
            BTreeMap::from([(UNSEAL_KEY.to_owned(), ByteString(STANDARD.encode(*key).into_bytes()))])
        }
        Purpose::SystemAdmin
        | Purpose::EnclaveAdmin(_)
        | Purpose::Identity { .. }
        | Purpose::Tenant { .. } => {
            let pair =
                pki::self_signed_client(&common_name(wanted, purpose), CLIENT_VALIDITY).map_err(failed)?;
            pem(pair, trust(ring)?)
        }
    };
    Ok(build::secret::secret(wanted, purpose, data))
}

/// Makes the server's certificate anew with the key that `live` has, so that nobody sees another server.
///
/// # Errors
/// When the authority or the key cannot be read or the cryptographic library refuses.
pub(crate) fn renew(wanted: &Wanted, live: &Secret, ring: &Keyring, now: Timestamp) -> Result<Secret, Error> {
    let failed = |source| Error::Make { purpose: Purpose::ServerCertificate.to_string(), source };
    let authority = authority(ring)?;
    let key = keyring::text(live, PRIVATE_KEY).map_err(Error::Key)?;
    let pair = authority.renew_server(&server_names(wanted), key, now, validity(wanted)).map_err(failed)?;
    let data = pem(pair, authority.certificate_pem().as_bytes().to_vec());
    Ok(build::secret::secret(wanted, &Purpose::ServerCertificate, data))
}

fn authority(ring: &Keyring) -> Result<Authority, Error> {
    let secret = ring.get(&Purpose::Authority).ok_or(Error::Authority(keyring::Error::Absent))?;
    keyring::authority(secret).map_err(Error::Authority)
}

/// Where the certificate comes from elsewhere, ours is only asked for on the way back.
fn validity(wanted: &Wanted) -> Duration {
    match wanted.tls {
        Tls::Own { validity } => validity,
        Tls::Secret { .. } | Tls::Issuer { .. } => DEFAULT_VALIDITY,
    }
}

/// Every name that clients, other members and probes use.
pub(crate) fn server_names(wanted: &Wanted) -> ServerNames {
    let service = wanted.server_name();
    let headless = format!("{}.{}.svc", names::headless_service(&wanted.name), wanted.namespace);
    let domain = &wanted.domain;
    let dns = vec![
        service.clone(),
        format!("{service}.{domain}"),
        format!("{}.{}", wanted.name, wanted.namespace),
        headless.clone(),
        format!("{headless}.{domain}"),
        format!("*.{headless}"),
        format!("*.{headless}.{domain}"),
        "localhost".into(),
    ];
    ServerNames { dns, ip: vec![IpAddr::from([127, 0, 0, 1])] }
}

fn common_name(wanted: &Wanted, purpose: &Purpose) -> String {
    let mut name = match purpose {
        Purpose::Tenant { namespace, name } => format!("{namespace}/{name}"),
        Purpose::Identity { name, .. } => name.clone(),
        _ => purpose.secret(&wanted.name),
    };
    // X.520 allows 64 characters
    name.truncate(64);
    name
}

fn trust(ring: &Keyring) -> Result<Vec<u8>, Error> {
    ring.trust().map_err(Error::Authority)
}

fn pem(pair: PemPair, trust: Vec<u8>) -> BTreeMap<String, ByteString> {
    let PemPair { certificate, key } = pair;
    BTreeMap::from([
        (CERTIFICATE.to_owned(), ByteString(certificate.into_bytes())),
        (PRIVATE_KEY.to_owned(), ByteString(key.as_bytes().to_vec())),
        (AUTHORITY.to_owned(), ByteString(trust)),
    ])
}

#[cfg(test)]
mod tests {
    use super::{super::validate::fixture::wanted, *};
    use crate::world::System;

    #[test]
    fn every_generated_secret_can_be_read_back() {
        let wanted = wanted();
        let mut ring = Keyring::default();
        for purpose in wanted.purposes() {
            let secret = make(&wanted, &purpose, &ring, Timestamp::now(), &System).unwrap();
            assert_eq!(secret.metadata.name.as_deref(), Some(purpose.secret("vault").as_str()));
            let fingerprint = keyring::fingerprint(&purpose, &secret).unwrap();
            assert!(fingerprint.len() >= 32, "{purpose}");
            ring.insert(purpose, secret);
        }
        assert!(ring.identity(&Purpose::SystemAdmin).is_ok());
        assert!(ring.trust().unwrap().starts_with(b"-----BEGIN CERTIFICATE"));
    }

    #[test]
    fn every_secret_is_as_recorded_but_for_what_is_in_it() {
        let wanted = wanted();
        let mut ring = Keyring::default();
        let mut made = Vec::new();
        for purpose in wanted.purposes() {
            let secret = make(&wanted, &purpose, &ring, Timestamp::now(), &System).unwrap();
            ring.insert(purpose, secret.clone());
            let data = secret.data.unwrap().into_keys().collect::<Vec<_>>();
            made.push(serde_json::json!({"metadata": secret.metadata, "type": secret.type_, "data": data}));
        }
        insta::assert_yaml_snapshot!("secrets", made);
    }

    #[test]
    fn a_renewed_certificate_keeps_its_key() {
        let wanted = wanted();
        let mut ring = Keyring::default();
        for purpose in [Purpose::Authority, Purpose::ServerCertificate] {
            let secret = make(&wanted, &purpose, &ring, Timestamp::now(), &System).unwrap();
            ring.insert(purpose, secret);
        }
        let first = ring.get(&Purpose::ServerCertificate).unwrap();
        let second = renew(&wanted, first, &ring, Timestamp::now()).unwrap();
        let data = |secret: &Secret, key| secret.data.as_ref().unwrap()[key].clone();
        assert_eq!(data(first, PRIVATE_KEY), data(&second, PRIVATE_KEY));
        assert_ne!(data(first, CERTIFICATE), data(&second, CERTIFICATE));
    }

    #[test]
    fn the_server_certificate_covers_every_name_that_clients_use() {
        let names = server_names(&wanted());
        for name in [
            "vault.keys.svc",
            "vault.keys.svc.cluster.local",
            "*.vault-hl.keys.svc.cluster.local",
            "localhost",
        ] {
            assert!(names.dns.iter().any(|known| known == name), "{name}");
        }
    }
}
