//! Whole passes against an API server in memory: what is created, and that a fixed point is reached and left alone.

use serde_json::json;

use super::{
    Context,
    cluster::{self, validate::fixture},
    context::Scope,
    fake_api::FakeApi,
    metrics::Metrics,
};
use crate::crd::KesCluster;

const CLUSTER: &str = "/apis/kes-operator.io/v1alpha1/namespaces/keys/kesclusters/vault";
const SECRETS: &str = "/api/v1/namespaces/keys/secrets";
const TENANT: &str = "/apis/minio.min.io/v2/namespaces/tenant-lite/tenants/myminio";
const STATEFUL_SET: &str = "/apis/apps/v1/namespaces/keys/statefulsets/vault";

struct World {
    api: FakeApi,
    context: Context,
    cluster: KesCluster,
}

impl World {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut KesCluster)) -> Self {
        let api = FakeApi::default();
        let mut cluster = fixture::cluster();
        change(&mut cluster);
        api.put(CLUSTER, serde_json::to_value(&cluster).unwrap());
        Self {
            context: Context::new(
                api.client(),
                fixture::defaults(),
                Metrics::new(),
                &Scope { operator: "ops", namespaces: &[] },
            ),
            api,
            cluster,
        }
    }

    /// One pass; the writes that are no events.
    async fn pass(&self) -> Vec<String> {
        cluster::reconcile(&self.context, &self.cluster).await.unwrap();
        self.api.writes().into_iter().filter(|write| !write.contains("/events.k8s.io/")).collect()
    }

    fn ready_reason(&self) -> String {
        let status = self.api.get(CLUSTER).unwrap()["status"].clone();
        let conditions = status["conditions"].as_array().unwrap().clone();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
        ready["reason"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn the_first_pass_creates_the_whole_set_and_the_second_writes_nothing() {
    let world = World::new();
    insta::assert_yaml_snapshot!("first_pass", world.pass().await);
    assert_eq!(world.ready_reason(), "WaitingForPod");
    assert_eq!(world.pass().await, Vec::<String>::new());
    assert_eq!(world.pass().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_deleted_or_edited_object_is_put_right() {
    let world = World::new();
    world.pass().await;
    world.api.remove("/api/v1/namespaces/keys/services/vault");
    assert_eq!(world.pass().await, ["PATCH /api/v1/namespaces/keys/services/vault"]);
    let mut edited = world.api.get(STATEFUL_SET).unwrap();
    edited["spec"]["replicas"] = 5.into();
    world.api.put(STATEFUL_SET, edited);
    assert_eq!(world.pass().await, [format!("PATCH {STATEFUL_SET}")]);
    assert_eq!(world.pass().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_lost_seal_secret_is_reported_and_nothing_else_is_touched() {
    let world = World::new();
    world.pass().await;
    world.api.remove(&format!("{SECRETS}/vault-seal"));
    assert_eq!(world.pass().await, [format!("PUT {CLUSTER}/status")]);
    assert_eq!(world.ready_reason(), "SealSecretLost");
    assert_eq!(world.pass().await, Vec::<String>::new());
}

#[tokio::test]
async fn an_invalid_spec_is_reported_and_the_running_cluster_is_left_alone() {
    let world = World::new();
    world.pass().await;
    let mut cluster = world.api.get(CLUSTER).unwrap();
    cluster["spec"]["replicas"] = 3.into();
    world.api.put(CLUSTER, cluster);
    assert_eq!(world.pass().await, [format!("PUT {CLUSTER}/status")]);
    assert_eq!(world.ready_reason(), "InvalidSpec");
}

#[tokio::test]
async fn a_secret_that_appears_under_our_name_is_never_overwritten() {
    let world = World::new();
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault-seal", "namespace": "keys"},
        "data": {"KES_UNSEAL_KEY": "dGhlaXJz"}});
    world.api.put(&format!("{SECRETS}/vault-seal"), theirs);
    world.pass().await;
    assert_eq!(world.ready_reason(), "ObjectRefused");
    assert_eq!(
        world.api.get(&format!("{SECRETS}/vault-seal")).unwrap()["data"]["KES_UNSEAL_KEY"],
        "dGhlaXJz"
    );
}

#[tokio::test]
async fn a_service_or_certificate_of_somebody_else_under_our_name_is_told_and_left_alone() {
    for (path, kind) in [
        ("/api/v1/namespaces/keys/services/vault".to_owned(), "Service"),
        (format!("{SECRETS}/vault-server-tls"), "Secret"),
    ] {
        let world = World::new();
        let theirs =
            json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "theirs", "namespace": "keys"}});
        world.api.put(&path, theirs);
        let before = world.api.get(&path);
        world.pass().await;
        assert_eq!(world.ready_reason(), "ObjectRefused", "{path}");
        assert_eq!(world.api.get(&path), before);
    }
}

#[tokio::test]
async fn an_applications_secret_that_is_taken_stops_nobody_else() {
    let world = World::new();
    let theirs =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app-1-kes", "namespace": "keys"}});
    world.api.put(&format!("{SECRETS}/app-1-kes"), theirs);
    world.pass().await;
    assert_eq!(world.ready_reason(), "WaitingForPod");
    assert!(world.api.get(STATEFUL_SET).is_some());
}

#[tokio::test]
async fn what_retain_keeps_has_no_owner_whenever_the_policy_became_retain() {
    let owned = |world: &World| {
        world.api.get(&format!("{SECRETS}/vault-seal")).unwrap()["metadata"]["ownerReferences"].clone()
    };
    let delete = |cluster: &mut KesCluster| {
        cluster.spec.tenants.clear();
        cluster.spec.deletion_policy = crate::crd::DeletionPolicy::Delete;
    };
    // while it is paused
    let world = World::with(delete);
    world.pass().await;
    world.pass().await;
    assert_eq!(owned(&world)[0]["kind"], "KesCluster");
    let mut cluster = world.api.get(CLUSTER).unwrap();
    assert_eq!(
        cluster["metadata"]["finalizers"],
        json!(["kes-operator.io/tenants"]),
        "a deletion waits for us"
    );
    cluster["spec"]["deletionPolicy"] = "Retain".into();
    cluster["spec"]["paused"] = true.into();
    world.api.put(CLUSTER, cluster);
    world.pass().await;
    assert_eq!(owned(&world), json!([]));

    // right before it is deleted, while no operator ran
    let world = World::with(delete);
    world.pass().await;
    world.pass().await;
    let mut cluster = world.api.get(CLUSTER).unwrap();
    cluster["spec"]["deletionPolicy"] = "Retain".into();
    cluster["metadata"]["deletionTimestamp"] = "2026-11-25T10:00:00Z".into();
    world.api.put(CLUSTER, cluster);
    world.pass().await;
    assert_eq!(owned(&world), json!([]));
    assert_eq!(world.api.get(CLUSTER).unwrap()["metadata"]["finalizers"], json!([]));
}

#[tokio::test]
async fn a_concurrent_change_of_the_status_stops_the_pass() {
    let world = World::new();
    world.pass().await;
    // the trigger is from a cache that knows no bootstrap; the pass reads anew and sees it
    let mut cluster = world.api.get(CLUSTER).unwrap();
    cluster["status"]["bootstrap"] = json!({"clusterID": "ours", "phase": "Completed"});
    world.api.put(CLUSTER, cluster);
    world.pass().await;
    assert_eq!(world.api.get(CLUSTER).unwrap()["status"]["bootstrap"]["clusterID"], "ours");
}

#[tokio::test]
async fn what_a_pass_came_to_is_written_although_somebody_edits_the_spec_meanwhile() {
    let world = World::new();
    world.pass().await;
    world.api.remove(&format!("{SECRETS}/vault-seal"));
    world.api.meddle(|cluster| cluster["spec"]["paused"] = true.into());
    assert_eq!(world.pass().await, [format!("PUT {CLUSTER}/status"), format!("PUT {CLUSTER}/status")]);
    assert_eq!(world.ready_reason(), "SealSecretLost");
    assert_eq!(world.api.get(CLUSTER).unwrap()["spec"]["paused"], true, "the edit is not undone");
}

#[tokio::test]
async fn another_writer_of_the_status_stops_the_report() {
    let world = World::new();
    world.pass().await;
    world.api.remove(&format!("{SECRETS}/vault-seal"));
    world.api.meddle(|cluster| {
        cluster["status"]["bootstrap"] = json!({"clusterID": "ours", "phase": "Completed"})
    });
    assert!(cluster::reconcile(&world.context, &world.cluster).await.is_err());
    assert_eq!(world.api.get(CLUSTER).unwrap()["status"]["bootstrap"]["clusterID"], "ours");
}

#[tokio::test]
async fn a_deletion_policy_takes_effect_on_what_exists() {
    // with tenants nothing would be owned
    let world = World::with(|cluster| cluster.spec.tenants.clear());
    world.pass().await;
    let mut cluster = world.api.get(CLUSTER).unwrap();
    cluster["spec"]["deletionPolicy"] = "Delete".into();
    world.api.put(CLUSTER, cluster);
    let writes = world.pass().await;
    assert!(writes.contains(&format!("PATCH {SECRETS}/vault-seal")), "{writes:?}");
    let seal = world.api.get(&format!("{SECRETS}/vault-seal")).unwrap();
    assert_eq!(seal["metadata"]["ownerReferences"][0]["kind"], "KesCluster");
    assert_eq!(world.pass().await, Vec::<String>::new());
}

#[tokio::test]
async fn no_key_material_is_written_anywhere_but_into_the_data_of_secrets() {
    let world = World::new();
    for _ in 0..2 {
        world.pass().await;
    }
    let (mut material, mut public) = (Vec::new(), Vec::new());
    for (path, mut object) in world.api.everything() {
        if let Some(data) = object["data"].as_object().filter(|_| path.starts_with(SECRETS)) {
            for (name, value) in data {
                let text = value.as_str().unwrap().to_owned();
                if ["tls.key", "KES_UNSEAL_KEY"].contains(&&**name) {
                    material.push((format!("{path} {name}"), text));
                }
            }
            object["data"].take();
        }
        public.push((path, object.to_string()));
    }
    assert!(material.len() >= 4, "{material:?}");
    assert!(public.iter().any(|(path, _)| path == "an event"));
    for (what, text) in &material {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let bytes = STANDARD.decode(text).unwrap();
        // the content of the file, without the lines that every PEM text has
        let inner = String::from_utf8(bytes).unwrap();
        let inner = inner.lines().find(|line| !line.starts_with('-')).unwrap();
        for (place, object) in &public {
            assert!(!object.contains(text.as_str()) && !object.contains(inner), "{what} is in {place}");
        }
    }
}

#[tokio::test]
async fn the_finalizer_is_there_before_anything_else_and_goes_with_the_last_tenant() {
    let world = World::new();
    assert_eq!(world.pass().await[0], format!("PATCH {CLUSTER}"));
    let mut cluster = world.api.get(CLUSTER).unwrap();
    assert_eq!(cluster["metadata"]["finalizers"], json!(["kes-operator.io/tenants"]));
    let owners = || world.api.get(STATEFUL_SET).unwrap()["metadata"]["ownerReferences"].clone();
    assert_eq!(owners(), json!(null), "nothing is collected while tenants may depend on it");
    cluster["spec"]["tenants"] = json!([]);
    world.api.put(CLUSTER, cluster);
    assert_eq!(world.pass().await[0], format!("PATCH {CLUSTER}"));
    assert_eq!(world.api.get(CLUSTER).unwrap()["metadata"]["finalizers"], json!([]));
    assert_eq!(owners()[0]["kind"], "KesCluster");
    assert_eq!(world.pass().await, Vec::<String>::new());
}

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
