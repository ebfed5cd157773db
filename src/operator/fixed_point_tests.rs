//! Whatever a spec asks for and whatever is done to its objects: passes come to rest, and then they only read.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Context,
    cluster::{self, validate::fixture},
    context::Scope,
    fake_api::FakeApi,
    metrics::Metrics,
    tests::{
        member::Member,
        minio::{Minio, Says},
    },
};
use crate::{
    crd::KesCluster,
    pki::{Authority, ServerNames},
};

const CLUSTER: &str = "/apis/kes-operator.io/v1alpha1/namespaces/keys/kesclusters/vault";
const SECRETS: &str = "/api/v1/namespaces/keys/secrets";
const CLAIM: &str = "/api/v1/namespaces/keys/persistentvolumeclaims/data-vault-0";
/// Passes until nothing is written any more; the worst case is an edit of an owner and of what it owns.
const PASSES: usize = 5;
/// What happens to each of the worlds.
const ROUNDS: usize = 8;

/// A Tenant of the spec, and what there is of it.
#[derive(Clone, Copy, Debug)]
enum Found {
    Missing,
    Stranger,
    Foreign,
    Wired,
    /// With pods that the MinIO Operator looks after.
    Running,
}

/// Choices that a seed decides, so that a failure can be repeated (xorshift64*, Marsaglia 2003 and Vigna 2016).
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn some<'a>(&mut self, from: &[&'a str]) -> Vec<&'a str> {
        from.iter().copied().filter(|_| self.coin()).collect()
    }

    fn enclave(&mut self, name: &str) -> Value {
        let keys: Vec<_> = self.some(&["a", "b", "c"]).into_iter().map(|key| json!({"name": key})).collect();
        let policies = self.some(&["reader", "writer"]);
        let identity = |policy: &&str| json!({"name": format!("app-{policy}"), "policy": policy, "secretName": format!("{name}-{policy}")});
        json!({"name": name, "keys": keys,
            "policies": policies.iter().map(|policy| json!({"name": policy, "allow": ["/v1/key/describe/*"]})).collect::<Vec<_>>(),
            "identities": policies.iter().map(identity).collect::<Vec<_>>()})
    }

    fn spec(&mut self) -> (Value, Vec<Found>) {
        let kinds =
            [Found::Missing, Found::Stranger, Found::Foreign, Found::Wired, Found::Running, Found::Running];
        let tenants: Vec<_> =
            (0..self.below(4)).map(|_| kinds[usize::try_from(self.below(6)).unwrap()]).collect();
        let mut enclaves = vec![self.enclave("default")];
        if self.coin() {
            enclaves.push(self.enclave("second"));
        }
        let mut tenant = |number| {
            json!({"name": "minio", "namespace": format!("team-{number}"), "keyName": "k",
                "mode": if self.below(4) == 0 { "Render" } else { "Patch" },
                "restartPolicy": if self.below(4) == 0 { "Manual" } else { "Automatic" }})
        };
        let named: Vec<_> = (0..tenants.len()).map(&mut tenant).collect();
        let mut spec = json!({
            "deletionPolicy": if self.coin() { "Delete" } else { "Retain" },
            "networkPolicy": {"enabled": self.coin()},
            "monitoring": {"enabled": self.coin()},
            "enclaves": enclaves,
            "tenants": named,
        });
        if self.coin() {
            spec["pod"] = json!({"priorityClassName": "high"});
        }
        if self.coin() {
            spec["tenantSelector"] = json!({"matchLabels": {"encrypt": "yes"}});
        }
        match self.below(6) {
            0 => spec["tls"] = json!({"serverSecretRef": {"name": "mine"}}),
            1 => spec["tls"] = json!({"issuerRef": {"name": "company"}}),
            2 => spec["tls"] = json!({"validityDays": 30}),
            _ => {}
        }
        (spec, tenants)
    }

    /// What other people have put there before: kinds of other operators, certificates, and Secrets under our names.
    fn surroundings(&mut self, api: &FakeApi) {
        let kinds = [
            ("monitoring.coreos.com/v1", &["servicemonitors", "prometheusrules"][..]),
            ("cert-manager.io/v1", &["certificates"][..]),
            ("minio.min.io/v2", &["tenants"][..]),
        ];
        for (group, names) in kinds {
            if self.coin() {
                let kind = |name| json!({"name": name, "kind": name, "singularName": "", "namespaced": true, "verbs": ["get"]});
                let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group,
                    "resources": names.iter().map(kind).collect::<Vec<_>>()});
                api.put(&format!("/apis/{group}"), list);
            }
        }
        for name in ["mine", "vault-issued-tls"] {
            match self.below(3) {
                0 => {}
                1 => api.put(
                    &format!("{SECRETS}/{name}"),
                    json!({"metadata": {"name": name}, "data": {"tls.crt": "bm8="}}),
                ),
                _ => api.put(
                    &format!("{SECRETS}/{name}"),
                    json!({"metadata": {"name": name}, "data": certificate()}),
                ),
            }
        }
        let taken = [
            (format!("{SECRETS}/default-reader"), 4),
            (format!("{SECRETS}/vault-tenant-team-0.minio"), 8),
            ("/api/v1/namespaces/team-1/secrets/kes-client-vault".into(), 4),
            (format!("{SECRETS}/vault-seal"), 16),
        ];
        for (path, bound) in taken {
            if self.below(bound) == 0 {
                let name = path.rsplit('/').next().unwrap();
                api.put(&path, json!({"metadata": {"name": name}, "data": {"theirs": "bm8="}}));
            }
        }
    }
}

/// A certificate of somebody else's authority that clients of the fixture would accept.
fn certificate() -> BTreeMap<&'static str, String> {
    let authority = Authority::new("theirs", Timestamp::now()).unwrap();
    let names = ServerNames { dns: fixture::wanted().checked_names().to_vec(), ip: Vec::new() };
    let pair = authority.issue_server(&names, Timestamp::now(), Duration::from_hours(24 * 90)).unwrap();
    BTreeMap::from([
        ("tls.crt", STANDARD.encode(&pair.certificate)),
        ("tls.key", STANDARD.encode(pair.key.as_bytes())),
        ("ca.crt", STANDARD.encode(authority.certificate_pem())),
    ])
}

/// A world that a seed decides.
struct World {
    seed: u64,
    choices: Choices,
    api: FakeApi,
    context: Context,
    trigger: KesCluster,
    tenants: Vec<Found>,
    minio: IpAddr,
    member: Option<Member>,
}

impl World {
    fn new(seed: u64, minio: IpAddr) -> Self {
        let mut choices = Choices(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (spec, tenants) = choices.spec();
        let api = FakeApi::default();
        let mut cluster = serde_json::to_value(fixture::cluster()).unwrap();
        cluster["spec"] = spec;
        let known: Vec<_> =
            tenants.iter().enumerate().filter_map(|(number, found)| tenant(&api, number, *found)).collect();
        cluster["status"] = json!({"tenants": known});
        api.put(CLUSTER, cluster.clone());
        choices.surroundings(&api);
        let scope = Scope { operator: "ops", namespaces: &[] };
        let context = Context::new(api.client(), fixture::defaults(), Metrics::new(), &scope);
        let trigger = serde_json::from_value(cluster).unwrap();
        Self { seed, choices, api, context, trigger, tenants, minio, member: None }
    }

    /// Something that happens to the objects, in words.
    async fn happens(&mut self, round: usize) -> String {
        if round == 0 {
            return "the beginning".into();
        }
        if round == 1 && self.choices.below(3) > 0 {
            return self.member_starts().await;
        }
        match self.choices.below(6) {
            0 | 1 => self.minio_operator_works(),
            2 => self.volumes_shall_grow(),
            3 => self.wiring_is_removed(),
            _ => self.disturb(),
        }
    }

    async fn member_starts(&mut self) -> String {
        let is_made = |name: &str| {
            let found = self.api.get(&format!("{SECRETS}/{name}")).unwrap_or_default();
            found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "kes-operator"
        };
        if !["vault-server-tls", "vault-seal", "vault-system-admin"].into_iter().all(is_made) {
            return "no start of a member that has no Secrets".into();
        }
        let member = Member::start(&self.api).await;
        member.is_ready(self.choices.below(8) > 0);
        self.member = Some(member);
        "the start of the member".into()
    }

    /// Something that a person does to one of the objects.
    fn disturb(&mut self) -> String {
        let ours: Vec<_> = self
            .api
            .everything()
            .into_iter()
            .filter(|(path, object)| {
                // what a lost Secret means is a rule of its own
                !path.contains("/secrets/")
                    && object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "kes-operator"
            })
            .collect();
        if ours.is_empty() {
            return "nothing, since nothing is there".into();
        }
        let which = usize::try_from(self.choices.below(1 << 20)).unwrap() % ours.len();
        let (path, mut object) = ours[which].clone();
        if self.choices.coin() {
            object["metadata"]["labels"]["app.kubernetes.io/instance"] = "somebody-elses".into();
            self.api.put(&path, object);
            return format!("edited {path}");
        }
        self.api.remove(&path);
        format!("removed {path}")
    }

    /// The certificate into the templates of Tenants that have it, and pods from those where there are none.
    fn minio_operator_works(&self) -> String {
        for number in 0..self.tenants.len() {
            let Some(mut set) = self.api.get(&set_path(number)) else { continue };
            if self.api.get(&path(number)).unwrap().to_string().contains("kes-client-vault") {
                set["spec"]["template"]["spec"]["volumes"] =
                    json!([{"name": "client", "secret": {"secretName": "kes-client-vault"}}]);
                self.api.put(&set_path(number), set.clone());
            }
            if self.api.get(&pod_path(number)).is_none() {
                start_pod(&self.api, number, &set, "2999-01-01T00:00:00Z", self.minio);
            }
        }
        "the MinIO Operator's work".into()
    }

    /// Somebody applies the Tenants from elsewhere.
    fn wiring_is_removed(&self) -> String {
        for number in 0..self.tenants.len() {
            if let Some(mut tenant) = self.api.get(&path(number)) {
                tenant["spec"] = json!({"requestAutoCert": false, "env": []});
                self.api.put(&path(number), tenant);
            }
        }
        "the removal of the wiring".into()
    }

    fn volumes_shall_grow(&mut self) -> String {
        let set = self.api.get("/apis/apps/v1/namespaces/keys/statefulsets/vault").unwrap_or_default();
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data-vault-0", "namespace": "keys", "labels": set["spec"]["selector"]["matchLabels"]},
            "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
        self.api.put(CLAIM, claim);
        let can_grow = self.choices.coin();
        let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"},
            "provisioner": "any", "allowVolumeExpansion": can_grow});
        self.api.put("/apis/storage.k8s.io/v1/storageclasses/fast", class);
        let mut cluster = self.api.get(CLUSTER).unwrap();
        cluster["spec"]["storage"] = json!({"size": format!("{}Gi", 2 + self.choices.below(4))});
        self.api.put(CLUSTER, cluster);
        format!("the wish for larger volumes, which can grow: {can_grow}")
    }

    /// Passes until nothing is written; then one more, which only reads, and not more than it has to.
    async fn rests(&self, what: &str) {
        let seed = self.seed;
        let mut passes = 0;
        loop {
            cluster::reconcile(&self.context, &self.trigger).await.unwrap();
            let writes = self.api.writes();
            if writes.is_empty() {
                break;
            }
            passes += 1;
            assert!(passes <= PASSES, "seed {seed}: after {what} it still writes {writes:?}");
        }
        self.api.reads();
        cluster::reconcile(&self.context, &self.trigger).await.unwrap();
        assert_eq!(
            self.api.writes(),
            Vec::<String>::new(),
            "seed {seed}: after {what} a pass at rest writes"
        );
        let (reads, most) = (self.api.reads(), 24 + 8 * self.tenants.len());
        assert!(
            reads <= most,
            "seed {seed}: after {what} {reads} reads in a pass at rest, {most} are enough"
        );
    }

    /// The reasons in the status.
    fn reasons(&self) -> Vec<String> {
        let status = self.api.get(CLUSTER).unwrap()["status"].clone();
        let lists =
            ["conditions", "tenants"].map(|list| status[list].as_array().cloned().unwrap_or_default());
        let reason = |entry: &Value| entry["reason"].as_str().unwrap_or_default().to_owned();
        lists.iter().flatten().map(reason).collect()
    }
}

fn path(number: usize) -> String {
    format!("/apis/minio.min.io/v2/namespaces/team-{number}/tenants/minio")
}

fn set_path(number: usize) -> String {
    format!("/apis/apps/v1/namespaces/team-{number}/statefulsets/pool")
}

fn pod_path(number: usize) -> String {
    format!("/api/v1/namespaces/team-{number}/pods/pool-0")
}

/// Puts a Tenant there; what the status knows about it.
fn tenant(api: &FakeApi, number: usize, found: Found) -> Option<Value> {
    let endpoint =
        json!({"name": "MINIO_KMS_KES_ENDPOINT", "value": "https://vault.keys.svc.cluster.local:7373"});
    let env = match found {
        Found::Missing => {
            // somebody there has agreed already, or nobody has
            let from = if number == 0 { "keys" } else { "" };
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("team-{number}"),
                "annotations": {"kes-operator.io/allow-from": from}}});
            api.put(&format!("/api/v1/namespaces/team-{number}"), namespace);
            return None;
        }
        Found::Stranger | Found::Running => json!([{"name": "A", "value": "1"}]),
        Found::Foreign => json!([{"name": "MINIO_KMS_SECRET_KEY", "value": "k:x"}]),
        Found::Wired => json!([endpoint]),
    };
    let tenant = json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant", "spec": {"requestAutoCert": false, "env": env},
        "metadata": {"name": "minio", "namespace": format!("team-{number}"), "uid": format!("u{number}"),
            "annotations": {"kes-operator.io/allow-from": "keys"}}});
    api.put(&path(number), tenant);
    if matches!(found, Found::Running) {
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "pool", "generation": 1, "labels": {"v1.min.io/tenant": "minio"}},
            "spec": {"replicas": 1, "selector": {}, "serviceName": "", "template": {"spec": {"containers": [], "volumes": []}}},
            "status": {"replicas": 1, "updatedReplicas": 1, "observedGeneration": 1}});
        api.put(&set_path(number), set.clone());
        start_pod(api, number, &set, "2020-01-01T00:00:00Z", [127, 0, 0, 1].into());
    }
    matches!(found, Found::Wired).then(|| {
        json!({"namespace": format!("team-{number}"), "name": "minio", "phase": "Verified", "reason": "Verified",
            "message": "", "since": "2026-11-25T10:00:00Z", "uid": format!("u{number}"),
            "injected": {"endpoint": "https://vault.keys.svc.cluster.local:7373", "keyName": "k",
                "mount": "ClientCertSecrets", "path": "/tmp/certs/client-0", "restarted": true}})
    })
}

/// The pod that Kubernetes makes from the template of `set`.
fn start_pod(api: &FakeApi, number: usize, set: &Value, created: &str, ip: IpAddr) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": set["spec"]["template"]["spec"],
        "metadata": {"name": "pool-0", "uid": created, "creationTimestamp": created, "labels": {"v1.min.io/tenant": "minio"}},
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}});
    api.put(&pod_path(number), pod);
}

#[tokio::test]
async fn passes_come_to_rest_and_then_only_read() {
    let minio = Minio::start(false, Says::Ready).await;
    let mut seen = BTreeSet::new();
    for seed in 0..64 {
        let mut world = World::new(seed, minio.ip);
        for round in 0..ROUNDS {
            let what = world.happens(round).await;
            world.rests(&what).await;
            seen.extend(world.reasons());
        }
    }
    // a property of worlds in which little happens says little
    let rests = [
        "Serving",
        "WaitingForPod",
        "WaitingForReadiness",
        "CertManagerMissing",
        "WaitingForCertificate",
        "ServerSecretUnusable",
        "ObjectRefused",
        "ExpansionRefused",
        "Verified",
        "WaitingForTemplate",
        "WaitingForPods",
        "RenderPending",
        "ApprovalPending",
        "ForeignKms",
        "SecretTaken",
        "KeyServiceNotReady",
        "TenantMissing",
        "NotAllowed",
        "TenantApiMissing",
        "CertificateLost",
    ];
    let missing: Vec<_> = rests.into_iter().filter(|reason| !seen.contains(*reason)).collect();
    assert!(missing.is_empty(), "no world came to rest with {missing:?}, only with {seen:?}");
}
