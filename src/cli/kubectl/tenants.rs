//! `kubectl kes tenants`: how far the wiring of each MinIO tenant is, and what a tenant lacks.

use super::place::{Place, names};
use crate::{
    cli::{
        failure::Failure,
        terminal::{Color, table},
    },
    crd::TenantStatus,
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kubectl kes tenants -n keys
  kubectl kes tenants -n keys --snippet team-a/minio")]
pub(super) struct Tenants {
    /// Print only what has to be in this Tenant, as YAML, for mode Render
    #[arg(long, value_name = "NAMESPACE/NAME")]
    snippet: Option<String>,
    /// When to use colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
}

impl Tenants {
    pub(super) async fn run(self, place: &Place) -> Result<String, Failure> {
        let Self { snippet, color } = self;
        let (_, cluster) = place.find().await?;
        let (namespace, name) = names(&cluster);
        let tenants = cluster.status.map(|status| status.tenants).unwrap_or_default();
        let Some(wanted) = snippet else { return Ok(rows(color, &tenants)) };
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
