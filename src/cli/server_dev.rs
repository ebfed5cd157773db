//! `kes server --dev`: a server for a try-out, with everything made on the spot and nothing kept.
//!
//! Its directory is removed when it stops. Should the process be killed instead, what is left of the directory cannot be
//! opened: the unseal key was only in its memory.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use super::{
    addresses,
    failure::Failure,
    server::{Running, Signals},
    server_banner::{Banner, Development},
    terminal::Format,
};
use crate::{
    api::{API_PORT, EnclaveName, message::Generation},
    audit::AuditLog,
    crypto::{Layout, MemoryLock, seal::Throwaway},
    pki::{ApiKey, SelfSigned, Usage, self_signed},
    server::Access,
    service::{
        CACHED_KEYS, Service, Setup,
        bootstrap::{self, EnclavePlan, Plan},
    },
    world::System,
};

/// How long the certificate is valid: longer than any try-out, shorter than a habit.
const VALIDITY: Duration = Duration::from_secs(90 * 86_400);

/// Runs until it is told to stop.
pub(super) async fn serve(
    address: Option<SocketAddr>,
    format: &Format,
    memory: MemoryLock,
    signals: Signals,
) -> Result<(), Failure> {
    let address = address.unwrap_or((Ipv4Addr::UNSPECIFIED, API_PORT).into());
    let directory = tempfile::Builder::new().prefix("kes-dev-").tempdir().map_err(no_directory)?;
    let (certificate, key) = (directory.path().join("public.crt"), directory.path().join("private.key"));
    write_certificate(&certificate, &key, address)?;
    let (admin, system_admin) = (ApiKey::generate(&System)?, ApiKey::generate(&System)?);
    let service = open(&directory.path().join("keys"), &admin, &system_admin).await?;
    let running = Running {
        address,
        health: None,
        certificate: certificate.clone(),
        key,
        password: None,
        service,
        audit: AuditLog::none(),
        // API keys and '--dev' came with the later generation, so its clients are the ones to expect
        generation: Generation::V2025,
        access: Access::default(),
        again: None,
        memory,
        signals,
    };
    let ended = running
        .serve(|address, locked| {
            let (api_key, system_key) = (admin.to_text(), system_admin.to_text());
            let development = Development {
                api_key: &api_key,
                identity: admin.identity().as_str(),
                system_key: &system_key,
                certificate: &certificate.display().to_string(),
            };
            let endpoints = addresses::endpoints(address);
            Banner {
                format,
                endpoints: &endpoints,
                locked,
                verified: false,
                stateless: None,
                development: Some(development),
            }
            .show()
        })
        .await;
    let path = directory.path().to_owned();
    directory.close().map_err(|error| {
        Failure::new(
            format!("failed to remove '{}': {error}", path.display()),
            "Remove it yourself; nothing in it can be opened any more.",
        )
    })?;
    ended
}

async fn open(dir: &Path, admin: &ApiKey, system_admin: &ApiKey) -> Result<Service, Failure> {
    let seal = Arc::new(Throwaway::new(&System));
    let default = EnclavePlan {
        name: EnclaveName::default_enclave(),
        admin: admin.identity().clone(),
        policies: Vec::new(),
    };
    let plan = Plan {
        cluster_id: None,
        system_admin: system_admin.identity().clone(),
        settings: serde_json::Value::Null,
        enclaves: vec![default],
    };
    bootstrap::init(dir, seal.clone(), plan).await?;
    let setup = Setup {
        dir: dir.into(),
        seal,
        previous_seal: None,
        await_bootstrap: None,
        layout: Layout::default(),
        cached_keys: CACHED_KEYS,
        clock: Arc::new(System),
        random: Arc::new(System),
    };
    Ok(Service::open(setup).await?)
}

/// A self-signed certificate for every name and address that a client on this machine or beside it would use.
fn write_certificate(certificate: &Path, key: &Path, address: SocketAddr) -> Result<(), Failure> {
    let mut ip = addresses::local();
    ip.push(Ipv6Addr::LOCALHOST.into());
    if !address.ip().is_unspecified() && !ip.contains(&address.ip()) {
        ip.push(address.ip());
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // a host may be called what no certificate can carry
    let is_name = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
            && !name.is_empty()
    };
    let dns = ["localhost".to_owned(), host].into_iter().filter(|name| is_name(name)).collect();
    let pair = self_signed(&SelfSigned {
        common_name: "kes-dev".into(),
        dns,
        ip,
        validity: VALIDITY,
        usage: Usage::Both,
    })?;
    super::identity_local::write(key, pair.key.as_bytes(), 0o600, false)
        .map_err(|error| Failure::write("private key", key, &error))?;
    super::identity_local::write(certificate, pair.certificate.as_bytes(), 0o644, false)
        .map_err(|error| Failure::write("certificate", certificate, &error))
}

fn no_directory(error: std::io::Error) -> Failure {
    Failure::new(
        format!("failed to make a directory in '{}': {error}", std::env::temp_dir().display()),
        "Free space there, or set TMPDIR to a directory that this user may write to.",
    )
}
