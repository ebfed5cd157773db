//! The stage: one directory with everybody's key pairs, and the servers that are started over them on loopback.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The unseal key of every server here.
pub(crate) const UNSEAL: &str = "dzbJd+OH71qeASPi7FUrNu7LKHhLl06Ylpu0V8gfBPg=";

/// Who calls.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Who {
    /// The system admin: enclaves and seal, nothing inside an enclave.
    System,
    /// The admin of the enclave `default`.
    Admin,
    /// The admin of the enclave `other`, whom `default` does not know.
    Other,
    /// Allowed everything whose name begins with `app`.
    App,
    /// Allowed the same, and denied the same again.
    Denied,
    /// Assigned to a policy that does not exist.
    Dangling,
    /// Assigned to a policy of unusual patterns.
    Glob,
    /// Like App, with a certificate that expired long ago.
    Expired,
    /// Known to nobody.
    Unknown,
    /// Without a certificate.
    Nobody,
}

impl Who {
    /// Everybody with a key pair.
    pub(crate) const KNOWN: [Self; 9] = [
        Self::System,
        Self::Admin,
        Self::Other,
        Self::App,
        Self::Denied,
        Self::Dangling,
        Self::Glob,
        Self::Expired,
        Self::Unknown,
    ];

    /// The name of the files and, in lower case, in ids and texts.
    pub(crate) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// A directory with key pairs, `init.yml` for stateful servers and `config.yml` for stateless ones.
pub(crate) struct Stage {
    dir: tempfile::TempDir,
    /// Identity to name.
    pub(crate) identities: BTreeMap<String, String>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut stage = Self { dir, identities: BTreeMap::new() };
        stage.ours(&[
            "identity",
            "new",
            "--ip",
            "127.0.0.1",
            "--key",
            "server.key",
            "--cert",
            "server.crt",
            "server",
        ]);
        for who in Who::KNOWN {
            let (name, expiry) = (who.name(), if who == Who::Expired { "1s" } else { "24h" });
            let (key, cert) = (format!("{name}.key"), format!("{name}.crt"));
            stage.ours(&["identity", "new", "--expiry", expiry, "--key", &key, "--cert", &cert, &name]);
            let identity = stage.ours(&["identity", "of", &cert]);
            stage.identities.insert(String::from_utf8(identity.stdout).unwrap().trim().to_owned(), name);
        }
        fs::write(stage.path().join("init.yml"), stage.fill(INIT)).unwrap();
        fs::write(stage.path().join("config.yml"), stage.fill(CONFIG)).unwrap();
        fs::write(stage.path().join("later.yml"), LATER).unwrap();
        stage
    }

    /// `template` with identities and policies in their places.
    fn fill(&self, template: &str) -> String {
        let fill =
            |text: String, (identity, name): (&String, &String)| text.replace(&format!("<{name}>"), identity);
        self.identities.iter().fold(template.replace("<policies>", POLICIES), fill)
    }

    /// Starts `program` in stateless mode with a configuration of its own, on fresh data.
    pub(crate) fn start_stateless(&self, program: Program, template: &str) -> Running {
        let binary = program.path();
        for attempt in 0..5 {
            let name = format!("stateless-{program:?}-{attempt}");
            let keystore = tempfile::tempdir_in(self.path()).unwrap().keep();
            let config = self.fill(template).replace("<keystore>", &keystore.display().to_string());
            let file = self.path().join(format!("{name}.yml"));
            fs::write(&file, config).unwrap();
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let log = fs::File::create(self.path().join(format!("{name}.log"))).unwrap();
            let mut command = self.command(&binary);
            command.args(["server", "--addr", &address.to_string(), "--config"]).arg(&file);
            if program == Program::Old {
                // where it is on by default
                command.args(["--auth", "off"]);
            }
            let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
            let mut running = Running { address, child };
            if running.answers() {
                return running;
            }
        }
        panic!("{program:?} does not start: {}", self.path().display());
    }

    /// What our server says to a configuration that it refuses.
    pub(crate) fn refusal_of_stateless(&self, template: &str) -> String {
        let file = self.path().join("refused.yml");
        fs::write(&file, self.fill(template).replace("<keystore>", "nowhere")).unwrap();
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_kes")));
        let output = command.args(["server", "--config"]).arg(&file).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs our binary to its end.
    pub(crate) fn ours(&self, args: &[&str]) -> Output {
        self.run(Path::new(env!("CARGO_BIN_EXE_kes")), args)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_clear().env("KES_UNSEAL_KEY", UNSEAL).stdin(Stdio::null());
        command
    }

    fn run(&self, program: &Path, args: &[&str]) -> Output {
        let output = self.command(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program:?} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Starts `server`, and waits until it answers. Its data are fresh.
    pub(crate) fn start(&self, server: Server) -> Running {
        let program = server.program();
        if server != Server::New {
            self.run(&program, &["init", "--config", "init.yml", server.name()]);
        }
        // a free port may be taken by another process before the server has it
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let log = fs::File::create(self.path().join(format!("{}.log", server.name()))).unwrap();
            let mut command = self.command(&program);
            command.args(["server", "--addr", &address.to_string()]);
            match server {
                Server::New => command.args(["--config", "config.yml"]),
                Server::OursLater => command.args(["--config", "later.yml", server.name()]),
                Server::Old | Server::Ours => command.arg(server.name()),
            };
            let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
            let mut running = Running { address, child };
            if running.answers() {
                return running;
            }
        }
        panic!("{} does not start: {}", server.name(), self.log(server));
    }

    pub(crate) fn log(&self, server: Server) -> String {
        fs::read_to_string(self.path().join(format!("{}.log", server.name()))).unwrap_or_default()
    }
}

/// A program that serves the key API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Server {
    /// KES v0.22.3 in stateful mode.
    Old,
    /// KES v0.23.0, which is stateless.
    New,
    Ours,
    /// Ours with the shapes of later KES.
    OursLater,
}

impl Server {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Old => "v0.22.3",
            Self::New => "v0.23.0",
            Self::Ours | Self::OursLater => "ours",
        }
    }

    fn program(self) -> PathBuf {
        match self {
            Self::Old => peer("kes"),
            Self::New => peer("kes-0.23"),
            Self::Ours | Self::OursLater => env!("CARGO_BIN_EXE_kes").into(),
        }
    }
}

/// A program whose stateless mode is started with a configuration of a test's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Program {
    /// KES v0.22.3.
    Old,
    /// KES v0.23.0.
    New,
    Ours,
}

impl Program {
    fn path(self) -> PathBuf {
        match self {
            Self::Old => peer("kes"),
            Self::New => peer("kes-0.23"),
            Self::Ours => env!("CARGO_BIN_EXE_kes").into(),
        }
    }
}

/// Where a peer that `make peers` built is.
pub(crate) fn peer(name: &str) -> PathBuf {
    let built = std::env::var_os("PEERS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"), PathBuf::from);
    built.join(name)
}

/// A server that ends with the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Running {
    /// Waits until it accepts connections; false when it ended instead.
    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(self.address).is_err() {
            if self.child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Patterns that mean the same by `path.Match` and as prefixes, except those of `glob`.
const POLICIES: &str = "
      app:
        allow: &routes
        - /v1/key/create/app*
        - /v1/key/import/app*
        - /v1/key/describe/app*
        - /v1/key/delete/app*
        - /v1/key/generate/app*
        - /v1/key/encrypt/app*
        - /v1/key/decrypt/app*
        - /v1/key/bulk/decrypt/app*
        - /v1/key/hmac/app*
        - /v1/key/list/app*
        - /v1/secret/create/app*
        - /v1/secret/describe/app*
        - /v1/secret/read/app*
        - /v1/secret/delete/app*
        - /v1/secret/list/app*
        - /v1/policy/describe/app*
        - /v1/policy/assign/app*
        - /v1/policy/read/app*
        - /v1/policy/write/app*
        - /v1/policy/list/app*
        - /v1/policy/delete/app*
        - /v1/identity/describe/app*
        - /v1/identity/list/app*
        - /v1/identity/delete/app*
        - /v1/enclave/create/app*
        - /v1/enclave/describe/app*
        - /v1/enclave/delete/app*
        - /v1/enclave/list/app*
        - /v1/status
        - /v1/ready
        - /v1/metrics
        - /v1/api
        - /v1/sys/seal
        identities: [<app>, <expired>]
      denied:
        allow: *routes
        deny: *routes
        identities: [<denied>]
      glob:
        allow:
        - /v1/key/describe/?
        - /v1/key/describe/[ab]x
        - /v1/key/describe/*-end
        - /v1/*/describe/any
        - /v1/key/describe/back\\*slash
        - /v1/secret*
        - /v1/status*
        - v1/metrics
        deny:
        - /v1/key/describe/[^a-y]
        - /v1/key/describe/c
        - /v1/key/describe/deny*
        identities: [<glob>]
";

const INIT: &str = "
version: v1
address: 127.0.0.1:7373
system: {admin: {identity: <system>}}
tls: {key: server.key, cert: server.crt}
unseal: {environment: {name: KES_UNSEAL_KEY}}
enclave:
  default:
    admin: {identity: <admin>}
    policy: <policies>
  other:
    admin: {identity: <other>}
";

const CONFIG: &str = "
version: v1
admin: {identity: <admin>}
tls: {key: server.key, cert: server.crt}
policy: <policies>
keystore: {fs: {path: v0.23.0}}
log: {audit: off}
";

const LATER: &str = "
tls: {key: server.key, cert: server.crt}
compatibility: v2025
";
