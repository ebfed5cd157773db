//! What a person types at a terminal with a cluster behind it: `kubectl kes …`, and `kes operator diff`.

use k8s_openapi::api::apps::v1::StatefulSet;
use kes::crd::KesCluster;
use kube::ResourceExt;
use serde_json::json;
use tokio::process::Command;

use crate::{
    runner::{Case, Ending, Outcome},
    tool::{output, output_of},
    world::World,
};

const CLUSTER: &str = "vault";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("kubectl_kes_reaches_the_key_service_without_a_certificate_on_this_machine", plugin),
        Case::new("a_key_that_is_gone_is_told_and_never_made_anew_by_the_operator", key_lost),
        Case::new("diff_says_what_a_manifest_would_change_and_changes_nothing", diff),
    ]
}

async fn plugin(world: World) -> Outcome {
    let spec = json!({"enclaves": [{"name": "default", "keys": [{"name": "k"}]}, {"name": "second"}],
        "tenants": [{"name": "later", "namespace": world.namespace, "keyName": "k"}]});
    world.create_cluster(CLUSTER, &spec).await?;
    world.ready(CLUSTER).await?;
    // as kubectl finds it: by its name in the PATH
    let folder = tempfile::tempdir()?;
    let plugin = folder.path().join("kubectl-kes");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kes"), &plugin)?;
    let kes = |line: &str, input: &str| {
        let mut command = Command::new(&plugin);
        // no certificate, API key or server is set; whoever may read the Secrets is let in
        command.args(line.split(' ')).args(["-n", &world.namespace]).current_dir(folder.path());
        let input = input.to_owned();
        async move { output(command, &input).await }
    };
    let says = |text: &str, words: &[&str]| -> anyhow::Result<()> {
        for word in words {
            assert!(text.contains(word), "{word:?} is not in:\n{text}");
        }
        Ok(())
    };

    let screen = kes("status", "").await?;
    let secret = format!("Secret {CLUSTER}-seal, made by the operator");
    says(&screen, &["the key service answers", "leads, unsealed", &secret, "valid until", "Bootstrapped"])?;
    kes("key create new-key", "").await?;
    says(&kes("key ls", "").await?, &["new-key", "k"])?;
    let data_key = kes("key dek new-key --json", "").await?;
    says(&data_key, &["plaintext", "ciphertext"])?;
    kes("key create theirs --enclave second", "").await?;
    assert!(!kes("key ls", "").await?.contains("theirs"), "enclaves are told apart");
    kes("policy create reader -", r#"{"allow": ["/v1/key/describe/*"]}"#).await?;
    says(&kes("policy ls", "").await?, &["reader"])?;
    says(&kes("enclave info second", "").await?, &["second"])?;
    kes("identity ls", "").await?;
    assert!(!kes("logs --tail 50", "").await?.is_empty(), "there are lines");
    says(&kes("tenants", "").await?, &["later", "Pending", "TenantMissing"])?;

    // for programs
    let screen: serde_json::Value = serde_json::from_str(&kes("status --json", "").await?)?;
    assert!(screen["ready"] == true && screen["cluster"]["initialised"] == true, "{screen}");
    assert!(screen["members"][0]["pod"] == format!("{CLUSTER}-0"), "{screen}");
    let tenants: serde_json::Value = serde_json::from_str(&kes("tenants --json", "").await?)?;
    assert!(tenants[0]["reason"] == "TenantMissing", "{tenants}");
    let lines = kes("logs --tail 5 --json", "").await?;
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        assert!(line["pod"] == format!("{CLUSTER}-0") && line["line"].is_string(), "{line}");
    }
    let paused: serde_json::Value = serde_json::from_str(&kes("pause --json", "").await?)?;
    assert!(paused == json!({"namespace": world.namespace, "name": CLUSTER, "paused": true}), "{paused}");

    says(&kes("pause", "").await?, &[CLUSTER])?;
    world.condition(CLUSTER, "Paused", "True", "Paused").await?;
    kes("resume", "").await?;
    world.ready(CLUSTER).await?;
    let left: Vec<_> =
        std::fs::read_dir(folder.path())?.filter_map(Result::ok).map(|file| file.file_name()).collect();
    assert!(left == ["kubectl-kes"], "something was written: {left:?}");
    Ok(Ending::Held)
}

async fn key_lost(world: World) -> Outcome {
    let spec = json!({"enclaves": [{"name": "default", "keys": [{"name": "k"}, {"name": "other"}]}]});
    world.create_cluster(CLUSTER, &spec).await?;
    world.ready(CLUSTER).await?;
    let folder = tempfile::tempdir()?;
    let plugin = folder.path().join("kubectl-kes");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kes"), &plugin)?;
    let kes = async |line: &str| {
        let mut command = Command::new(&plugin);
        command.args(line.split(' ')).args(["-n", &world.namespace]);
        output(command, "").await
    };
    kes("key rm k").await?;
    // an edit, since nobody tells the operator about keys
    let more = json!({"enclaves": [{"name": "default", "keys": [{"name": "k"}, {"name": "other"}, {"name": "new"}]}]});
    world.replace_spec(CLUSTER, &more).await?;
    let cluster = world.condition(CLUSTER, "Degraded", "True", "KeyLost").await?;
    assert!(cluster.status.as_ref().and_then(|status| status.keys) == Some(2), "{:?}", cluster.status);
    let keys = kes("key ls").await?;
    assert!(keys.contains("new") && !keys.lines().any(|line| line.ends_with(" k")), "{keys}");
    // who means it makes it
    kes("key create k").await?;
    world.replace_spec(CLUSTER, &spec).await?;
    world.condition(CLUSTER, "Degraded", "False", "AsWanted").await?;
    Ok(Ending::Held)
}

async fn diff(world: World) -> Outcome {
    let manifest = |spec: serde_json::Value| {
        json!({"apiVersion": "kes-operator.io/v1alpha1", "kind": "KesCluster",
            "metadata": {"name": CLUSTER, "namespace": world.namespace}, "spec": spec})
        .to_string()
    };
    let ask = |manifest: String| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kes"));
        command.args(["operator", "diff", "-f", "-"]);
        async move { output_of(command, &manifest, 1).await }
    };
    let keys = json!([{"name": "default", "keys": [{"name": "k"}]}]);
    // before there is anything
    let text = ask(manifest(json!({"enclaves": keys}))).await?;
    for object in ["KesCluster", "StatefulSet", "Service", "ConfigMap"] {
        let line = format!("{object} {}/{CLUSTER}", world.namespace);
        assert!(
            text.lines().any(|found| found.starts_with(&line) && found.ends_with("is made")),
            "{line}:\n{text}"
        );
    }
    assert!(text.contains(&format!("Secret {}/{CLUSTER}-seal: is made", world.namespace)), "{text}");
    assert!(world.api::<KesCluster>().get_opt(CLUSTER).await?.is_none(), "nothing is made by asking");

    world.create_cluster(CLUSTER, &json!({"enclaves": keys})).await?;
    world.ready(CLUSTER).await?;
    let set = world.api::<StatefulSet>().get(CLUSTER).await?;
    let changed = json!({"enclaves": keys, "pod": {"priorityClassName": "system-cluster-critical"}});
    let text = ask(manifest(changed)).await?;
    let said = text
        .lines()
        .any(|line| line.trim() == "+ spec.template.spec.priorityClassName: \"system-cluster-critical\"");
    assert!(said, "{text}");
    let service = format!("Service {}/{CLUSTER}: stays as it is", world.namespace);
    assert!(text.contains(&service), "{text}");
    let after = world.api::<StatefulSet>().get(CLUSTER).await?;
    assert!(
        (after.uid(), after.metadata.generation) == (set.uid(), set.metadata.generation),
        "it was touched"
    );
    // the definition of this build is the cluster's
    let mut command = Command::new(env!("CARGO_BIN_EXE_kes"));
    command.args(["operator", "crds", "--check"]);
    output(command, "").await?;
    Ok(Ending::Held)
}
