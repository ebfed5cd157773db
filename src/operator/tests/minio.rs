//! A MinIO pod as far as the operator asks it: one path, and four kinds of answers.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::Empty;
use hyper::{Response, StatusCode, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{ServerConfig, crypto::aws_lc_rs, sign::SingleCertAndKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::pki::{SelfSigned, ServerCertificate, Usage, self_signed};

/// What it says about its readiness.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Says {
    /// It made a data key.
    Ready,
    /// It could not make one.
    Unable,
    /// It serves nothing yet, and says so beside a 200.
    Offline,
    /// Nothing; the connection is closed.
    Nothing,
}

/// Serves for as long as the test.
pub(crate) struct Minio {
    pub(crate) ip: IpAddr,
    says: Arc<Mutex<Says>>,
}

impl Minio {
    /// Starts it, with or without TLS, where it is MinIO's own certificate that nobody vouches for.
    pub(crate) async fn start(tls: bool, says: Says) -> Self {
        let listener = super::listen(9000).await;
        let ip = listener.local_addr().unwrap().ip();
        let says = Arc::new(Mutex::new(says));
        let acceptor = tls.then(acceptor);
        let answers = Arc::clone(&says);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let says = *answers.lock().unwrap();
                match acceptor.clone() {
                    None => drop(tokio::spawn(serve(socket, says))),
                    Some(acceptor) => drop(tokio::spawn(async move {
                        if let Ok(stream) = acceptor.accept(socket).await {
                            serve(stream, says).await;
                        }
                    })),
                }
            }
        });
        Self { ip, says }
    }

    pub(crate) fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }
}

fn acceptor() -> TlsAcceptor {
    let pair = self_signed(&SelfSigned {
        common_name: "minio".into(),
        dns: vec!["minio".into()],
        ip: vec![],
        validity: Duration::from_secs(3600),
        usage: Usage::Server,
    })
    .unwrap();
    let certificate = ServerCertificate::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from((*certificate.certified_key()).clone())));
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, says: Says) {
    if matches!(says, Says::Nothing) {
        return;
    }
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
        let mut answer = Response::new(Empty::<Bytes>::new());
        if matches!(says, Says::Offline) {
            answer.headers_mut().insert("x-minio-server-status", "offline".parse().unwrap());
        }
        if matches!(says, Says::Unable) {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        // liveness and the cluster's health are other paths, and say nothing about keys
        if request.uri().path() != "/minio/health/ready" {
            *answer.status_mut() = StatusCode::NOT_FOUND;
        }
        Ok::<_, Infallible>(answer)
    });
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}
