//! Whole passes with a real key server, and with what Kubernetes and the MinIO Operator do put there by the tests.

use serde_json::Value;

use super::*;
use crate::operator::tests::{
    self,
    member::Member,
    minio::{Minio, Says},
};

const COPY: &str = "/api/v1/namespaces/tenant-lite/secrets/kes-client-vault";
const ORIGINAL: &str = "/api/v1/namespaces/keys/secrets/vault-tenant-tenant-lite.myminio";
const TENANT_PODS: &str = "/api/v1/namespaces/tenant-lite/pods";
const TENANT_SET: &str = "/apis/apps/v1/namespaces/tenant-lite/statefulsets/myminio-pool";

/// A key service that serves, and a Tenant that runs without it.
struct Serving {
    world: World,
    member: Member,
}

impl Serving {
    /// The pass that fills the key service is still to come.
    async fn new() -> Self {
        let world = World::new();
        world.pass().await;
        let member = Member::start(&world.api).await;
        let tenant = json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant",
            "spec": {"requestAutoCert": false, "env": [{"name": "A", "value": "1"}]},
            "metadata": {"name": "myminio", "namespace": "tenant-lite", "uid": "u",
                "annotations": {"kes-operator.io/allow-from": "keys"}}});
        world.api.put(TENANT, tenant);
        Self { world, member }
    }

    /// The same, after the passes that wire the Tenant, and with one pod that the MinIO Operator started from what is in it
    /// now: before the patch or after it.
    async fn patched(pod_ip: std::net::IpAddr, after: bool) -> Self {
        let serving = Self::new().await;
        serving.world.pass().await;
        assert_eq!(serving.reached(), ("Patched".into(), "WaitingForTemplate".into()));
        serving.stateful_set();
        serving.pod(pod_ip, after);
        serving
    }

    fn put(&self, path: &str, mut object: Value) {
        object["metadata"]["labels"] = json!({"v1.min.io/tenant": "myminio"});
        self.world.api.put(path, object);
    }

    fn stateful_set(&self) {
        let volumes = json!([{"name": "client", "secret": {"secretName": "kes-client-vault"}}]);
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "myminio-pool", "generation": 2},
            "spec": {"replicas": 1, "serviceName": "", "selector": {}, "template": {"spec": {"containers": [], "volumes": volumes}}},
            "status": {"replicas": 1, "updatedReplicas": 1, "observedGeneration": 2}});
        self.put(TENANT_SET, set);
    }

    fn pod(&self, ip: std::net::IpAddr, after: bool) {
        let (created, volumes) = match after {
            true => (
                "2999-01-01T00:00:00Z",
                json!([{"name": "client", "secret": {"secretName": "kes-client-vault"}}]),
            ),
            false => ("2020-01-01T00:00:00Z", json!([])),
        };
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "myminio-pool-0", "uid": created, "creationTimestamp": created},
            "spec": {"containers": [], "volumes": volumes},
            "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}});
        self.put(&format!("{TENANT_PODS}/myminio-pool-0"), pod);
    }

    /// Phase and reason of the tenant.
    fn reached(&self) -> (String, String) {
        let tenant = self.world.api.get(CLUSTER).unwrap()["status"]["tenants"][0].clone();
        let text = |field: &str| tenant[field].as_str().unwrap_or_default().to_owned();
        (text("phase"), text("reason"))
    }

    fn message(&self) -> String {
        self.world.api.get(CLUSTER).unwrap()["status"]["tenants"][0]["message"].as_str().unwrap().to_owned()
    }

    /// One pass, what it reached, and whether it wrote the Tenant or took pods away.
    async fn pass(&self) -> (String, String, bool) {
        let writes = self.world.pass().await;
        let (phase, reason) = self.reached();
        (phase, reason, writes.iter().any(|write| write.ends_with(TENANT) || write.starts_with("DELETE")))
    }
}

fn said(phase: &str, reason: &str, touched: bool) -> (String, String, bool) {
    (phase.into(), reason.into(), touched)
}

#[tokio::test]
async fn a_minio_is_never_pointed_at_a_key_service_that_was_not_proved_for_it() {
    let serving = Serving::new().await;
    // the operator reaches the member itself, and a tenant would not reach it
    serving.member.is_reached_at(tests::address());
    let before = serving.world.api.get(TENANT);
    for _ in 0..2 {
        assert_eq!(serving.pass().await, said("Prepared", "ProofFailed", false));
        assert_eq!(serving.world.api.get(TENANT), before);
    }
    assert!(serving.message().contains("failed to generate a data key"), "{}", serving.message());
    assert!(serving.message().contains("MinIO is not pointed at it before it does"), "{}", serving.message());
    assert_eq!(serving.world.ready_reason(), "Serving", "others are served");
    let injected = serving.world.api.get(CLUSTER).unwrap()["status"]["tenants"][0]["injected"].clone();
    assert_eq!(injected, json!(null), "nothing is noted that is not about to be done");
    let told = |event: &Value| event["reason"] == "TenantRestart";
    assert!(!serving.world.api.events().iter().any(told));

    serving.member.is_reached_at(serving.member.address());
    assert_eq!(serving.pass().await, said("Patched", "WaitingForTemplate", true));
    let env = serving.world.api.get(TENANT).unwrap()["spec"]["env"].to_string();
    assert!(env.contains("MINIO_KMS_KES_ENDPOINT") && env.contains(r#""name":"A""#), "{env}");
}

#[tokio::test]
async fn the_pods_of_a_tenant_are_not_restarted_into_a_key_service_that_is_no_longer_proved() {
    let serving = Serving::patched(tests::address(), false).await;
    serving.member.is_reached_at(tests::address());
    for _ in 0..2 {
        assert_eq!(serving.pass().await, said("Patched", "ProofFailed", false));
    }
    let status = serving.world.api.get(CLUSTER).unwrap()["status"]["tenants"][0].clone();
    assert_eq!(status["injected"]["keyName"], "minio-default-key", "what was patched stays on record");
    serving.member.is_reached_at(serving.member.address());
    assert_eq!(serving.pass().await, said("Restarting", "PodsDeleted", true));
    assert!(serving.world.api.get(&format!("{TENANT_PODS}/myminio-pool-0")).is_none());
}

#[tokio::test]
async fn who_only_shows_what_is_missing_has_it_proved_as_well() {
    let serving = Serving::new().await;
    let mut cluster = serving.world.api.get(CLUSTER).unwrap();
    cluster["spec"]["tenants"][0]["mode"] = "Render".into();
    serving.world.api.put(CLUSTER, cluster);
    serving.member.is_reached_at(tests::address());
    assert_eq!(serving.pass().await, said("Prepared", "ProofFailed", false));
    serving.member.is_reached_at(serving.member.address());
    assert_eq!(serving.pass().await, said("Prepared", "RenderPending", false));
}

#[tokio::test]
async fn a_tenant_is_verified_only_when_its_pods_confirm_that_they_can_encrypt() {
    let minio = Minio::start(false, Says::Unable).await;
    let serving = Serving::patched(minio.ip, true).await;
    for (says, problem) in
        [(Says::Unable, "answered 503"), (Says::Offline, "has not joined"), (Says::Nothing, "")]
    {
        minio.says(says);
        assert_eq!(serving.pass().await, said("Restarting", "WaitingForHealth", false), "{says:?}");
        let message = serving.message();
        assert!(message.contains("pod myminio-pool-0") && message.contains(problem), "{message}");
    }
    minio.says(Says::Ready);
    assert_eq!(serving.pass().await, said("Verified", "Verified", false));
}

#[tokio::test]
async fn a_member_that_answers_and_is_not_ready_is_waited_for_and_no_tenant_is_pointed_at_it() {
    let serving = Serving::new().await;
    serving.member.is_ready(false);
    for _ in 0..2 {
        assert_eq!(serving.pass().await, said("Pending", "KeyServiceNotReady", false));
        let (status, reason, message) = condition(&serving.world, "Ready");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "WaitingForReadiness"));
        assert_eq!(message, "waiting for pod vault-0 to become ready");
    }
    assert!(serving.message().contains("waiting for pod vault-0"), "{}", serving.message());
    serving.member.is_ready(true);
    assert_eq!(serving.pass().await, said("Patched", "WaitingForTemplate", true));
    assert_eq!(serving.world.ready_reason(), "Serving");
}

#[tokio::test]
async fn a_tenant_is_not_patched_where_the_name_of_its_secret_is_taken() {
    let serving = Serving::new().await;
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "data": {"tls.key": "dGhlaXJz"},
        "metadata": {"name": "kes-client-vault", "namespace": "tenant-lite"}});
    serving.world.api.put(COPY, theirs);
    let before = (serving.world.api.get(COPY), serving.world.api.get(TENANT));
    for _ in 0..2 {
        assert_eq!(serving.pass().await, said("Conflict", "SecretTaken", false));
        assert_eq!((serving.world.api.get(COPY), serving.world.api.get(TENANT)), before);
    }
    serving.world.api.remove(COPY);
    assert_eq!(serving.pass().await, said("Patched", "WaitingForTemplate", true));
}

#[tokio::test]
async fn a_tenant_whose_certificate_is_lost_gets_no_other_one_and_stays_as_it_is() {
    for wired in [true, false] {
        let serving = if wired {
            Serving::patched(tests::address(), false).await
        } else {
            // it was made, and is on record
            Serving::new().await
        };
        let original = serving.world.api.get(ORIGINAL).unwrap();
        serving.world.api.remove(ORIGINAL);
        let before = (serving.world.api.get(COPY), serving.world.api.get(TENANT));
        for _ in 0..2 {
            assert_eq!(serving.pass().await, said("Blocked", "CertificateLost", false));
            assert!(serving.world.api.get(ORIGINAL).is_none(), "MinIO is known by that very identity");
            assert_eq!((serving.world.api.get(COPY), serving.world.api.get(TENANT)), before);
        }
        assert!(serving.message().contains("vault-tenant-tenant-lite.myminio"), "{}", serving.message());
        let status = serving.world.api.get(CLUSTER).unwrap()["status"]["tenants"][0].clone();
        assert_eq!(status["injected"].is_object(), wired, "what was injected stays on record");
        assert_eq!(serving.world.ready_reason(), "Serving", "it stops nobody else");
        serving.world.api.put(ORIGINAL, original);
        let (phase, reason) =
            if wired { ("Restarting", "PodsDeleted") } else { ("Patched", "WaitingForTemplate") };
        assert_eq!(serving.pass().await, said(phase, reason, true));
    }
}

#[tokio::test]
async fn a_tenant_that_somebody_else_changes_meanwhile_is_left_to_the_next_pass() {
    let serving = Serving::new().await;
    // a refusal of the version that the patch was computed from
    serving.world.api.refuse(Method::PATCH, "/tenants/myminio", 409);
    let before = serving.world.api.get(TENANT);
    assert_eq!(serving.pass().await, said("Prepared", "TenantChanged", false));
    assert_eq!(serving.world.api.get(TENANT), before);
    serving.world.api.refuse(Method::PATCH, "/tenants/myminio", 0);
    assert_eq!(serving.pass().await, said("Patched", "WaitingForTemplate", true));
}

/// MinIO may end again and again for a reason of its own, while something else keeps `Ready` away.
#[tokio::test]
async fn a_pod_that_gave_up_is_deleted_only_where_it_is_known_that_the_key_service_was_away() {
    let minio = Minio::start(false, Says::Ready).await;
    let serving = Serving::patched(minio.ip, true).await;
    let mut cluster = serving.world.api.get(CLUSTER).unwrap();
    cluster["spec"]["enclaves"][0]["policies"] = json!([{"name": "reader", "allow": ["/v1/status"]}]);
    cluster["spec"]["enclaves"][0]["identities"] =
        json!([{"name": "reader", "policy": "reader", "secretName": "application"}]);
    serving.world.api.put(CLUSTER, cluster);
    assert_eq!(serving.pass().await, said("Verified", "Verified", false));
    const APPLICATION: &str = "/api/v1/namespaces/keys/secrets/application";
    let application = serving.world.api.get(APPLICATION).unwrap();
    serving.world.api.remove(APPLICATION);
    assert_eq!(serving.pass().await, said("Verified", "Verified", false));
    assert_eq!(condition(&serving.world, "Ready").0, "False");

    let path = format!("{TENANT_PODS}/myminio-pool-0");
    let mut pod = serving.world.api.get(&path).unwrap();
    pod["status"]["conditions"][0]["status"] = "False".into();
    pod["status"]["containerStatuses"] = json!([{"name": "minio", "image": "", "imageID": "", "ready": false, "restartCount": 5,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2020-01-01T00:00:00Z"}}}]);
    serving.world.api.put(&path, pod);
    for _ in 0..2 {
        assert_eq!(serving.pass().await, said("Verified", "Verified", false));
    }
    // now it is known since when: since now
    serving.world.api.put(APPLICATION, application);
    assert_eq!(serving.pass().await, said("Restarting", "PodsDeleted", true));
    assert_eq!(condition(&serving.world, "Ready").0, "True");
}
