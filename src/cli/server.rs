//! `kes server`: opens the data directory, takes the ports, and serves until it is told to stop.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    failure::Failure,
    server_config::{self, Flags, Resolved, ServerConfig},
    settings::{self, Settings},
    terminal::Color,
};
use crate::{
    audit::{AuditLog, Stdout},
    crypto::{self, MemoryLock},
    server,
    service::{Service, Setup},
    store::Directory,
    telemetry,
    world::System,
};

/// Start a server
#[derive(clap::Args)]
pub(super) struct Server {
    /// Address of the key API
    #[arg(long, value_name = "IP:PORT", value_parser = settings::address)]
    addr: Option<SocketAddr>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// PEM file with the private key for TLS
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// PEM file with the certificate for TLS
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Whether chains of client certificates are verified; only 'off' is supported
    #[arg(long, value_enum, value_name = "on|off")]
    auth: Option<Auth>,
    /// Data directory, as 'kes init' makes it
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Auth {
    On,
    Off,
}

impl Server {
    pub(super) fn run(self) -> Result<String, Failure> {
        // first thing in the process: before a secret is read and before threads exist
        let memory = crypto::harden();
        super::multi_threaded()?.block_on(self.serve(memory))?;
        Ok(String::new())
    }

    async fn serve(self, memory: MemoryLock) -> Result<(), Failure> {
        let Self { addr, config, key, cert, auth, dir } = self;
        if auth == Some(Auth::On) {
            return Err(Failure::new(
                "'--auth on' is not supported",
                "Clients are known by their key, which is always checked; leave the flag out to go on without chains.",
            ));
        }
        let Some(dir) = dir else {
            return Err(Failure::new(
                "no data directory specified",
                "Name it: 'kes server DIR'; 'kes init --config init.yml DIR' makes one.",
            ));
        };
        telemetry::init().map_err(|error| Failure::sentence(&error.to_string()))?;
        let file = config.as_deref().map(read).transpose()?;
        let kept = if Directory::is_initialised(&dir) { kept(&dir)? } else { Settings::default() };
        let flags = Flags { address: addr, key, cert };
        // a missing directory is the better answer than its missing settings
        if file.is_none() && !Directory::is_initialised(&dir) {
            Directory::read_manifest(&dir)?;
        }
        let Resolved { address, health, key, certificate, unseal, await_bootstrap, audit } =
            server_config::resolve(flags, file, kept)?;
        let (seal, ..) = unseal.provider()?;
        let shutdown = server::termination()
            .map_err(|error| Failure::new(format!("failed to listen for signals: {error}"), ""))?;
        let service = Service::open(Setup {
            dir,
            seal,
            await_bootstrap,
            layout: crypto::Layout::default(),
            clock: Arc::new(System),
            random: Arc::new(System),
        })
        .await?;
        let audit = if audit { AuditLog::new(Stdout) } else { Ok(AuditLog::none()) }
            .map_err(|error| Failure::new(format!("failed to start the audit log: {error}"), ""))?;
        let options = server::Options {
            address,
            health,
            certificate,
            key,
            service: service.clone(),
            audit,
            metrics: server::metrics(),
            memory_locked: memory.locked,
            shutdown,
        };
        let server = match server::Server::bind(options).await {
            Ok(server) => server,
            Err(error) => {
                service.close().await;
                return Err(error.into());
            }
        };
        if let Some(reason) = &memory.reason {
            tracing::warn!("{reason}");
        }
        let address = server.address().unwrap_or(address);
        let banner = banner(Color::Auto, &endpoints(address), memory.locked);
        // nobody has to read it
        let _ = std::io::stdout().lock().write_all(banner.as_bytes());
        server.serve().await;
        Ok(())
    }
}

fn read(path: &Path) -> Result<ServerConfig, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::read("configuration", path, &error))?;
    server_config::parse(&text).map_err(|failure| failure.about(format!("'{}'", path.display())))
}

/// What `kes init` wrote for us; nothing when the operator made the directory.
fn kept(dir: &Path) -> Result<Settings, Failure> {
    let settings = Directory::read_manifest(dir)?.settings;
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

/// The addresses to show for where the server listens.
fn endpoints(address: SocketAddr) -> Vec<String> {
    if !address.ip().is_unspecified() {
        return vec![format!("https://{address}")];
    }
    let mut hosts = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    // no packet is sent: the kernel only says from where it would send one (RFC 5737 address)
    let outward = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    hosts.extend(outward.map(|address| address.ip()).ok().filter(|ip| !ip.is_loopback()));
    hosts.iter().map(|host| format!("https://{}", SocketAddr::new(*host, address.port()))).collect()
}

/// What a person sees when the server is ready, in the layout of v0.22.3.
fn banner(color: Color, endpoints: &[String], locked: bool) -> String {
    let line = |label: &str, value: &str, more: &str| {
        format!("{} {}\n", color.bold(&format!("{label:<10}")), format!("{value:<12} {more}").trim_end())
    };
    let platform = format!("{}/{}", std::env::consts::OS, go_arch());
    let mut text = line("License", "Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0");
    text += &line("Version", env!("CARGO_PKG_VERSION"), &platform);
    text.push('\n');
    for (index, endpoint) in endpoints.iter().enumerate() {
        text += &line(if index == 0 { "Endpoints" } else { "" }, endpoint, "");
    }
    text.push('\n');
    text += &line("mTLS", "skip verify", "Client certificates are not verified");
    text += &if locked {
        line("Mem Lock", "on", "RAM pages will not be swapped to disk")
    } else {
        line("Mem Lock", "off", "Failed to lock RAM pages. Consider granting CAP_IPC_LOCK")
    };
    text
}

/// Go's name of this machine's architecture, which KES prints.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_has_the_layout_of_kes() {
        let endpoints = ["https://127.0.0.1:7373".to_owned(), "https://10.0.0.2:7373".to_owned()];
        let text = banner(Color::Never, &endpoints, true).replace(env!("CARGO_PKG_VERSION"), "0.0.0");
        insta::assert_snapshot!(text.replace(go_arch(), "amd64"), @r"
        License    Apache-2.0   https://www.apache.org/licenses/LICENSE-2.0
        Version    0.0.0        linux/amd64

        Endpoints  https://127.0.0.1:7373
                   https://10.0.0.2:7373

        mTLS       skip verify  Client certificates are not verified
        Mem Lock   on           RAM pages will not be swapped to disk
        ");
    }
}
