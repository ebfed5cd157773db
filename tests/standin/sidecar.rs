//! Inside a MinIO pod: keeps the environment file equal to the live Tenant and its Secret, and answers readiness.

use std::{path::Path, pin::pin, time::Duration};

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::DynamicObject,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    config_env,
    tenant::{Tenant, api_resource},
};

const FILE: &str = "/tmp/minio/config.env";

/// The init container: renders the file once, or fails with what is missing, which keeps MinIO from starting.
pub(crate) async fn validate(client: Client, tenant: String) -> anyhow::Result<()> {
    render(&client, &tenant).await?;
    Ok(())
}

/// The sidecar: until the pod ends.
pub(crate) async fn run(client: Client, tenant: String) -> anyhow::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:4444").await.context("failed to listen on port 4444")?;
    tokio::select! {
        result = follow(client, tenant) => result,
        () = answer_readiness(listener) => Ok(()),
        () = terminated() => Ok(()),
    }
}

async fn follow(client: Client, tenant: String) -> anyhow::Result<()> {
    let (_, secret_name) = read_tenant(&client, &tenant).await?;
    let tenants: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &api_resource());
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
    let changes = stream::select(
        watcher(tenants, named(&tenant)).default_backoff().applied_objects().map_ok(|_| "Tenant").boxed(),
        watcher(secrets, named(&secret_name))
            .default_backoff()
            .applied_objects()
            .map_ok(|_| "configuration Secret")
            .boxed(),
    );
    let mut changes = pin!(changes);
    while let Some(change) = changes.next().await {
        match change {
            Ok(what) => match render(&client, &tenant).await {
                Ok(true) => tracing::info!("{what} changed: {FILE} is rewritten"),
                Ok(false) => {}
                Err(error) => tracing::warn!("{what} changed, but {FILE} stays as it is: {error:#}"),
            },
            Err(error) => tracing::warn!("watch interrupted: {error}"),
        }
    }
    bail!("the watches ended")
}

/// Writes the file if its content changed, and says whether it did.
async fn render(client: &Client, tenant: &str) -> anyhow::Result<bool> {
    let (tenant, secret_name) = read_tenant(client, tenant).await?;
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let secret =
        secrets.get(&secret_name).await.with_context(|| format!("failed to read Secret {secret_name}"))?;
    let config =
        secret.data.unwrap_or_default().remove("config.env").map(|bytes| bytes.0).unwrap_or_default();
    let config = String::from_utf8(config)
        .with_context(|| format!("config.env of Secret {secret_name} is not text"))?;
    let domain = std::env::var("CLUSTER_DOMAIN").unwrap_or_else(|_| "cluster.local".to_owned());
    let text = config_env::render(&tenant, &config, &domain);
    if let Some(name) = config_env::missing(&text) {
        bail!("{name} is neither in config.env of Secret {secret_name} nor in spec.env of the Tenant");
    }
    if tokio::fs::read_to_string(FILE).await.is_ok_and(|current| current == text) {
        return Ok(false);
    }
    // written beside and renamed, so that MinIO never reads half a file
    let new = Path::new(FILE).with_extension("new");
    tokio::fs::write(&new, text).await.with_context(|| format!("failed to write {}", new.display()))?;
    tokio::fs::rename(&new, FILE).await.with_context(|| format!("failed to rename {}", new.display()))?;
    Ok(true)
}

async fn read_tenant(client: &Client, name: &str) -> anyhow::Result<(Tenant, String)> {
    let tenants: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &api_resource());
    let object = tenants.get(name).await.with_context(|| format!("failed to read Tenant {name}"))?;
    let tenant = Tenant::parse(&object).map_err(anyhow::Error::msg)?;
    let secret = tenant.spec.configuration.clone().unwrap_or_default().name;
    Ok((tenant, secret))
}

async fn answer_readiness(listener: TcpListener) {
    loop {
        let Ok((mut connection, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            let mut request = [0_u8; 1024];
            let length = connection.read(&mut request).await.unwrap_or(0);
            let asked_ready = request[..length].starts_with(b"GET /ready");
            let status = match asked_ready && minio_answers().await {
                true => "200 OK",
                false if asked_ready => "503 Service Unavailable",
                false => "404 Not Found",
            };
            let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _gone = connection.write_all(reply.as_bytes()).await;
        });
    }
}

/// Whether MinIO answers HTTP at all, in half a second. Any answer counts, also the refusal that a TLS port gives to
/// plain HTTP: a server that waits for its peers must count as ready, or a rolling change would never end.
async fn minio_answers() -> bool {
    let probe = async {
        let mut connection = TcpStream::connect("127.0.0.1:9000").await.ok()?;
        let request = b"HEAD /minio/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        connection.write_all(request).await.ok()?;
        let mut answer = [0_u8; 5];
        connection.read_exact(&mut answer).await.ok()?;
        Some(&answer == b"HTTP/")
    };
    matches!(tokio::time::timeout(Duration::from_millis(500), probe).await, Ok(Some(true)))
}

async fn terminated() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}
