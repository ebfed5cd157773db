//! A client of the key API that is made for load: HTTP/1.1 or HTTP/2 over mutual TLS, without reconnects or retries.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::net::TcpStream;

/// How requests travel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Http {
    One,
    Two,
}

/// Where to and as whom.
#[derive(Clone)]
pub(crate) struct Client {
    server: SocketAddr,
    one: Arc<ClientConfig>,
    two: Arc<ClientConfig>,
}

/// One request at a time on a connection, which an HTTP/2 connection has many of.
pub(crate) enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// The benchmark knows its servers.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

impl Client {
    pub(crate) fn new(server: SocketAddr, certificate: &Path, key: &Path) -> Result<Self> {
        let config = |protocol: &[u8]| -> Result<_> {
            let chain = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .with_context(|| format!("failed to read {}", certificate.display()))?;
            let key = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("failed to read {}", key.display()))?;
            let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyServer))
                .with_client_auth_cert(chain, key)?;
            config.alpn_protocols = vec![protocol.to_vec()];
            // every handshake is a whole one, so that its cost can be measured
            config.resumption = Resumption::disabled();
            Ok(Arc::new(config))
        };
        Ok(Self { server, one: config(b"http/1.1")?, two: config(b"h2")? })
    }

    /// A connection, as often as it takes `streams` requests at once.
    pub(crate) async fn connect(&self, http: Http, streams: usize) -> Result<Vec<Sender>> {
        let stream = TcpStream::connect(self.server).await.context("failed to connect")?;
        stream.set_nodelay(true)?;
        let config = if http == Http::Two { &self.two } else { &self.one };
        let name = ServerName::try_from("localhost")?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, stream).await.context("the TLS handshake failed")?;
        Ok(match http {
            Http::Two => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                (0..streams).map(|_| Sender::Two(sender.clone())).collect()
            }
            Http::One => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                vec![Sender::One(sender)]
            }
        })
    }

    /// One request on a connection of its own, which must succeed.
    pub(crate) async fn once(&self, method: &str, path: &str, body: &Bytes) -> Result<Bytes> {
        let mut senders = self.connect(Http::One, 1).await?;
        let Some(sender) = senders.first_mut() else { bail!("no connection") };
        match sender.ask(method, path, body).await? {
            (200, answer) => Ok(answer),
            (status, answer) => {
                bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&answer).trim())
            }
        }
    }
}

impl Sender {
    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: &Bytes) -> Result<(u16, Bytes)> {
        let uri = match self {
            Self::One(_) => path.to_owned(),
            Self::Two(_) => format!("https://localhost{path}"),
        };
        let mut request = http::Request::builder().method(method).uri(uri);
        if let Self::One(_) = self {
            request = request.header("host", "localhost");
        }
        let request = request.body(Full::new(body.clone()))?;
        let response = match self {
            Self::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Two(sender) => sender.send_request(request).await?,
        };
        let (head, body) = response.into_parts();
        Ok((head.status.as_u16(), body.collect().await?.to_bytes()))
    }
}
