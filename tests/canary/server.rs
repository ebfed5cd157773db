//! The real server as a child process that writes everything it can write, and a client without a library.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kes::{
    api::EnclaveName,
    pki::{self, PemPair},
    service::bootstrap,
};
use rustix::process::{Pid, Signal, kill_process};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const UNSEAL: &str = "dzbJd+OH71qeASPi7FUrNu7LKHhLl06Ylpu0V8gfBPg=";
const DAY: Duration = Duration::from_secs(86_400);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    health: SocketAddr,
    admin: Arc<ClientConfig>,
    system: Arc<ClientConfig>,
    dir: tempfile::TempDir,
}

/// What a server that has ended left behind.
pub(crate) struct Stopped {
    pub(crate) log: String,
    pub(crate) stdout: String,
    pub(crate) audit_file: String,
    pub(crate) data: Data,
}

/// The data directory.
pub(crate) struct Data(tempfile::TempDir);

/// An answer without end.
pub(crate) struct Stream(TlsStream<TcpStream>);

impl Server {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (address, health) = (free_address(), free_address());
        let server = pki::self_signed(&pki::SelfSigned {
            common_name: "server".into(),
            dns: vec![],
            ip: vec![address.ip()],
            validity: DAY,
            usage: pki::Usage::Server,
        })
        .unwrap();
        let (admin, system) = (client(), client());
        let write = |name: &str, text: &[u8]| fs::write(dir.path().join(name), text).unwrap();
        write("server.crt", server.certificate.as_bytes());
        write("server.key", server.key.as_bytes());
        write("unseal", UNSEAL.as_bytes());
        let config = format!(
            "address: {address}\nhealth: {health}\ntls: {{cert: server.crt, key: server.key}}\n\
             unseal: {{environment: {{name: KES_CANARY_UNSEAL_KEY}}}}\n\
             log: {{audit: 'on', audit_file: audit.log}}\n"
        );
        write("config.yml", config.as_bytes());
        let identity = |pair: &PemPair| pki::identity_of_pem(pair.certificate.as_bytes()).unwrap();
        let plan = bootstrap::Plan {
            cluster_id: None,
            system_admin: identity(&system),
            settings: serde_json::Value::Null,
            enclaves: vec![bootstrap::EnclavePlan {
                name: EnclaveName::default_enclave(),
                admin: identity(&admin),
                policies: vec![],
            }],
        };
        let seal = Arc::new(kes::crypto::seal::File::new(dir.path().join("unseal")));
        bootstrap::init(&dir.path().join("data"), seal, plan).await.unwrap();
        let create = |name: &str| File::create(dir.path().join(name)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_kes"))
            .args(["server", "--config", "config.yml", "data"])
            .current_dir(dir.path())
            .env("KES_CANARY_UNSEAL_KEY", UNSEAL)
            .env("KES_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(create("stdout"))
            .stderr(create("stderr"))
            .spawn()
            .unwrap();
        let trust = |who: &PemPair| config_of(&server.certificate, who);
        let (admin, system) = (trust(&admin), trust(&system));
        let server = Self { child, address, health, admin, system, dir };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            assert!(Instant::now() < deadline, "the server does not start:\n{}", server.read("stderr"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server
    }

    pub(crate) fn unseal_key(&self) -> Vec<u8> {
        STANDARD.decode(UNSEAL).unwrap()
    }

    /// Status and body of an answer to the enclave's admin.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        ask(self.address, &self.admin, method, path, body).await
    }

    pub(crate) async fn must(&self, method: &str, path: &str, body: &str) -> String {
        let (status, answer) = self.ask(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    pub(crate) async fn must_as_system(&self, method: &str, path: &str, body: &str) -> String {
        let (status, answer) = ask(self.address, &self.system, method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// Begins to follow a log.
    pub(crate) async fn follow(&self, path: &str) -> Stream {
        let mut stream = connect(self.address, &self.admin).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: canary\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(head, *b"HTTP/1.1 200 OK");
        Stream(stream)
    }

    pub(crate) async fn health(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.health).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: canary\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// SIGTERM, and what is left.
    pub(crate) async fn stop(mut self) -> Stopped {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let ended = tokio::task::spawn_blocking(move || {
            let ended = self.child.wait().unwrap();
            (self, ended)
        });
        let (server, ended) = ended.await.unwrap();
        assert!(ended.success(), "the server ended with {ended}:\n{}", server.read("stderr"));
        let (log, stdout, audit_file) =
            (server.read("stderr"), server.read("stdout"), server.read("audit.log"));
        Stopped { log, stdout, audit_file, data: Data(server.dir) }
    }
}

impl Data {
    /// Path and content of every file.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let (mut files, mut folders) = (Vec::new(), vec![self.0.path().join("data")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path: PathBuf = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push((path.display().to_string(), fs::read(&path).unwrap()));
                }
            }
        }
        files
    }

    pub(crate) fn everything(&self) -> Vec<u8> {
        self.files().into_iter().flat_map(|(_, content)| content).collect()
    }
}

impl Stream {
    /// Everything that came, when the server has ended it.
    pub(crate) async fn into_rest(mut self) -> Vec<u8> {
        let mut all = Vec::new();
        // the last lines may be cut off by the end of the process
        let _ = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut all)).await.unwrap();
        all
    }
}

fn client() -> PemPair {
    pki::self_signed_client("canary", DAY).unwrap()
}

fn config_of(certificate: &str, who: &PemPair) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(who.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(who.key.as_bytes()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

async fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let socket = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::clone(config)).connect(address.ip().into(), socket).await.unwrap()
}

async fn ask(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    let mut stream = connect(address, config).await;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: canary\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
