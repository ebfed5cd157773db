//! HTTP/1.1 by hand over mutual TLS, so that a request goes out exactly as it is written, however wrong.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

use crate::stage::Who;

/// What came back.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Response {
    /// 0 when the connection ended without an answer.
    pub(crate) status: u16,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

type Connection = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// A client of one server, with one connection for each caller.
pub(crate) struct Client {
    address: SocketAddr,
    configs: BTreeMap<Who, Arc<ClientConfig>>,
    connections: BTreeMap<Who, Connection>,
}

impl Client {
    /// A client with the key pairs in `stage`.
    pub(crate) fn new(stage: &Path, address: SocketAddr) -> Self {
        let chain = |name: &str| {
            let path = stage.join(format!("{name}.crt"));
            CertificateDer::pem_file_iter(path).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(chain("server"));
        let builder = || {
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots.clone())
        };
        let mut configs: BTreeMap<_, _> = Who::KNOWN
            .into_iter()
            .map(|who| {
                let key = PrivateKeyDer::from_pem_file(stage.join(format!("{}.key", who.name()))).unwrap();
                (who, Arc::new(builder().with_client_auth_cert(chain(&who.name()), key).unwrap()))
            })
            .collect();
        configs.insert(Who::Nobody, Arc::new(builder().with_no_client_auth()));
        Self { address, configs, connections: BTreeMap::new() }
    }

    fn connect(&self, who: Who) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let name = ServerName::from(self.address.ip());
        let tls = ClientConnection::new(Arc::clone(&self.configs[&who]), name).map_err(io::Error::other)?;
        Ok(BufReader::new(StreamOwned::new(tls, stream)))
    }

    /// Sends `head` and `body` as `who`, on the connection that is open or else on a new one.
    pub(crate) fn send(&mut self, who: Who, head: &str, body: &[u8]) -> Response {
        // a server may have closed a connection that it kept; an answer is asked for at most twice, a change only once
        let kept = self.connections.remove(&who).filter(still_open);
        let Ok(mut connection) = kept.map_or_else(|| self.connect(who), Ok) else {
            return Response::default();
        };
        let Ok((response, keep)) = exchange(&mut connection, head, body) else { return Response::default() };
        if keep {
            self.connections.insert(who, connection);
        }
        response
    }
}

/// Whether the server has not said anything since the last answer, not even that it closes.
fn still_open(connection: &Connection) -> bool {
    let stream = &connection.get_ref().sock;
    let quiet = stream.set_nonblocking(true).is_ok()
        && matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).is_ok() && quiet
}

fn exchange(connection: &mut Connection, head: &str, body: &[u8]) -> io::Result<(Response, bool)> {
    let tls = connection.get_mut();
    tls.write_all(head.as_bytes())?;
    // a server may answer and close before it has read a body that is too large
    let sent = tls.write_all(body).and_then(|()| tls.flush());
    let (response, keep) = read(connection, head.starts_with("HEAD "))?;
    Ok((response, keep && sent.is_ok()))
}

fn read(connection: &mut impl BufRead, bodyless: bool) -> io::Result<(Response, bool)> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let status_line = line(connection)?;
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(bad)?;
    let mut headers = BTreeMap::new();
    loop {
        let header = line(connection)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(bad)?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    let mut keep = headers.get("connection").is_none_or(|value| value != "close");
    if bodyless {
    } else if headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
        loop {
            let size = usize::from_str_radix(&line(connection)?, 16).map_err(io::Error::other)?;
            let start = body.len();
            body.resize(start + size, 0);
            connection.read_exact(&mut body[start..])?;
            line(connection)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = headers.get("content-length") {
        body.resize(length.parse().map_err(io::Error::other)?, 0);
        connection.read_exact(&mut body)?;
    } else {
        connection.read_to_end(&mut body)?;
        keep = false;
    }
    Ok((Response { status, headers, body }, keep))
}

fn line(connection: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if connection.by_ref().take(1 << 16).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
