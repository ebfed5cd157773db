//! `kubectl kes tenants`: how far the wiring of each MinIO tenant is, and what a tenant lacks.

use serde::Serialize;

use super::place::{Place, names};
use crate::{
    cli::{
        failure::Failure,
        terminal::{Color, Format, table},
    },
    crd::{TenantPhase, TenantStatus},
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kubectl kes tenants -n keys
  kubectl kes tenants -n keys --snippet team-a/minio")]
pub(super) struct Tenants {
    /// Print only what has to be in this Tenant, as YAML, for mode Render
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "json")]
    snippet: Option<String>,
    #[command(flatten)]
    format: Format,
}

impl Tenants {
    pub(super) async fn run(self, place: &Place) -> Result<String, Failure> {
        let Self { snippet, format } = self;
        let (_, cluster) = place.find().await?;
        let (namespace, name) = names(&cluster);
        let tenants = cluster.status.map(|status| status.tenants).unwrap_or_default();
        let Some(wanted) = snippet else {
            return Ok(match format.json {
                true => super::json_line(&objects(&tenants)),
                false => rows(format.color, &tenants),
            });
        };
        let is_it = |tenant: &&TenantStatus| format!("{}/{}", tenant.namespace, tenant.name) == wanted;
        let Some(tenant) = tenants.iter().find(is_it) else {
            return Err(Failure::new(
                format!("KesCluster {namespace}/{name} knows no tenant {wanted}"),
                "'kubectl kes tenants' lists those that it knows.",
            ));
        };
        tenant.snippet.clone().ok_or_else(|| {
            Failure::new(
                format!("nothing has to be put into Tenant {wanted}: it is {}", tenant.phase),
                "Only a tenant in mode Render, or one that somebody else keeps changing, has a snippet.",
            )
        })
    }
}

/// A tenant for a program.
#[derive(Serialize)]
pub(super) struct Object<'a> {
    namespace: &'a str,
    name: &'a str,
    phase: TenantPhase,
    reason: &'a str,
    message: &'a str,
    since: String,
    /// What has to be in it, in mode Render.
    #[serde(skip_serializing_if = "Option::is_none")]
    snippet: Option<&'a str>,
}

/// One object per tenant.
pub(super) fn objects(tenants: &[TenantStatus]) -> Vec<Object<'_>> {
    tenants.iter().map(object).collect()
}

fn object(tenant: &TenantStatus) -> Object<'_> {
    let TenantStatus { namespace, name, phase, reason, message, since, uid: _, injected: _, snippet } =
        tenant;
    let (since, snippet) = (since.0.to_string(), snippet.as_deref());
    Object { namespace, name, phase: *phase, reason, message, since, snippet }
}

/// One row per tenant.
pub(super) fn rows(color: Color, tenants: &[TenantStatus]) -> String {
    let rows: Vec<_> = tenants
        .iter()
        .map(|tenant| {
            let TenantStatus { namespace, name, phase, reason, message, .. } = tenant;
            vec![namespace.clone(), name.clone(), phase.to_string(), reason.clone(), message.clone()]
        })
        .collect();
    table(color, &["NAMESPACE", "TENANT", "PHASE", "REASON", "MESSAGE"], &rows)
}
