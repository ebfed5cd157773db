//! The servers that are compared: how each is set up, started, and ended again.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;

use crate::client::Client;

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// The policy of the client that makes the load; about what MinIO has.
const ALLOW: [&str; 7] = [
    "/v1/status",
    "/v1/key/describe/bench-*",
    "/v1/key/list/*",
    "/v1/key/bulk/decrypt/bench-*",
    "/v1/key/create/bench-*",
    "/v1/key/generate/bench-*",
    "/v1/key/decrypt/bench-*",
];
const DENY: [&str; 1] = ["/v1/key/*/bench-internal*"];

/// Which recipe a server follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Ours: as stateful KES, and with a configuration that turns audit and metrics on.
    Ours,
    /// KES up to v0.22.3: `kes init`, `kes server DIR`.
    Stateful,
    /// KES from v0.23.0 on: `kes server --config`, keys as files.
    Stateless,
}

/// A server that takes part.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// What it is called in the report.
    pub(crate) label: String,
    pub(crate) binary: PathBuf,
    pub(crate) kind: Kind,
}

/// Certificates and identities that all servers share.
pub(crate) struct Identities {
    dir: PathBuf,
    admin: String,
    enclave_admin: String,
    app: String,
}

/// A server with a data directory of its own; what it started is ended when this is dropped.
pub(crate) struct Server {
    pub(crate) program: Program,
    dir: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
    pub(crate) client: Client,
    /// What to decrypt under each of the keys of the cold loads, once they are made; or why they could not be.
    pub(crate) cold: Option<Result<Arc<Vec<Bytes>>, String>>,
}

impl Identities {
    /// Makes them in `dir` with our own binary.
    pub(crate) fn create(ours: &Path, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let new = |name: &str| -> Result<String> {
            let (key, cert) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.crt")));
            run(Command::new(ours)
                .args(["identity", "new", "--ip", "127.0.0.1", "--key"])
                .arg(&key)
                .arg("--cert")
                .arg(&cert)
                .arg(name))?;
            Ok(run(Command::new(ours).args(["identity", "of"]).arg(&cert))?.trim().to_owned())
        };
        new("server")?;
        let (admin, enclave_admin, app) = (new("admin")?, new("enclave-admin")?, new("app")?);
        Ok(Self { dir: dir.into(), admin, enclave_admin, app })
    }

    fn client(&self, address: SocketAddr) -> Result<Client> {
        Client::new(address, &self.dir.join("app.crt"), &self.dir.join("app.key"))
    }
}

impl Server {
    /// Sets `program` up in `dir` with an empty store and starts it.
    pub(crate) async fn create(program: Program, identities: &Identities, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let address = free_address()?;
        let files = configuration(&program, identities, address, &dir);
        for (name, text) in files {
            fs::write(dir.join(name), text)?;
        }
        if program.kind != Kind::Stateless {
            run(command(&program, &dir).args(["init", "--config", "init.yml", "data"]))?;
        }
        let client = identities.client(address)?;
        let mut server = Self { program, dir, address, child: None, client, cold: None };
        server.start().await?;
        Ok(server)
    }

    /// Starts it and waits for its first answer; returns how long that took.
    pub(crate) async fn start(&mut self) -> Result<Duration> {
        let log = |name: &str| File::options().append(true).create(true).open(self.dir.join(name));
        let arguments: &[&str] = match self.program.kind {
            Kind::Ours => &["server", "--config", "server.yml", "data"],
            Kind::Stateful => &["server", "data"],
            Kind::Stateless => &["server", "--config", "server.yml"],
        };
        let began = Instant::now();
        let child = command(&self.program, &self.dir)
            .args(arguments)
            .stdin(Stdio::null())
            // banner and audit log; writing the log is the server's work, keeping it is not measured
            .stdout(Stdio::null())
            .stderr(log("stderr.log")?)
            .spawn()
            .with_context(|| format!("failed to start {}", self.program.binary.display()))?;
        self.child = Some(child);
        while self.client.once("GET", "/version", &Bytes::new()).await.is_err() {
            ensure!(self.is_running(), "{} ended at its start: {}", self.program.label, self.last_words());
            ensure!(
                began.elapsed() < PATIENCE,
                "{} does not answer at {} within {} s: {}",
                self.program.label,
                self.address,
                PATIENCE.as_secs(),
                self.last_words()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(began.elapsed())
    }

    /// What a prefix of names ends with in a listing: the servers agree on `*` only where it stands alone.
    pub(crate) fn list_end(&self) -> &'static str {
        if self.program.kind == Kind::Stateless { "" } else { "*" }
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.as_ref().map(Child::id).with_context(|| format!("{} is not running", self.program.label))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // it may have ended by itself
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Where its keys are.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The last line that it wrote to standard error.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(self.dir.join("stderr.log")).unwrap_or_default();
        let fatal =
            text.lines().rev().find(|line| line.starts_with("fatal error") || line.starts_with("panic"));
        fatal.or_else(|| text.lines().next_back()).unwrap_or("it said nothing").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program in its directory, with the unseal key and nothing else that a person's shell might say of servers.
fn command(program: &Program, dir: &Path) -> Command {
    let mut command = Command::new(&program.binary);
    command.current_dir(dir);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("KES_") || name.starts_with("MINIO_")) {
            command.env_remove(name);
        }
    }
    // worth nothing: the store it seals is deleted at the end
    command.env("KES_UNSEAL_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    command
}

fn configuration(
    program: &Program,
    identities: &Identities,
    address: SocketAddr,
    dir: &Path,
) -> Vec<(&'static str, String)> {
    let Identities { dir: certificates, admin, enclave_admin, app } = identities;
    let list = |patterns: &[&str], indent: &str| {
        patterns.iter().map(|pattern| format!("{indent}- {pattern}\n")).collect::<String>()
    };
    let policy = |indent: &str| {
        format!(
            "{indent}bench:\n{indent}  allow:\n{}{indent}  deny:\n{}{indent}  identities:\n{indent}  - {app}\n",
            list(&ALLOW, &format!("{indent}  ")),
            list(&DENY, &format!("{indent}  "))
        )
    };
    let tls = format!("tls:\n  key: {0}/server.key\n  cert: {0}/server.crt\n", certificates.display());
    let address = format!("address: {address}\n");
    let init = format!(
        "version: v1\n{address}{tls}system:\n  admin:\n    identity: {admin}\nunseal:\n  environment:\n    name: KES_UNSEAL_KEY\n\
         enclave:\n  default:\n    admin:\n      identity: {enclave_admin}\n    policy:\n{}",
        policy("      ")
    );
    match program.kind {
        Kind::Ours => vec![
            ("init.yml", init),
            ("server.yml", format!("version: v1\n{address}health: 127.0.0.1:0\nlog:\n  audit: on\n")),
        ],
        Kind::Stateful => vec![("init.yml", init)],
        Kind::Stateless => vec![(
            "server.yml",
            format!(
                "version: v1\n{address}{tls}admin:\n  identity: {admin}\npolicy:\n{}log:\n  error: on\n  audit: on\n\
                 keystore:\n  fs:\n    path: {}\n",
                policy("  "),
                dir.join("data").display()
            ),
        )],
    }
}

/// What `command` printed, if it succeeded.
fn run(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("failed to run {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
