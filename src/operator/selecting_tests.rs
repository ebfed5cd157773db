//! Whole passes over a `KesCluster` that selects Tenants by their labels.

use super::*;

const LABELLED: &str = "/apis/minio.min.io/v2/namespaces/team/tenants/minio";

/// A `KesCluster` that selects, and a Tenant of another namespace with the labels, where nobody has agreed.
fn selecting() -> World {
    let world = World::with(|cluster| {
        cluster.spec.tenants.clear();
        cluster.spec.tenant_selector = Some(
            serde_saphyr::from_str("{matchLabels: {encrypt: 'yes'}, namespaces: [team, other]}").unwrap(),
        );
    });
    let tenant = json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant", "spec": {"env": []},
        "metadata": {"name": "minio", "namespace": "team", "uid": "u", "labels": {"encrypt": "yes"}}});
    world.api.put(LABELLED, tenant);
    world
}

#[tokio::test]
async fn for_a_tenant_that_only_carries_the_labels_nothing_is_made_and_little_is_told() {
    let world = selecting();
    world.pass().await;
    assert_eq!(world.pass().await, Vec::<String>::new());
    let secret = format!("{SECRETS}/vault-tenant-team.minio");
    assert!(world.api.get(&secret).is_none());
    let cluster = world.api.get(CLUSTER).unwrap();
    assert!(!cluster["status"].to_string().contains("team"), "{}", cluster["status"]);
    let (status, reason, message) = condition(&world, "TenantsWired");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "NoTenants"));
    assert!(message.contains("nobody has agreed (1)") && message.contains("allow-from"), "{message}");

    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team",
        "annotations": {"kes-operator.io/allow-from": "keys"}}});
    world.api.put("/api/v1/namespaces/team", namespace);
    world.pass().await;
    assert!(world.api.get(&secret).is_some());
    assert_eq!(world.api.get(CLUSTER).unwrap()["status"]["tenants"][0]["name"], "minio");
}

#[tokio::test]
async fn a_namespace_that_cannot_be_listed_stops_neither_known_tenants_nor_the_servers_certificate() {
    let world = selecting();
    world.pass().await;
    let mut cluster = world.api.get(CLUSTER).unwrap();
    cluster["status"]["tenants"] = json!([{"namespace": "team", "name": "minio", "phase": "Verified",
        "reason": "Verified", "message": "", "since": "2026-11-25T10:00:00Z", "uid": "u",
        "injected": {"endpoint": "https://vault.keys.svc.cluster.local:7373", "keyName": "k",
            "mount": "ClientCertSecrets", "path": "/tmp/certs/client-0", "restarted": true}}]);
    world.api.put(CLUSTER, cluster);
    let server = format!("{SECRETS}/vault-server-tls");
    world.api.remove(&server);
    world.api.refuse(Method::GET, "/namespaces/team/tenants", 403);
    world.pass().await;
    assert!(world.api.get(&server).is_some(), "the certificate is looked after");
    let status = world.api.get(CLUSTER).unwrap()["status"].clone();
    assert_ne!(status["tenants"][0]["phase"], "Orphaned", "{}", status["tenants"]);
    assert_eq!(status["tenants"][0]["injected"]["keyName"], "k");
    let (degraded, reason, message) = condition(&world, "Degraded");
    assert_eq!((degraded.as_str(), reason.as_str()), ("True", "SelectionRefused"), "{message}");
    assert_eq!(world.ready_reason(), "WaitingForPod");
}
