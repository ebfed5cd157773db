//! Who a client is: the key that signed its handshake and no other, whatever certificates it sends.

use std::{sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};
use rustls::{ClientConfig, HandshakeKind, pki_types::CertificateDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::tls::{Client, Running, running, trusting};
use crate::{
    api::Identity,
    server::{Access, tls},
};

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}

fn ca_params() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters
}

/// The certificate of an authority that `key` made for itself.
fn authority(key: &KeyPair) -> CertificateDer<'static> {
    ca_params().self_signed(key).unwrap().der().clone()
}

impl Running {
    /// Who the audit log says that a client with `config` is, or why it was not let in.
    pub(super) async fn who_is(&self, config: &Arc<ClientConfig>) -> Result<Option<String>, String> {
        let before = self.lines.0.lock().unwrap().len();
        let answer = self.get(config, "/version").await.map_err(|error| error.to_string())?;
        let line = async {
            loop {
                if let Some(line) = self.lines.0.lock().unwrap().get(before) {
                    return line["request"]["identity"].as_str().map(str::to_owned);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let identity = tokio::time::timeout(Duration::from_secs(10), line).await.expect("it is audited");
        assert_eq!(identity.is_some(), answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Ok(identity)
    }

    async fn who_sends(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: KeyPair,
    ) -> Result<Option<String>, String> {
        self.who_is(&Client { chain, key }.config(self.directory.path(), b"http/1.1")).await
    }
}

fn identity_of(key: &KeyPair) -> Identity {
    crate::pki::identity_of_spki(&rcgen::PublicKeyData::subject_public_key_info(key))
}

#[tokio::test]
async fn the_identity_is_the_leafs_and_certificates_of_authorities_are_skipped() {
    let server = running().await;
    let client = Client::ed25519();
    let want = Ok(Some(client.identity().to_string()));
    let config = client.config(server.directory.path(), b"http/1.1");
    assert_eq!(server.who_is(&config).await, want);
    let chain = [client.chain.clone(), vec![authority(&key()), authority(&key())]].concat();
    assert_eq!(server.who_sends(chain, client.key).await, want);
}

#[tokio::test]
async fn an_authoritys_certificate_alone_is_an_identity_and_two_of_them_are_none() {
    let server = running().await;
    let (one, other) = (key(), key());
    let (identity, chain) = (identity_of(&one), vec![authority(&one), authority(&other)]);
    let alone = KeyPair::try_from(one.serialize_der()).unwrap();
    assert_eq!(server.who_sends(vec![authority(&one)], alone).await, Ok(Some(identity.to_string())));
    server.who_sends(chain, one).await.expect_err("nobody is left");
}

#[tokio::test]
async fn more_than_one_leaf_is_refused_with_a_text() {
    let server = running().await;
    let mut client = Client::ed25519();
    client.chain.extend(Client::ed25519().chain);
    let answer = server.get(&client.config(server.directory.path(), b"http/1.1"), "/version").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with(r#"{"message":"too many client certificates are present"}"#), "{answer}");
}

/// KES takes the identity of the only leaf, also where an authority's certificate before it signed the handshake.
#[tokio::test]
async fn somebody_elses_certificate_without_its_key_never_lets_anybody_in() {
    let server = running().await;
    let victim = Client::ed25519();
    let leaf = victim.chain[0].clone();
    let mine = key();
    let (my_authority, my_leaf) =
        (authority(&mine), CertificateParams::default().self_signed(&mine).unwrap().der().clone());
    // a certificate for the victim's key that the attacker issued
    let issued = CertificateParams::default()
        .signed_by(&victim.key, &Issuer::new(ca_params(), KeyPair::try_from(mine.serialize_der()).unwrap()))
        .unwrap()
        .der()
        .clone();
    let mut broken = leaf.to_vec();
    broken.push(0);
    for (what, chain) in [
        ("the victim's certificate alone", vec![leaf.clone()]),
        ("before one's own authority", vec![leaf.clone(), my_authority.clone()]),
        ("after one's own authority", vec![my_authority.clone(), leaf.clone()]),
        ("between one's own authorities", vec![my_authority.clone(), leaf.clone(), my_authority.clone()]),
        ("issued by oneself", vec![issued.clone()]),
        ("issued by oneself, after its issuer", vec![my_authority.clone(), issued]),
        ("with a byte too many", vec![CertificateDer::from(broken.clone())]),
        ("with a byte too many, after one's own", vec![my_authority.clone(), CertificateDer::from(broken)]),
        ("after garbage", vec![CertificateDer::from(vec![0x30, 0x80, 1]), leaf.clone()]),
    ] {
        let key = KeyPair::try_from(mine.serialize_der()).unwrap();
        let error = server.who_sends(chain, key).await.expect_err(what);
        assert!(!error.is_empty(), "{what}");
    }
    // what is let in is not the victim
    for (what, chain) in [
        ("both leaves", vec![my_leaf.clone(), leaf.clone()]),
        ("both leaves and an authority", vec![my_authority, my_leaf, leaf]),
    ] {
        let key = KeyPair::try_from(mine.serialize_der()).unwrap();
        assert_eq!(server.who_sends(chain, key).await, Ok(None), "{what}");
    }
    assert!(
        server
            .lines
            .0
            .lock()
            .unwrap()
            .iter()
            .all(|line| { line["request"]["identity"].as_str() != Some(victim.identity().as_str()) })
    );
}

#[tokio::test]
async fn the_identity_survives_resumption_and_early_data_is_not_taken() {
    let server = running().await;
    let client = Client::ed25519();
    let config = client.config(server.directory.path(), b"http/1.1");
    let mut kinds = Vec::new();
    for _ in 0..3 {
        assert_eq!(server.who_is(&config).await, Ok(Some(client.identity().to_string())));
        let stream = server.connect(Arc::clone(&config)).await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
    }
    assert_eq!(kinds[2], HandshakeKind::Resumed, "{kinds:?}");

    // requests in early data could be replayed by whoever saw them
    let files = ["public.crt", "private.key"].map(|name| server.directory.path().join(name));
    let [certificate, key] = files;
    let config =
        tls::config(Arc::new(tls::Certificate::load(certificate, key, None).unwrap()), &Access::default())
            .unwrap();
    assert_eq!(config.max_early_data_size, 0);
}

#[tokio::test]
async fn a_client_chooses_http2_or_http1_or_says_nothing_and_anything_else_is_refused() {
    let server = running().await;
    let client = Client::ed25519();
    for (offer, want) in [
        (&[&b"h2"[..], b"http/1.1"][..], Ok(Some(&b"h2"[..]))),
        (&[b"http/1.1", b"h2"], Ok(Some(b"h2"))),
        (&[b"http/1.1"], Ok(Some(b"http/1.1"))),
        (&[], Ok(None)),
        (&[b"http/1.0", b"spdy/3"], Err(())),
    ] {
        let mut config = Arc::unwrap_or_clone(client.config(server.directory.path(), b"h2"));
        config.alpn_protocols = offer.iter().map(|name| name.to_vec()).collect();
        let got = match server.connect(Arc::new(config)).await {
            Ok(stream) => Ok(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)),
            Err(_) => Err(()),
        };
        assert_eq!(got, want.map(|name| name.map(<[u8]>::to_vec)), "{offer:?}");
    }
    let mut config = Arc::unwrap_or_clone(client.config(server.directory.path(), b"h2"));
    config.alpn_protocols.clear();
    assert!(server.get(&Arc::new(config), "/version").await.unwrap().starts_with("HTTP/1.1 200 "));
}

/// A ClientHello by hand (RFC 5246 §7.4.1.2), which offers one suite and, if given, these versions.
fn hello(versions: &[u8]) -> Vec<u8> {
    let mut extensions = Vec::new();
    if !versions.is_empty() {
        let length = versions.len() as u8;
        // supported_versions (RFC 8446 §4.2.1)
        extensions.extend_from_slice(&[0, 43, 0, length + 1, length]);
        extensions.extend_from_slice(versions);
    }
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    // no session, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, no compression
    body.extend_from_slice(&[0, 0, 2, 0xc0, 0x2b, 1, 0]);
    body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    body.extend_from_slice(&extensions);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend_from_slice(&body);
    let mut record = vec![0x16, 3, 1, 0, message.len() as u8];
    record.extend_from_slice(&message);
    record
}

#[tokio::test]
async fn tls_1_2_and_older_are_refused_with_an_alert() {
    let server = running().await;
    for versions in [&[][..], &[3, 3], &[3, 3, 3, 2], &[3, 1]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&hello(versions)).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        // record type alert; level fatal; protocol_version, or handshake_failure, which rustls says where TLS 1.2 is
        // offered to a server of 1.3 only (RFC 8446 §6)
        assert_eq!((answer[0], answer[5]), (0x15, 2), "{versions:?}: {answer:?}");
        assert!([40, 70].contains(&answer[6]), "{versions:?}: {answer:?}");
    }
}

#[tokio::test]
async fn without_a_certificate_there_is_no_connection_also_for_what_is_public() {
    let server = running().await;
    let config = Arc::new(trusting(server.directory.path()).with_no_client_auth());
    let error = server.get(&config, "/version").await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}
