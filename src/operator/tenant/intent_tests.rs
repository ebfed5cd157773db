//! A Tenant is noted before it is patched: what a crash in between leaves, and what becomes of it.

use http::Method;

use super::*;
use crate::{
    crd::MountKind,
    operator::{
        cluster::{keyring::Keyring, record::Record, validate::fixture},
        context::Scope,
        fake_api::FakeApi,
        metrics::Metrics,
        requests::Requests,
        tenant::patch,
    },
};

const CLUSTER: &str = "/apis/kes-operator.io/v1alpha1/namespaces/keys/kesclusters/vault";
const TENANT: &str = "/apis/minio.min.io/v2/namespaces/tenant-lite/tenants/myminio";
const SECRET: &str = "kes-client-vault";

struct World {
    api: FakeApi,
    context: Context,
}

impl World {
    /// A `KesCluster` that was looked after, and a Tenant that is not wired.
    async fn new() -> Self {
        let api = FakeApi::default();
        api.put(CLUSTER, serde_json::to_value(fixture::cluster()).unwrap());
        let live = json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant", "spec": {"env": []},
            "metadata": {"name": "myminio", "namespace": "tenant-lite", "uid": "u",
                "annotations": {"kes-operator.io/allow-from": "keys"}}});
        api.put(TENANT, live);
        let scope = Scope { operator: "ops", namespaces: &[] };
        let context = Context::new(api.client(), fixture::defaults(), Metrics::new(), &scope);
        let world = Self { api, context };
        world.pass().await;
        world
    }

    async fn pass(&self) {
        cluster::reconcile(&self.context, &fixture::cluster()).await.unwrap();
        self.api.writes();
    }

    /// What a pass does with the Tenant once it is proved; and no further, as if the operator ended there.
    async fn patch_and_end(&self) -> Reached {
        let cluster = fixture::cluster();
        let mut record = Record::read(&self.context.client, &cluster).await.unwrap().unwrap();
        let before = record.status().tenants.first().cloned();
        let record = tokio::sync::Mutex::new(&mut record);
        let wanted = fixture::wanted();
        let (ring, requests) = (Keyring::default(), Requests::default());
        let around = Around {
            cluster: &cluster,
            record: &record,
            wanted: &wanted,
            ring: &ring,
            lost: &[],
            refused: &[],
            requests: &requests,
        };
        let tenant = serde_json::from_value(self.api.get(TENANT).unwrap()).unwrap();
        let seen = Seen { installed: true, tenant: Some(tenant), ..Seen::default() };
        let injected = Injected {
            endpoint: wanted.endpoint(),
            key_name: "minio-default-key".into(),
            mount: MountKind::ClientCertSecrets,
            path: "/tmp/certs/client-0".into(),
            patched_at: None,
            restarted: false,
            approved: false,
            intended: false,
            repeats: 0,
            verified_pods: None,
        };
        let variables = patch::variables(&injected).into_iter();
        let env: Vec<_> = variables.map(|(name, value)| json!({"name": name, "value": value})).collect();
        let fields = json!({"env": env,
            "externalClientCertSecrets": [{"name": SECRET, "type": "cert-manager.io/v1"}]});
        let fields = fields.as_object().unwrap().clone();
        let before = before.as_ref();
        let tenant = &wanted.tenants[0];
        note_and_write(&self.context, &around, tenant, &seen, fields, injected, before).await
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut cluster = self.api.get(CLUSTER).unwrap();
        change(&mut cluster);
        self.api.put(CLUSTER, cluster);
    }

    fn tenant(&self) -> Value {
        self.api.get(CLUSTER).unwrap()["status"]["tenants"][0].clone()
    }

    fn is_wired(&self) -> bool {
        self.api.get(TENANT).unwrap().to_string().contains(SECRET)
    }

    fn finalizers(&self) -> Value {
        self.api.get(CLUSTER).unwrap()["metadata"]["finalizers"].clone()
    }
}

fn leave_the_spec(cluster: &mut Value) {
    cluster["spec"]["tenants"] = json!([]);
}

fn be_deleted(cluster: &mut Value) {
    cluster["spec"]["deletionPolicy"] = "Delete".into();
    cluster["spec"]["tenants"] = json!([]);
    cluster["metadata"]["deletionTimestamp"] = "2026-11-25T10:00:00Z".into();
}

#[tokio::test]
async fn a_tenant_is_noted_before_it_is_patched_and_not_patched_when_that_fails() {
    let world = World::new().await;
    world.patch_and_end().await;
    assert_eq!(world.api.writes(), [format!("PUT {CLUSTER}/status"), format!("PATCH {TENANT}")]);
    assert_eq!(world.tenant()["injected"]["intended"], true);
    assert_eq!(world.tenant()["uid"], "u");

    let world = World::new().await;
    world.api.refuse(Method::PUT, "/kesclusters/vault/status", 500);
    let reached = world.patch_and_end().await;
    assert_eq!((reached.rule.reason(), reached.injected), ("ApiRefused", None));
    assert!(!world.is_wired());
}

#[tokio::test]
async fn a_tenant_that_leaves_the_spec_right_after_a_crash_stays_known() {
    let world = World::new().await;
    world.patch_and_end().await;
    world.change(leave_the_spec);
    for _ in 0..2 {
        world.pass().await;
        assert_eq!(
            (&world.tenant()["phase"], &world.tenant()["reason"]),
            (&json!("Orphaned"), &json!("LeftWired"))
        );
    }
    assert_eq!(world.tenant()["injected"].get("intended"), None, "by now it is known to be there");
    assert_eq!(world.finalizers(), json!(["kes-operator.io/tenants"]));
}

#[tokio::test]
async fn a_deletion_right_after_a_crash_waits_for_the_tenant() {
    let world = World::new().await;
    world.patch_and_end().await;
    world.change(be_deleted);
    for _ in 0..2 {
        world.pass().await;
        assert_eq!(world.finalizers(), json!(["kes-operator.io/tenants"]));
    }
    let seal = world.api.get("/api/v1/namespaces/keys/secrets/vault-seal").unwrap();
    assert_eq!(seal["metadata"].get("ownerReferences"), None, "nothing is collected");
}

#[tokio::test]
async fn an_answer_that_was_lost_counts_as_a_patch_until_the_tenant_is_looked_at() {
    let world = World::new().await;
    world.api.lose_answers("/tenants/myminio");
    let reached = world.patch_and_end().await;
    assert!(world.is_wired());
    assert!(reached.injected.is_some_and(|injected| injected.intended));
    // the next pass finds it there
    world.pass().await;
    assert_eq!(world.tenant()["injected"]["keyName"], "minio-default-key");
    assert_eq!(world.tenant()["injected"].get("intended"), None);
}

#[tokio::test]
async fn what_was_noted_and_never_sent_holds_nothing_up() {
    for change in [leave_the_spec, be_deleted] {
        let world = World::new().await;
        world.api.refuse(Method::PATCH, "/tenants/myminio", 500);
        world.patch_and_end().await;
        assert_eq!(world.tenant()["injected"]["intended"], true);
        assert!(!world.is_wired());
        world.change(change);
        world.pass().await;
        world.pass().await;
        assert_eq!(world.finalizers(), json!([]));
    }
    // still asked for, it is as if it had never been noted
    let world = World::new().await;
    world.api.refuse(Method::PATCH, "/tenants/myminio", 500);
    world.patch_and_end().await;
    world.pass().await;
    assert_eq!(world.tenant().get("injected"), None);
    assert_eq!(world.tenant()["reason"], "KeyServiceNotReady");
}
