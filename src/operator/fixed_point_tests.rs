//! Whatever a spec asks for and whatever is done to its objects: passes come to rest, and then they only read.

use serde_json::{Value, json};

use super::{
    Context,
    cluster::{self, validate::fixture},
    context::Scope,
    fake_api::FakeApi,
    metrics::Metrics,
};
use crate::crd::KesCluster;

const CLUSTER: &str = "/apis/kes-operator.io/v1alpha1/namespaces/keys/kesclusters/vault";
/// Passes until nothing is written any more; the worst case is an edit of an owner and of what it owns.
const PASSES: usize = 5;

/// A Tenant of the spec, and what there is of it.
#[derive(Clone, Copy, Debug)]
enum Found {
    Missing,
    Stranger,
    Foreign,
    Wired,
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
        let kinds = [Found::Missing, Found::Stranger, Found::Foreign, Found::Wired];
        let tenants: Vec<_> =
            (0..self.below(4)).map(|_| kinds[usize::try_from(self.below(4)).unwrap()]).collect();
        let mut enclaves = vec![self.enclave("default")];
        if self.coin() {
            enclaves.push(self.enclave("second"));
        }
        let tenant = |number| json!({"name": "minio", "namespace": format!("team-{number}"), "keyName": "k"});
        let mut spec = json!({
            "deletionPolicy": if self.coin() { "Delete" } else { "Retain" },
            "networkPolicy": {"enabled": self.coin()},
            "enclaves": enclaves,
            "tenants": (0..tenants.len()).map(tenant).collect::<Vec<_>>(),
        });
        if self.coin() {
            spec["pod"] = json!({"priorityClassName": "high"});
        }
        if self.coin() {
            spec["tenantSelector"] = json!({"matchLabels": {"encrypt": "yes"}});
        }
        (spec, tenants)
    }
}

/// Something that a person does to one of the objects.
fn disturb(api: &FakeApi, choices: &mut Choices) -> String {
    let ours: Vec<_> = api
        .everything()
        .into_iter()
        .filter(|(path, object)| {
            // what a lost Secret means is a rule of its own
            !path.contains("/secrets/")
                && object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "kes-operator"
        })
        .collect();
    let which = usize::try_from(choices.below(1 << 20)).unwrap() % ours.len();
    let (path, mut object) = ours[which].clone();
    if choices.coin() {
        object["metadata"]["labels"]["app.kubernetes.io/instance"] = "somebody-elses".into();
        api.put(&path, object);
        return format!("edited {path}");
    }
    api.remove(&path);
    format!("removed {path}")
}

async fn comes_to_rest(seed: u64) {
    let mut choices = Choices(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (spec, tenants) = choices.spec();
    let api = FakeApi::default();
    let mut cluster = serde_json::to_value(fixture::cluster()).unwrap();
    cluster["spec"] = spec;
    let mut known = Vec::new();
    for (number, found) in tenants.iter().enumerate() {
        let namespace = format!("team-{number}");
        let endpoint =
            json!({"name": "MINIO_KMS_KES_ENDPOINT", "value": "https://vault.keys.svc.cluster.local:7373"});
        let env = match found {
            Found::Missing => continue,
            Found::Stranger => json!([{"name": "A", "value": "1"}]),
            Found::Foreign => json!([{"name": "MINIO_KMS_SECRET_KEY", "value": "k:x"}]),
            Found::Wired => json!([endpoint]),
        };
        let tenant = json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant", "spec": {"env": env},
            "metadata": {"name": "minio", "namespace": namespace, "uid": format!("u{number}"),
                "annotations": {"kes-operator.io/allow-from": "keys"}}});
        api.put(&format!("/apis/minio.min.io/v2/namespaces/{namespace}/tenants/minio"), tenant);
        if matches!(found, Found::Wired) {
            known.push(
                json!({"namespace": namespace, "name": "minio", "phase": "Verified", "reason": "Verified",
                "message": "", "since": "2026-11-25T10:00:00Z", "uid": format!("u{number}"),
                "injected": {"endpoint": "https://vault.keys.svc.cluster.local:7373", "keyName": "k",
                    "mount": "ClientCertSecrets", "path": "/tmp/certs/client-0", "restarted": true}}),
            );
        }
    }
    cluster["status"] = json!({"tenants": known});
    api.put(CLUSTER, cluster.clone());
    let trigger: KesCluster = serde_json::from_value(cluster).unwrap();
    let scope = Scope { operator: "ops", namespaces: &[] };
    let context = Context::new(api.client(), fixture::defaults(), Metrics::new(), &scope);

    for disturbances in 0..4 {
        let what = match disturbances {
            0 => "the beginning".to_owned(),
            _ => disturb(&api, &mut choices),
        };
        let mut passes = 0;
        loop {
            cluster::reconcile(&context, &trigger).await.unwrap();
            let writes = api.writes();
            if writes.is_empty() {
                break;
            }
            passes += 1;
            assert!(passes <= PASSES, "seed {seed}: after {what} it still writes {writes:?}");
        }
        api.reads();
        cluster::reconcile(&context, &trigger).await.unwrap();
        assert_eq!(api.writes(), Vec::<String>::new(), "seed {seed}: after {what} a pass at rest writes");
        let (reads, most) = (api.reads(), 24 + 8 * tenants.len());
        assert!(reads <= most, "seed {seed}: {reads} reads in a pass at rest, {most} are enough");
    }
}

#[tokio::test]
async fn passes_come_to_rest_and_then_only_read() {
    for seed in 0..64 {
        comes_to_rest(seed).await;
    }
}
