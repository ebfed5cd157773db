//! An invalid KesCluster is refused by the API server where a rule can say so, else by the operator in a condition; what
//! runs is not touched either way.

use kes::crd::KesCluster;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::{
    runner::{Case, Ending, Outcome},
    world::World,
};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("invalid_specs_are_refused_by_the_api_server", refused_by_the_api_server),
        Case::new("bad_names_are_refused_by_the_api_server", bad_names),
        Case::new("an_invalid_change_of_a_running_cluster_changes_nothing", a_running_cluster),
    ]
}

fn spec() -> Value {
    json!({
        "enclaves": [{
            "name": "default",
            "keys": [{"name": "first"}],
            "policies": [{"name": "reader", "allow": ["/v1/key/decrypt/*"], "deny": ["/v1/key/decrypt/secret-*"]}],
            "identities": [{"name": "app", "policy": "reader", "secretName": "app-kes"}],
        }],
        "tenants": [{"name": "ghost", "namespace": "nowhere", "keyName": "second"}],
    })
}

/// Sets the value at a path such as `enclaves.0.name`; what is missing on the way is made.
fn set(spec: &mut Value, path: &str, value: Value) {
    let mut place = spec;
    for step in path.split('.') {
        place = match step.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[step],
        };
    }
    *place = value;
}

fn twice(path: &str) -> Value {
    let spec = spec();
    let mut place = &spec;
    for step in path.split('.') {
        place = step.parse::<usize>().map_or_else(|_| &place[step], |index| &place[index]);
    }
    json!([place[0], place[0]])
}

/// Where, what, and words of the refusal: the field, and what would be right.
fn table() -> Vec<(&'static str, Value, &'static str)> {
    let odd = "spec.replicas must be odd (1, 3, 5 or 7)";
    let names = "should match '^[0-9A-Za-z_-]+$'";
    vec![
        ("replicas", json!(2), odd),
        ("replicas", json!(4), odd),
        ("replicas", json!(6), odd),
        ("replicas", json!(0), "spec.replicas in body should be greater than or equal to 1"),
        ("replicas", json!(-1), "spec.replicas in body should be greater than or equal to 1"),
        ("replicas", json!(9), "spec.replicas in body should be less than or equal to 7"),
        ("replicas", json!("one"), "spec.replicas in body must be of type integer"),
        ("image", json!(""), "spec.image in body should be at least 1 chars long"),
        ("image", json!("i".repeat(513)), "spec.image: Too long: may not be more than 512"),
        ("imagePullPolicy", json!("Sometimes"), "supported values: \"Always\", \"IfNotPresent\", \"Never\""),
        ("storage", json!({"size": "much"}), "spec.storage.size in body should match"),
        ("storage", json!({"size": "1e3"}), "spec.storage.size in body should match"),
        ("storage", json!({"size": "-1Gi"}), "spec.storage.size in body should match"),
        ("storage", json!({"size": "0"}), "spec.storage.size must be greater than 0"),
        ("storage", json!({"size": "0.0Gi"}), "spec.storage.size must be greater than 0"),
        (
            "storage",
            json!({"storageClassName": "Not A Class"}),
            "spec.storage.storageClassName in body should match",
        ),
        ("deletionPolicy", json!("Forget"), "supported values: \"Retain\", \"Delete\""),
        ("seal", json!({}), "spec.seal.secretRef: Required value"),
        ("seal", json!({"secretRef": {}}), "spec.seal.secretRef.name: Required value"),
        ("seal", json!({"secretRef": {"name": "UPPER"}}), "spec.seal.secretRef.name in body should match"),
        (
            "seal",
            json!({"secretRef": {"name": "mine", "key": "a/b"}}),
            "spec.seal.secretRef.key in body should match",
        ),
        ("enclaves", json!([]), "spec.enclaves in body should have at least 1 items"),
        ("enclaves", many_enclaves(17), "spec.enclaves: Too many: 17: must have at most 16 items"),
        ("enclaves", twice("enclaves"), "spec.enclaves[1]: Duplicate value"),
        ("enclaves", json!("default"), "spec.enclaves in body must be of type array"),
        ("enclaves.0.name", json!("a b"), names),
        ("enclaves.0.name", json!("e".repeat(81)), "spec.enclaves[0].name: Too long"),
        ("enclaves.0.keys.0.name", json!("a/b"), names),
        ("enclaves.0.keys.0.name", json!(""), "should be at least 1 chars long"),
        ("enclaves.0.keys", twice("enclaves.0.keys"), "spec.enclaves[0].keys[1]: Duplicate value"),
        ("enclaves.0.policies.0.name", json!("p q"), names),
        ("enclaves.0.policies.0.allow", json!([""]), "should be at least 1 chars long"),
        (
            "enclaves.0.policies.0.deny",
            json!(["v1/key/decrypt/*"]),
            "spec.enclaves[0].policies[0].deny[0] in body should match '^/'",
        ),
        (
            "enclaves.0.policies",
            twice("enclaves.0.policies"),
            "spec.enclaves[0].policies[1]: Duplicate value",
        ),
        (
            "enclaves.0.identities.0",
            json!({"name": "app", "secretName": "app-kes"}),
            "spec.enclaves[0].identities[0].policy: Required value",
        ),
        ("enclaves.0.identities.0.secretName", json!("A"), "secretName in body should match"),
        ("enclaves.0.identities.0.secretName", json!("a..b"), "secretName in body should match"),
        (
            "enclaves.0.identities",
            twice("enclaves.0.identities"),
            "spec.enclaves[0].identities[1]: Duplicate value",
        ),
        (
            "tenants.0",
            json!({"name": "ghost", "namespace": "nowhere"}),
            "spec.tenants[0].keyName: Required value",
        ),
        ("tenants.0.namespace", json!("No"), "spec.tenants[0].namespace in body should match"),
        ("tenants.0.name", json!("n".repeat(64)), "spec.tenants[0].name: Too long"),
        ("tenants.0.keyName", json!("k".repeat(81)), "spec.tenants[0].keyName: Too long"),
        ("tenants.0.enclave", json!("other"), "spec.tenants[].enclave must be 'default'"),
        (
            "tenantSelector",
            json!({"matchLabels": {"a": "b"}, "enclave": "other"}),
            "spec.tenantSelector.enclave must be 'default'",
        ),
        ("tenantSelector", json!({}), "spec.tenantSelector needs matchLabels or matchExpressions"),
        (
            "tenantSelector",
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "values are needed for In and NotIn",
        ),
        (
            "tenantSelector",
            json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
            "must be absent for Exists and DoesNotExist",
        ),
        (
            "tls",
            json!({"serverSecretRef": {"name": "mine"}, "issuerRef": {"name": "ours"}}),
            "spec.tls takes serverSecretRef or issuerRef, not both",
        ),
        (
            "tls",
            json!({"validityDays": 0}),
            "spec.tls.validityDays in body should be greater than or equal to 1",
        ),
        ("enclaves", json!([{"name": "other"}]), "spec.enclaves must have one called 'default'"),
        ("tenants.0.restartPolicy", json!("Never"), "supported values: \"Automatic\", \"Manual\""),
        (
            "tenants.0.mount",
            json!("Elsewhere"),
            "supported values: \"Auto\", \"ClientCertSecrets\", \"AdditionalVolumes\"",
        ),
        ("tenants", twice("tenants"), "spec.tenants[1]: Duplicate value"),
        ("paused", json!("yes"), "spec.paused in body must be of type boolean"),
        ("pod", json!({"tolerations": {}}), "spec.pod.tolerations in body must be of type array"),
        ("pod", json!({"priorityClassName": "A B"}), "spec.pod.priorityClassName in body should match"),
    ]
}

fn many_enclaves(count: usize) -> Value {
    (0..count)
        .map(|index| json!({"name": if index == 0 { "default".into() } else { format!("e{index}") }}))
        .collect()
}

async fn refused_by_the_api_server(world: World) -> Outcome {
    let mut wrong = Vec::new();
    for (path, value, words) in table() {
        let mut spec = spec();
        set(&mut spec, path, value.clone());
        match world.create_cluster("refused", &spec).await {
            Ok(_) => {
                wrong.push(format!("{path} = {value} was accepted"));
                let _ = world.raw_clusters().delete("refused", &Default::default()).await;
            }
            Err(kube::Error::Api(status)) if status.code == 422 => {
                let is_told = status.message.contains(words) && status.message.contains("spec");
                if !is_told {
                    wrong.push(format!("{path} = {value}: {:?} is not in: {}", words, status.message));
                }
            }
            Err(error) => wrong.push(format!("{path} = {value}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.create_cluster("fine", &spec()).await?;
    Ok(Ending::Held)
}

async fn bad_names(world: World) -> Outcome {
    for (name, words) in [
        ("n".repeat(41), "metadata.name must be 40 characters or fewer"),
        ("1st".into(), "metadata.name must begin with a letter"),
        ("minio-kms".into(), "metadata.name must not begin with 'minio'"),
        ("a.b".into(), "metadata.name must begin with a letter"),
        ("UPPER".into(), "metadata.name: Invalid value"),
    ] {
        let error = world.create_cluster(&name, &spec()).await.expect_err(&name).to_string();
        assert!(error.contains(words), "{name}: {error}");
    }
    Ok(Ending::Held)
}

async fn a_running_cluster(world: World) -> Outcome {
    let name = "running";
    world.create_cluster(name, &spec()).await?;
    world.ready(name).await?;
    let before = world.fingerprint(name).await?;
    assert!(before.len() > 8, "everything is labelled: {before:?}");

    // what the API server refuses, because of what runs
    for (path, value, words) in [
        ("seal", json!({"secretRef": {"name": "mine"}}), "spec.seal cannot be changed"),
        ("storage", json!({"size": "1Mi"}), "spec.storage.size cannot shrink"),
        ("storage", json!({"storageClassName": "other"}), "spec.storage.storageClassName cannot be changed"),
        ("replicas", json!(2), "spec.replicas must be odd"),
    ] {
        let mut wrong = spec();
        set(&mut wrong, path, value);
        let error = world.replace_spec(name, &wrong).await.expect_err(path).to_string();
        assert!(error.contains(words), "{path}: {error}");
    }

    // what only the operator sees: accepted, refused in the condition
    let two_with_one_secret = json!([
        {"name": "app", "policy": "reader", "secretName": "app-kes"},
        {"name": "bpp", "policy": "reader", "secretName": "app-kes"},
    ]);
    for (path, value, field, fix) in [
        ("replicas", json!(3), "spec.replicas", "set it to 1"),
        (
            "enclaves.0.identities.0.policy",
            json!("none"),
            "spec.enclaves[0].identities[0].policy",
            "has no policy none",
        ),
        ("enclaves.0.identities.0.secretName", json!("running-ca"), "secretName", "meant for two things"),
        ("enclaves.0.identities", two_with_one_secret, "secretName", "meant for two things"),
        ("tenants.0.policy", json!("none"), "spec.tenants[0].policy", "has no policy none"),
    ] {
        let mut wrong = spec();
        set(&mut wrong, path, value);
        world.replace_spec(name, &wrong).await?;
        let cluster = world.condition(name, "Ready", "False", "InvalidSpec").await?;
        let message = ready_message(&cluster);
        assert!(message.contains(field) && message.contains(fix), "{path}: {message}");
        assert_eq!(world.fingerprint(name).await?, before, "{path}: something was touched");
    }
    world.replace_spec(name, &spec()).await?;
    world.ready(name).await?;
    assert_eq!(world.fingerprint(name).await?, before, "the way back touches nothing either");
    let api = world.raw_clusters();
    let cluster = api.get(name).await?;
    // kept out of the way of the status: what was refused has left no trace in the spec
    assert_eq!(cluster.data["spec"]["replicas"], 1);
    api.replace(name, &PostParams { dry_run: true, ..PostParams::default() }, &cluster).await?;
    Ok(Ending::Held)
}

fn ready_message(cluster: &KesCluster) -> String {
    let status = cluster.status.clone().unwrap_or_default();
    let ready = status.conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ready.map(|condition| condition.message).unwrap_or_default()
}
