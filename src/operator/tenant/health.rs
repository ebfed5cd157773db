//! Asks one MinIO pod whether it can encrypt: `/minio/health/ready` makes MinIO generate a data key.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::client::AnyServer;

/// MinIO's S3 port inside a pod.
const PORT: u16 = 9000;
const PATH: &str = "/minio/health/ready";
/// MinIO sends it while it does not serve yet, together with a 200.
const OFFLINE_HEADER: &str = "x-minio-server-status";
/// MinIO itself waits up to a minute for its key service; we ask again instead.
const LIMIT: Duration = Duration::from_secs(5);

/// Why a pod did not confirm.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to connect to {address}: {source}")]
    Connect { address: SocketAddr, source: std::io::Error },
    #[error("failed to agree on TLS with {address}: {source}")]
    Tls { address: SocketAddr, source: std::io::Error },
    #[error("failed to prepare TLS: {0}")]
    Configuration(#[source] rustls::Error),
    #[error("failed to ask {address}: {source}")]
    Http { address: SocketAddr, source: hyper::Error },
    #[error("{address}{PATH} answered {status}, so MinIO cannot generate a data key")]
    Unable { address: SocketAddr, status: StatusCode },
    #[error(
        "{address} has not joined the other servers yet; MinIO looks for one that moved after 30 s again"
    )]
    Offline { address: SocketAddr },
    #[error("{address} did not answer within {LIMIT:?}")]
    TooLong { address: SocketAddr },
}

/// Asks the pod at `ip`.
pub(crate) async fn check(ip: std::net::IpAddr, tls: bool) -> Result<(), Error> {
    let address = SocketAddr::new(ip, PORT);
    let asked = async {
        let stream =
            TcpStream::connect(address).await.map_err(|source| Error::Connect { address, source })?;
        if tls {
            let connector = tokio_rustls::TlsConnector::from(configuration()?);
            let name = ServerName::IpAddress(ip.into());
            let stream =
                connector.connect(name, stream).await.map_err(|source| Error::Tls { address, source })?;
            ask(address, stream).await
        } else {
            ask(address, stream).await
        }
    };
    tokio::time::timeout(LIMIT, asked).await.unwrap_or(Err(Error::TooLong { address }))
}

async fn ask(
    address: SocketAddr,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(), Error> {
    let failed = |source| Error::Http { address, source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let driver = tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = http::Uri::from_static(PATH);
    if let Ok(host) = http::HeaderValue::from_str(&address.to_string()) {
        request.headers_mut().insert(http::header::HOST, host);
    }
    let answer = sender.send_request(request).await.map_err(failed);
    driver.abort();
    let answer = answer?;
    if answer.status() != StatusCode::OK {
        return Err(Error::Unable { address, status: answer.status() });
    }
    if answer.headers().contains_key(OFFLINE_HEADER) {
        return Err(Error::Offline { address });
    }
    Ok(())
}

fn configuration() -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::Configuration)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer::new(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
