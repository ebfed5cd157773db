//! One connection, kept and shared: HTTP/2 carries all calls at once, HTTP/1.1 one at a time.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Error, endpoint::Endpoint};

/// HTTP/1.1 connections kept for the next call.
const IDLE: usize = 2;
/// Largest answer that is read; only listings come near it.
const MAX_ANSWER: usize = 256 << 20;

/// Makes connections to one server and keeps them.
pub(super) struct Connector {
    pub(super) endpoint: Endpoint,
    connect_to: Option<SocketAddr>,
    tls: TlsConnector,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    h2: Option<http2::SendRequest<Full<Bytes>>>,
    h1: Vec<http1::SendRequest<Full<Bytes>>>,
}

/// A connection that can take one call now.
enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

/// The connection that an answer comes on.
pub(super) struct Used {
    kept: bool,
    sender: Sender,
}

/// A call that got no answer.
pub(super) struct Broken {
    /// Whether the connection was one that was kept: then it may just have been closed meanwhile.
    pub(super) kept: bool,
    pub(super) error: Error,
}

impl Connector {
    pub(super) fn new(endpoint: Endpoint, connect_to: Option<SocketAddr>, tls: Arc<ClientConfig>) -> Self {
        Self { endpoint, connect_to, tls: TlsConnector::from(tls), kept: Mutex::default() }
    }

    /// Sends one request and reads its whole answer.
    pub(super) async fn exchange(
        &self,
        request: http::Request<Full<Bytes>>,
        connect_time: Duration,
    ) -> Result<http::Response<Bytes>, Broken> {
        let (Used { kept, sender }, answer) = self.begin(request, connect_time).await?;
        let answer = self.collect(answer).await.map_err(|error| Broken { kept, error })?;
        self.keep(sender);
        Ok(answer)
    }

    /// Reads the rest of an answer.
    pub(super) async fn collect(
        &self,
        answer: http::Response<Incoming>,
    ) -> Result<http::Response<Bytes>, Error> {
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| self.classify(&*error))?;
        Ok(http::Response::from_parts(head, body.to_bytes()))
    }

    /// Sends one request and reads the head of its answer. A new connection may take `connect_time` to come about.
    pub(super) async fn begin(
        &self,
        request: http::Request<Full<Bytes>>,
        connect_time: Duration,
    ) -> Result<(Used, http::Response<Incoming>), Broken> {
        let (kept, mut sender) = match self.take() {
            Some(sender) => (true, sender),
            None => {
                let connected = tokio::time::timeout(connect_time, self.connect()).await;
                let endpoint = self.endpoint.text.clone();
                let connected = connected.unwrap_or(Err(Error::Timeout { endpoint, after: connect_time }));
                (false, connected.map_err(|error| Broken { kept: false, error })?)
            }
        };
        let broken = |error: &(dyn std::error::Error + 'static)| Broken { kept, error: self.classify(error) };
        let answer = match &mut sender {
            Sender::H1(sender) => sender.send_request(with_host(request, &self.endpoint)).await,
            Sender::H2(sender) => sender.send_request(request).await,
        };
        let answer = answer.map_err(|error| broken(&error))?;
        Ok((Used { kept, sender }, answer))
    }

    fn take(&self) -> Option<Sender> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.h2 = kept.h2.take().filter(|sender| !sender.is_closed());
        if let Some(sender) = &kept.h2 {
            return Some(Sender::H2(sender.clone()));
        }
        while let Some(sender) = kept.h1.pop() {
            if sender.is_ready() {
                return Some(Sender::H1(sender));
            }
        }
        None
    }

    fn keep(&self, sender: Sender) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match sender {
            Sender::H2(sender) => kept.h2 = Some(sender),
            Sender::H1(sender) if kept.h1.len() < IDLE => kept.h1.push(sender),
            Sender::H1(_) => {}
        }
    }

    async fn connect(&self) -> Result<Sender, Error> {
        let Endpoint { host, port, name, .. } = &self.endpoint;
        let socket = match self.connect_to {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((host.as_str(), *port)).await,
        };
        let socket = socket.map_err(|error| self.classify(&error))?;
        socket.set_nodelay(true).map_err(|error| self.classify(&error))?;
        let stream = self.tls.connect(name.clone(), socket).await.map_err(|error| self.classify(&error))?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        if h2 {
            let handshake = http2::Builder::new(TokioExecutor::new()).handshake(stream).await;
            let (sender, connection) = handshake.map_err(|error| self.classify(&error))?;
            // ends when the server closes or the last sender is dropped; its error reaches each call as well
            tokio::spawn(connection);
            self.keep(Sender::H2(sender.clone()));
            return Ok(Sender::H2(sender));
        }
        let (sender, connection) = http1::handshake(stream).await.map_err(|error| self.classify(&error))?;
        tokio::spawn(connection);
        Ok(Sender::H1(sender))
    }

    /// Finds what lies at the bottom of an error: the TLS library's word, or the operating system's.
    fn classify(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        let endpoint = self.endpoint.text.clone();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Error::Tls { endpoint, reason: tls_reason(tls) };
            }
            if let Some(io) = error.downcast_ref::<io::Error>() {
                if let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    return Error::Tls { endpoint, reason: tls_reason(tls) };
                }
                return Error::Connect { endpoint, source: io::Error::new(io.kind(), io.to_string()) };
            }
            cause = error.source();
        }
        Error::Connect { endpoint, source: io::Error::other(error.to_string()) }
    }
}

fn with_host(mut request: http::Request<Full<Bytes>>, endpoint: &Endpoint) -> http::Request<Full<Bytes>> {
    // HTTP/1.1 names the host in a header and the path alone in its first line (RFC 9112 §3.2)
    if let Ok(host) = http::HeaderValue::from_str(endpoint.authority.as_str()) {
        request.headers_mut().insert(http::header::HOST, host);
    }
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = http::Uri::from(path);
    }
    request
}

fn tls_reason(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError};
    match error {
        // an authority of the same name made it: the server has a new certificate, most likely
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => {
            "the server's certificate is not the one that is trusted, but has its name".into()
        }
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the server's certificate is signed by an unknown authority".into()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the server's certificate is expired".into(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another host".into(),
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
            if other.to_string().contains("CaUsedAsEndEntity") =>
        {
            "the server's certificate is that of an authority".into()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a client certificate".into()
        }
        rustls::Error::AlertReceived(alert) => format!("the server ended the handshake with {alert:?}"),
        rustls::Error::InvalidMessage(_) => "the other side does not speak TLS".into(),
        other => other.to_string(),
    }
}
