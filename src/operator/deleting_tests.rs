//! Whole passes over a `KesCluster` that somebody deletes.

use super::*;

/// A `KesCluster` with a wired Tenant, that somebody deletes.
async fn deleting(annotations: serde_json::Value) -> World {
    let world = World::new();
    world.pass().await;
    let tenant = json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant",
        "metadata": {"name": "myminio", "namespace": "tenant-lite", "uid": "u"},
        "spec": {"env": [{"name": "MINIO_KMS_KES_ENDPOINT", "value": "https://vault.keys.svc.cluster.local:7373"}]}});
    world.api.put(TENANT, tenant);
    let mut cluster = world.api.get(CLUSTER).unwrap();
    cluster["metadata"]["deletionTimestamp"] = "2026-11-25T10:00:00Z".into();
    cluster["metadata"]["annotations"] = annotations;
    cluster["status"]["tenants"] = json!([{"namespace": "tenant-lite", "name": "myminio", "phase": "Verified",
        "reason": "Verified", "message": "", "since": "2026-11-25T10:00:00Z", "uid": "u",
        "injected": {"endpoint": "https://vault.keys.svc.cluster.local:7373", "keyName": "minio-default-key",
            "mount": "ClientCertSecrets", "path": "/tmp/certs/client-0"}}]);
    world.api.put(CLUSTER, cluster);
    world
}

#[tokio::test]
async fn a_deletion_waits_for_the_tenants_and_the_cluster_is_looked_after_meanwhile() {
    let world = deleting(json!({"kes-operator.io/acknowledge-deletion": "true"})).await;
    world.api.remove("/api/v1/namespaces/keys/services/vault");
    let writes = world.pass().await;
    assert!(writes.contains(&"PATCH /api/v1/namespaces/keys/services/vault".to_owned()), "{writes:?}");
    let cluster = world.api.get(CLUSTER).unwrap();
    assert_eq!(cluster["metadata"]["finalizers"], json!(["kes-operator.io/tenants"]));
    let conditions = cluster["status"]["conditions"].as_array().unwrap().clone();
    let deletable = conditions.iter().find(|condition| condition["type"] == "Deletable").unwrap();
    assert!(deletable["message"].as_str().unwrap().contains("tenant-lite/myminio"), "{deletable}");
}

/// The pass that patched it may have ended before its status was written.
#[tokio::test]
async fn a_deletion_waits_also_for_a_tenant_that_only_its_own_spec_knows_to_be_wired() {
    for known in [true, false] {
        let world = deleting(json!({})).await;
        let mut tenant = world.api.get(TENANT).unwrap();
        tenant["spec"]["externalClientCertSecrets"] =
            json!([{"name": "kes-client-vault", "type": "cert-manager.io/v1"}]);
        world.api.put(TENANT, tenant);
        let mut cluster = world.api.get(CLUSTER).unwrap();
        match known {
            true => drop(cluster["status"]["tenants"][0].as_object_mut().unwrap().remove("injected")),
            false => cluster["status"]["tenants"] = json!([]),
        }
        world.api.put(CLUSTER, cluster);
        world.pass().await;
        let finalizers = world.api.get(CLUSTER).unwrap()["metadata"]["finalizers"].clone();
        assert_eq!(finalizers, json!(["kes-operator.io/tenants"]), "{known}");
    }
}

#[tokio::test]
async fn an_acknowledgement_before_a_deletion_is_taken_back_also_while_paused() {
    for paused in [true, false] {
        let world = deleting(json!({"kes-operator.io/acknowledge-deletion": "vault"})).await;
        let mut cluster = world.api.get(CLUSTER).unwrap();
        let deletion = cluster["metadata"]["deletionTimestamp"].take();
        cluster["spec"]["paused"] = paused.into();
        world.api.put(CLUSTER, cluster);
        world.pass().await;
        let mut cluster = world.api.get(CLUSTER).unwrap();
        assert_eq!(cluster["metadata"]["annotations"], json!({}));
        let told = |event: &serde_json::Value| event["reason"] == "AcknowledgementVoid";
        assert!(world.api.events().iter().any(told));
        // months later somebody deletes it by mistake
        cluster["metadata"]["deletionTimestamp"] = deletion;
        world.api.put(CLUSTER, cluster);
        world.pass().await;
        let finalizers = world.api.get(CLUSTER).unwrap()["metadata"]["finalizers"].clone();
        assert_eq!(finalizers, json!(["kes-operator.io/tenants"]));
    }
}

#[tokio::test]
async fn an_acknowledged_deletion_or_one_without_dependents_hands_everything_over() {
    for acknowledged in [true, false] {
        let world = deleting(json!({"kes-operator.io/acknowledge-deletion": "vault"})).await;
        if !acknowledged {
            world.api.remove(TENANT);
        }
        world.pass().await;
        assert_eq!(world.api.get(CLUSTER).unwrap()["metadata"]["finalizers"], json!([]));
        let owner =
            |path: &str| world.api.get(path).unwrap()["metadata"]["ownerReferences"][0]["kind"].clone();
        assert_eq!(owner(STATEFUL_SET), "KesCluster");
        assert_eq!(owner(&format!("{SECRETS}/vault-server-tls")), "KesCluster");
        assert_eq!(
            owner(&format!("{SECRETS}/vault-seal")),
            json!(null),
            "Retain keeps what opens the volumes"
        );
        assert_eq!(world.pass().await, Vec::<String>::new(), "what is on its way out is left alone");
    }
}

#[tokio::test]
async fn while_a_deletion_waits_no_further_tenant_is_wired() {
    const SECOND: &str = "/apis/minio.min.io/v2/namespaces/team/tenants/second";
    let world = deleting(json!({})).await;
    let mut cluster = world.api.get(CLUSTER).unwrap();
    let second = json!({"namespace": "team", "name": "second", "keyName": "k"});
    cluster["spec"]["tenants"].as_array_mut().unwrap().push(second);
    world.api.put(CLUSTER, cluster);
    let tenant = json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant", "spec": {"env": []},
        "metadata": {"name": "second", "namespace": "team", "uid": "u2",
            "annotations": {"kes-operator.io/allow-from": "keys"}}});
    world.api.put(SECOND, tenant);
    let before = world.api.get(SECOND);
    for _ in 0..2 {
        world.pass().await;
        let tenants = world.api.get(CLUSTER).unwrap()["status"]["tenants"].clone();
        let second = tenants.as_array().unwrap().iter().find(|known| known["name"] == "second").unwrap();
        assert_eq!(
            (&second["phase"], &second["reason"], &second["message"]),
            (
                &json!("Pending"),
                &json!("ClusterDeleting"),
                &json!("the KesCluster is being deleted, so no further tenant is wired")
            )
        );
        assert_eq!(world.api.get(SECOND), before);
        assert!(world.api.get("/api/v1/namespaces/team/secrets/kes-client-vault").is_none());
    }
}
