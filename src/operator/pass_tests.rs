//! Whole passes against an API server in memory: what is created, and that a fixed point is reached and left alone.

use std::{collections::BTreeSet, time::Duration};

use http::Method;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    cluster::{self, validate::fixture},
    context::Scope,
    controller,
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

/// An API server that knows the Prometheus Operator's kinds.
fn with_monitoring(world: &World) {
    let resource = |name: &str, kind: &str| {
        json!({"name": name, "kind": kind, "singularName": "", "namespaced": true,
        "verbs": ["get"]})
    };
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "monitoring.coreos.com/v1",
        "resources": [resource("servicemonitors", "ServiceMonitor"), resource("prometheusrules", "PrometheusRule")]});
    world.api.put("/apis/monitoring.coreos.com/v1", list);
}

const MONITOR: &str = "/apis/monitoring.coreos.com/v1/namespaces/keys/servicemonitors/vault";

fn condition(world: &World, kind: &str) -> (String, String, String) {
    let status = world.api.get(CLUSTER).unwrap()["status"].clone();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind).cloned().unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

#[tokio::test]
async fn a_missing_right_to_an_optional_kind_is_told_and_stops_nothing_else() {
    for method in [Method::GET, Method::PATCH] {
        let world = World::new();
        with_monitoring(&world);
        world.api.refuse(method.clone(), "/servicemonitors/vault", 403);
        world.pass().await;
        let (status, reason, message) = condition(&world, "Degraded");
        assert_eq!((status.as_str(), reason.as_str()), ("True", "ObjectRefused"), "{method}: {message}");
        assert!(message.contains("ServiceMonitor vault"), "{message}");
        assert_eq!(world.ready_reason(), "WaitingForPod", "{method}: the service itself goes on");
        assert!(world.api.get(STATEFUL_SET).is_some(), "{method}");
        assert!(world.api.get(MONITOR).is_none());
        world.api.refuse(method, "/servicemonitors/vault", 0);
        world.pass().await;
        assert!(world.api.get(MONITOR).is_some());
        assert_eq!(condition(&world, "Degraded").0, "False");
    }
}

#[tokio::test]
async fn volumes_that_may_not_grow_stop_neither_the_cluster_nor_its_other_changes() {
    let world = World::new();
    world.pass().await;
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-vault-0", "namespace": "keys", "labels": world.api.get(STATEFUL_SET).unwrap()["spec"]["selector"]["matchLabels"]},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
    world.api.put("/api/v1/namespaces/keys/persistentvolumeclaims/data-vault-0", claim);
    world.api.refuse(Method::PATCH, "/persistentvolumeclaims/data-vault-0", 403);
    let mut cluster = world.api.get(CLUSTER).unwrap();
    cluster["spec"]["storage"] = json!({"size": "5Gi"});
    cluster["spec"]["pod"] = json!({"priorityClassName": "high"});
    world.api.put(CLUSTER, cluster);
    world.pass().await;
    assert_eq!(condition(&world, "Degraded").1, "ExpansionRefused");
    assert_eq!(world.ready_reason(), "WaitingForPod", "it is no reason to stop");
    let set = world.api.get(STATEFUL_SET).unwrap();
    // what the API server would refuse with 422 is not even tried
    let template = &set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"];
    assert_eq!(template, "1Gi");
    assert_eq!(set["spec"]["template"]["spec"]["priorityClassName"], "high");
    assert_eq!(world.pass().await, Vec::<String>::new());
}

#[tokio::test]
async fn passes_that_fail_are_told_in_the_conditions_once_and_no_more_when_they_succeed() {
    let world = World::new();
    world.api.refuse(Method::PATCH, "/services/vault", 500);
    let fail = async || {
        let error = cluster::reconcile(&world.context, &world.cluster).await.unwrap_err();
        world.api.writes();
        cluster::failure::tell(&world.context, &world.cluster, error.reason(), error.to_string())
            .await
            .unwrap();
        world.api.writes().into_iter().filter(|write| write.ends_with("/status")).count()
    };
    assert_eq!(fail().await, 1);
    for kind in ["Degraded", "Ready", "Progressing"] {
        let (_, reason, message) = condition(&world, kind);
        assert_eq!(reason, "ApplyFailed", "{kind}");
        assert!(message.contains("Service vault") && message.contains("tried again"), "{kind}: {message}");
    }
    assert_eq!(condition(&world, "Ready").0, "False");
    assert_eq!(fail().await, 0, "the same failure is not written for every attempt");
    world.api.refuse(Method::PATCH, "/services/vault", 503);
    assert_eq!(fail().await, 0, "a number in the message is no other failure");
    world.api.refuse(Method::PATCH, "/services/vault", 0);
    world.api.refuse(Method::PATCH, "/serviceaccounts/vault", 500);
    world.api.remove("/api/v1/namespaces/keys/serviceaccounts/vault");
    assert_eq!(fail().await, 1, "another one is");
    world.api.refuse(Method::PATCH, "/serviceaccounts/vault", 0);
    world.pass().await;
    assert_eq!(condition(&world, "Degraded").0, "False");
    assert_eq!(world.ready_reason(), "WaitingForPod");
}

#[tokio::test]
async fn a_failure_does_not_take_ready_away_from_what_serves() {
    let world = World::new();
    world.pass().await;
    let mut cluster = world.api.get(CLUSTER).unwrap();
    let ready = cluster["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|known| known["type"] == "Ready");
    let ready = ready.unwrap();
    (ready["status"], ready["reason"]) = ("True".into(), "Serving".into());
    world.api.put(CLUSTER, cluster);
    cluster::failure::tell(&world.context, &world.cluster, "ApplyFailed", "no".into()).await.unwrap();
    assert_eq!(condition(&world, "Ready").1, "Serving");
    assert_eq!(condition(&world, "Degraded").1, "ApplyFailed");
}

#[tokio::test]
async fn every_kind_that_is_made_is_watched_by_label_since_what_tenants_depend_on_has_no_owner() {
    let world = World::new();
    with_monitoring(&world);
    world.pass().await;
    let made: BTreeSet<String> = world
        .api
        .everything()
        .into_iter()
        .filter(|(path, object)| {
            path.contains("/namespaces/keys/")
                && object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "kes-operator"
        })
        .map(|(path, _)| path.rsplit_once('/').unwrap().0.replace("/namespaces/keys", ""))
        .collect();
    assert!(made.len() >= 8, "{made:?}");
    let stop = CancellationToken::new();
    let running = controller::run(world.context.clone(), &[], stop.clone());
    let missing = || made.difference(&world.api.watched()).cloned().collect::<Vec<_>>();
    let all_watched = async {
        while !missing().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = running => panic!("it ended"),
        seen = tokio::time::timeout(Duration::from_secs(10), all_watched) => assert!(seen.is_ok(), "not watched: {:?}", missing()),
    }
    stop.cancel();
}

#[path = "deleting_tests.rs"]
mod deleting;
#[path = "expanding_tests.rs"]
mod expanding;
#[path = "selecting_tests.rs"]
mod selecting;
#[path = "serving_tests.rs"]
mod serving;
