//! The real server process on a directory of its own, and clients of it.

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use kes::{
    api::{EnclaveName, Identity},
    client::{Client, Config, Trust},
    pki::{self, ClientIdentity, PemPair},
    service::bootstrap,
};
use rustix::process::{Pid, Signal, kill_process};

const UNSEAL: &str = "dzbJd+OH71qeASPi7FUrNu7LKHhLl06Ylpu0V8gfBPg=";
const DAY: Duration = Duration::from_secs(86_400);

/// A place where one server lives, dies and lives again.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    port: u16,
    admin: PemPair,
    system: PemPair,
}

impl Place {
    /// A new cluster with the enclave `default`. `folder` holds everything.
    pub(crate) async fn new(folder: tempfile::TempDir) -> Self {
        let (port, health) = (free_port(), free_port());
        let admin = pki::self_signed_client("admin", DAY).unwrap();
        let system = pki::self_signed_client("system", DAY).unwrap();
        let server = pki::self_signed(&pki::SelfSigned {
            common_name: "server".into(),
            dns: vec![],
            ip: vec!["127.0.0.1".parse().unwrap()],
            validity: DAY,
            usage: pki::Usage::Server,
        })
        .unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("server.crt"), &server.certificate).unwrap();
        std::fs::write(at("server.key"), server.key.as_bytes()).unwrap();
        std::fs::write(at("unseal"), UNSEAL).unwrap();
        let config = format!(
            "address: 127.0.0.1:{port}\nhealth: 127.0.0.1:{health}\n\
             tls: {{cert: server.crt, key: server.key}}\n\
             unseal: {{environment: {{name: KES_DURABILITY_UNSEAL_KEY}}}}\n"
        );
        std::fs::write(at("config.yml"), config).unwrap();
        let place = Self { folder, port, admin, system };
        let plan = bootstrap::Plan {
            cluster_id: None,
            system_admin: place.identity_of(&place.system),
            settings: serde_json::Value::Null,
            enclaves: vec![bootstrap::EnclavePlan {
                name: EnclaveName::default_enclave(),
                admin: place.admin_identity(),
                policies: vec![],
            }],
        };
        let seal = Arc::new(kes::crypto::seal::File::new(place.folder.path().join("unseal")));
        bootstrap::init(&place.data(), seal, plan).await.unwrap();
        place
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What the server wrote to its standard error in all its lives.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    fn identity_of(&self, pair: &PemPair) -> Identity {
        pki::identity_of_pem(pair.certificate.as_bytes()).unwrap()
    }

    /// Who administers the enclaves.
    pub(crate) fn admin_identity(&self) -> Identity {
        self.identity_of(&self.admin)
    }

    /// The admin's client in `enclave`.
    pub(crate) fn admin(&self, enclave: Option<EnclaveName>) -> Client {
        self.client(&self.admin, enclave)
    }

    /// The system admin's client.
    pub(crate) fn system(&self) -> Client {
        self.client(&self.system, None)
    }

    fn client(&self, identity: &PemPair, enclave: Option<EnclaveName>) -> Client {
        let (certificate, key) = (identity.certificate.as_bytes(), identity.key.as_bytes());
        Client::new(Config {
            endpoint: format!("https://127.0.0.1:{}", self.port),
            connect_to: Some(SocketAddr::from(([127, 0, 0, 1], self.port))),
            identity: ClientIdentity::from_pem(certificate, key).unwrap(),
            trust: Trust::Insecure,
            enclave,
            timeout: Duration::from_secs(30),
        })
        .unwrap()
    }

    /// Starts the server; it may not be ready yet.
    pub(crate) fn start(&self) -> Server {
        self.spawn(Command::new(env!("CARGO_BIN_EXE_kes")))
    }

    /// As `start`, as a user who need not be able to reach where this was built.
    pub(crate) fn start_as(&self, user: u32) -> Server {
        let program = self.folder.path().join("kes");
        std::fs::copy(env!("CARGO_BIN_EXE_kes"), &program).unwrap();
        chown_all(self.folder.path(), user);
        let mut command = Command::new(program);
        command.uid(user);
        self.spawn(command)
    }

    fn spawn(&self, mut command: Command) -> Server {
        let path: &Path = self.folder.path();
        let log = std::fs::File::options().create(true).append(true).open(path.join("server.log")).unwrap();
        let child = command
            .args(["server", "--config", "config.yml", "data"])
            .current_dir(path)
            .env("KES_DURABILITY_UNSEAL_KEY", UNSEAL)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Server { child }
    }

    /// Waits until the port is open, which is when everything that was acknowledged has been applied.
    pub(crate) async fn wait_until_ready(&self, server: &mut Server) {
        if let Err(status) = self.try_until_ready(server).await {
            panic!("the server ended with {status} instead of coming back\n{}", self.log());
        }
    }

    /// As [`Self::wait_until_ready`]; gives the status of a server that ended instead.
    pub(crate) async fn try_until_ready(&self, server: &mut Server) -> Result<(), ExitStatus> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if let Some(status) = server.child.try_wait().unwrap() {
                return Err(status);
            }
            assert!(Instant::now() < deadline, "the server does not come back\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

/// A running server process.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits until it is gone.
    pub(crate) async fn terminate(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let ended = tokio::task::spawn_blocking(move || self.child.wait()).await.unwrap().unwrap();
        assert!(ended.success(), "the server ended with {ended} after SIGTERM");
    }
}

/// Copies a folder with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn chown_all(path: &Path, user: u32) {
    std::os::unix::fs::chown(path, Some(user), None).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            chown_all(&entry.unwrap().path(), user);
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
