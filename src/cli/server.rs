//! `kes server`: opens the data directory, takes the ports, and serves until it is told to stop.

use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use clap::ValueHint;

use super::{
    addresses,
    failure::Failure,
    server_banner::Banner,
    server_config::{self, Flags, Resolved},
    server_dev, server_stateless,
    settings::{self, Settings},
    terminal::Format,
};
use crate::{
    api::message::Generation,
    audit::{self, AuditLog, Sink, Stdout},
    crypto::{self, MemoryLock},
    pki::Password,
    server,
    service::{Service, Setup},
    store::{Directory, DirectoryError},
    telemetry,
    world::System,
};

/// Start a server
#[derive(clap::Args)]
#[command(after_help = "\
SIGTERM and SIGINT stop the server cleanly, within 15 s: requests in flight are answered, everything is on disk. SIGHUP \
reads the certificate, its key and the configuration file again at once: without DIR its policies, identities and keys, \
with and without it 'api', 'tls.auth', 'tls.ca' and 'tls.proxy'. What else has changed in the file is logged and needs a \
restart. A changed certificate is noticed anyway, within 10 s.

With DIR and without a configuration file there is no port for probes and metrics ('health: IP:PORT' in the file), and the \
audit log is not kept: 'log: {audit: on}' writes it to standard output, 'log: {audit_file: FILE}' to a file, and 'kes log' \
shows it as it happens.

The log goes to standard error; KES_LOG sets its level [default: info].")]
pub(super) struct Server {
    /// Address of the key API [default: what 'kes init' was told, else 0.0.0.0:7373]
    #[arg(long, value_name = "IP:PORT", value_parser = settings::address)]
    addr: Option<SocketAddr>,
    /// Configuration file; what it says wins over what 'kes init' was told. Without DIR it is one of stateless KES, with
    /// the keys at 'keystore.fs.path'
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// PEM file with the private key for TLS [default: what 'kes init' was told]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key: Option<PathBuf>,
    /// PEM file with the certificate for TLS, with a DNS name or an IP address in it [default: what 'kes init' was told]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    cert: Option<PathBuf>,
    /// Whether chains of client certificates are verified, by the machine's authorities and 'tls.ca' [default: off]
    #[arg(long, value_enum, value_name = "on|off", hide_possible_values = true)]
    auth: Option<Auth>,
    /// Start a server for a try-out: everything is made on the spot, an API key is printed, and all is gone at the end
    #[arg(long)]
    dev: bool,
    /// Data directory, as 'kes init' makes it
    #[arg(value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Auth {
    On,
    Off,
}

/// What the operating system tells a server, listened for from the start.
pub(super) struct Signals {
    shutdown: Pin<Box<dyn Future<Output = ()> + Send>>,
    reload: server::Reload,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = || Ok(Self { shutdown: server::termination()?, reload: server::Reload::on_hangup()? });
        listen().map_err(|error: std::io::Error| {
            Failure::new(
                format!("failed to listen for signals: {error}"),
                "Raise the limit of open files ('ulimit -n') and try again.",
            )
        })
    }
}

impl Server {
    pub(super) fn run(self) -> Result<String, Failure> {
        // first thing in the process: before a secret is read and before threads exist
        let memory = crypto::harden();
        super::multi_threaded()?.block_on(self.serve(memory))?;
        Ok(String::new())
    }

    async fn serve(self, memory: MemoryLock) -> Result<(), Failure> {
        let Self { addr, config, key, cert, auth, dev, dir, format } = self;
        if dev {
            refuse_with_dev(&[
                ("--auth on", (auth == Some(Auth::On)).then_some(Path::new(""))),
                ("--config", config.as_deref()),
                ("--key", key.as_deref()),
                ("--cert", cert.as_deref()),
                ("DIR", dir.as_deref()),
            ])?;
            telemetry::init().map_err(|error| Failure::sentence(&error.to_string()))?;
            return server_dev::serve(addr, &format, memory, Signals::listen()?).await;
        }
        telemetry::init().map_err(|error| Failure::sentence(&error.to_string()))?;
        let signals = Signals::listen()?;
        let flags = Flags { verify: auth.map(|auth| auth == Auth::On), address: addr, key, cert };
        let dir = match (dir, &config) {
            (Some(dir), _) => dir,
            (None, Some(config)) => {
                return server_stateless::serve(config.clone(), flags, &format, memory, signals).await;
            }
            (None, None) => return Err(no_directory()),
        };
        let file = config.as_deref().map(|path| read(path, server_config::parse)).transpose()?;
        let kept = kept(&dir, file.is_some())?;
        let resolved = server_config::resolve(flags.clone(), file, kept)?;
        let (access, verified) = (resolved.wanted.access()?, resolved.wanted.verify);
        let again = config.map(|config| read_again(config, dir.clone(), flags, resolved.clone()));
        let Resolved {
            address,
            health,
            key,
            certificate,
            unseal,
            await_bootstrap,
            audit,
            audit_file,
            generation,
            layout,
            cached_keys,
            password,
            wanted: _,
        } = resolved;
        let (seal, ..) = unseal.provider()?;
        let previous_seal = match &unseal.previous {
            Some(previous) => Some(previous.provider()?.0),
            None => None,
        };
        let service = Service::open(Setup {
            dir,
            seal,
            previous_seal,
            await_bootstrap,
            layout,
            cached_keys,
            clock: Arc::new(System),
            random: Arc::new(System),
        })
        .await?;
        if !audit && audit_file.is_none() {
            tracing::warn!(
                "the audit log is not kept: 'log.audit' or 'log.audit_file' of --config keep it, 'kes log' shows it"
            );
        }
        if health.is_none() {
            tracing::info!("there is no port for probes and metrics: 'health' of --config opens it");
        }
        let audit = audit_log(audit, audit_file.as_deref())?;
        let running = Running {
            address,
            health,
            certificate,
            key,
            password,
            service,
            audit,
            generation,
            access,
            again,
            memory,
            signals,
        };
        running
            .serve(|address, locked| {
                let endpoints = addresses::endpoints(address);
                Banner {
                    format: &format,
                    endpoints: &endpoints,
                    locked,
                    verified,
                    stateless: None,
                    development: None,
                }
                .show()
            })
            .await
    }
}

/// A development server makes what these would name.
fn refuse_with_dev(given: &[(&str, Option<&Path>)]) -> Result<(), Failure> {
    let Some((name, _)) = given.iter().find(|(_, value)| value.is_some()) else { return Ok(()) };
    Err(Failure::usage(
        format!(
            "'--dev' and {name} exclude each other: a development server makes its own keys and certificate"
        ),
        format!(
            "Leave out {name}, or leave out '--dev' to start a server that keeps its keys: 'kes server DIR'."
        ),
    ))
}

/// A server whose service is open: the rest is the same for all.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) health: Option<SocketAddr>,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) password: Option<Password>,
    pub(super) service: Service,
    pub(super) audit: AuditLog,
    pub(super) generation: Generation,
    pub(super) access: server::Access,
    /// Reads the configuration again, when somebody asks.
    pub(super) again: Option<server::ReadAgain>,
    pub(super) memory: MemoryLock,
    pub(super) signals: Signals,
}

impl Running {
    /// Takes the ports, prints what `banner` makes of the address and the state of the memory lock, and serves.
    pub(super) async fn serve(self, banner: impl FnOnce(SocketAddr, bool) -> String) -> Result<(), Failure> {
        let Self {
            address,
            health,
            certificate,
            key,
            password,
            service,
            audit,
            generation,
            access,
            again,
            memory,
            signals,
        } = self;
        let Signals { shutdown, reload } = signals;
        let reload = match again {
            Some(again) => reload.with(again),
            None => reload,
        };
        let options = server::Options {
            address,
            health,
            certificate,
            key,
            password,
            service: service.clone(),
            audit,
            metrics: server::metrics(),
            memory_locked: memory.locked,
            generation,
            access,
            shutdown,
        };
        let server = match server::Server::bind(options).await {
            Ok(server) => server.with_reload(reload),
            Err(error) => {
                service.close().await;
                return Err(error.into());
            }
        };
        if let Some(reason) = &memory.reason {
            tracing::warn!("{reason}");
        }
        let banner = banner(server.address().unwrap_or(address), memory.locked);
        let mut out = std::io::stdout().lock();
        // nobody has to read it
        let _ = out.write_all(banner.as_bytes()).and_then(|()| out.flush());
        drop(out);
        server.serve().await;
        Ok(())
    }
}

/// Reads the file of a server with a data directory again: who gets in is taken, what needs a restart is told.
fn read_again(file: PathBuf, dir: PathBuf, flags: Flags, running: Resolved) -> server::ReadAgain {
    let read_again = move || {
        let config = read(&file, server_config::parse)?;
        let kept = kept(&dir, true)?;
        let now = server_config::resolve(flags.clone(), Some(config), kept)?;
        let access = now.wanted.access()?;
        tell_what_waits(&now.differs_from(&running));
        Ok(access)
    };
    Box::new(move || {
        let access = read_again().map_err(|failure: Failure| failure.to_string());
        Box::pin(std::future::ready(access))
    })
}

/// Settings that changed in the file and not in the server.
pub(super) fn tell_what_waits(fields: &[&str]) {
    if !fields.is_empty() {
        tracing::warn!(
            settings = fields.join(", "),
            "these settings changed and need a restart; until then the old ones hold"
        );
    }
}

fn no_directory() -> Failure {
    Failure::new(
        "no data directory specified",
        "Name it: 'kes server DIR'; 'kes init --config init.yml DIR' makes one. For a try-out: 'kes server --dev'.",
    )
}

pub(super) fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, Failure>) -> Result<T, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::read("configuration", path, &error))?;
    parse(&text).map_err(|failure| failure.about(format!("'{}'", path.display())))
}

fn audit_log(stdout: bool, file: Option<&Path>) -> Result<AuditLog, Failure> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if stdout {
        sinks.push(Box::new(Stdout));
    }
    if let Some(file) = file {
        let file = audit::File::open(file).map_err(|error| {
            Failure::new(error.to_string(), "Correct 'log.audit_file', or make its directory writable.")
        })?;
        sinks.push(Box::new(file));
    }
    if sinks.is_empty() {
        return Ok(AuditLog::none());
    }
    AuditLog::new(audit::All::new(sinks))
        .map_err(|error| Failure::new(format!("failed to start the audit log: {error}"), ""))
}

/// What `kes init` wrote for us; nothing when the operator made the directory, or is about to: then a file says all.
fn kept(dir: &Path, has_file: bool) -> Result<Settings, Failure> {
    let settings = match Directory::read_manifest(dir) {
        Ok(manifest) => manifest.settings,
        Err(DirectoryError::NotInitialised(_)) if has_file => return Ok(Settings::default()),
        // what is wrong with the directory is the better answer than its missing settings
        Err(error) => return Err(error.into()),
    };
    if settings.is_null() {
        return Ok(Settings::default());
    }
    serde_json::from_value(settings).map_err(|error| {
        Failure::new(
            format!("failed to read the settings of '{}': {error}", dir.display()),
            "Give the settings with '--config FILE'; keys are not affected.",
        )
    })
}
