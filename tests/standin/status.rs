//! What the Tenant's status says, as captured. Pure.

use serde_json::{Value, json};

use crate::tenant::Tenant;

/// The status while `ready` of the Tenant's servers are Ready.
pub(crate) fn of(tenant: &Tenant, ready: i64) -> Value {
    let wanted: i64 = tenant.spec.pools.iter().map(|pool| i64::from(pool.servers)).sum();
    let (state, health) = match ready {
        0 => ("Waiting for servers", "red"),
        n if n < wanted => ("Initialized", "yellow"),
        _ => ("Initialized", "green"),
    };
    let pools: Vec<Value> = tenant
        .spec
        .pools
        .iter()
        .map(|pool| {
            json!({
                "legacySecurityContext": false, "ssName": tenant.statefulset_name(pool), "state": "PoolInitialized",
            })
        })
        .collect();
    status(state, ready, health, tenant.auto_cert(), &pools)
}

/// The status of a Tenant of which nothing can be made.
pub(crate) fn refused(reason: &str) -> Value {
    status(reason, 0, "red", false, &[])
}

/// The fields that the upstream schema requires, and the health that people look at.
fn status(state: &str, ready: i64, health: &str, auto_cert: bool, pools: &[Value]) -> Value {
    json!({
        "currentState": state, "availableReplicas": ready, "healthStatus": health, "pools": pools,
        "certificates": {"autoCertEnabled": auto_cert, "customCertificates": {}},
        "revision": 0, "syncVersion": "v6.0.0",
    })
}
