//! Upgrade of the operator's image by Helm, and back: key servers that name no image follow on their volumes, and what was
//! encrypted before is read after.

use std::path::PathBuf;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    runner::{Case, Ending, Outcome},
    tool::{output, repository, run},
    wait::{rolled_out, until},
    world::{OPERATOR_NAMESPACE, World},
};

const CLUSTER: &str = "vault";

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::alone(
        "after_an_upgrade_of_the_operator_key_servers_read_what_was_encrypted_before",
        there_and_back,
    )]
}

async fn there_and_back(world: World) -> Outcome {
    let nodes = std::env::var_os("K8S_DIR")
        .map(PathBuf::from)
        .is_some_and(|folder| folder.join("run/n1.pid").exists());
    if !nodes {
        return Ok(Ending::Skipped(
            "an image gets a second name in the nodes, and only those of tests/cluster let it (K8S_DIR)"
                .into(),
        ));
    }
    let spec = json!({"enclaves": [{"name": "default", "keys": [{"name": "k"}]}]});
    world.create_cluster(CLUSTER, &spec).await?;
    world.ready(CLUSTER).await?;
    let folder = tempfile::tempdir()?;
    let plugin = folder.path().join("kubectl-kes");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kes"), &plugin)?;
    let kes = async |line: &str, input: &str| {
        let mut command = Command::new(&plugin);
        command.args(line.split(' ')).args(["-n", &world.namespace, "--cluster", CLUSTER]);
        output(command, input).await
    };
    let said: Value = serde_json::from_str(&kes("key encrypt k - --json", "before the upgrade").await?)?;
    let ciphertext = said["ciphertext"].as_str().context("a ciphertext")?.to_owned();
    let claims: Api<PersistentVolumeClaim> = world.api();
    let claim = format!("data-{CLUSTER}-0");
    let volume = claims.get(&claim).await?.uid();

    let script = repository("tests/cluster/scripts/tag-image.sh");
    run(script.to_str().context("its path")?, &["localhost/kes:dev", "localhost/kes:next"]).await?;
    let chart = repository("charts/kes-operator");
    let chart = chart.to_str().context("the path of the chart")?;
    for tag in ["next", "dev"] {
        let image = format!("localhost/kes:{tag}");
        let set = format!("image.tag={tag}");
        let arguments =
            ["-n", OPERATOR_NAMESPACE, "upgrade", "kes-operator", chart, "--reuse-values", "--set", &set];
        run("helm", &arguments).await?;
        rolled_out(Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE), "kes-operator").await?;
        until(
            world.api::<Pod>(),
            &format!("{CLUSTER}-0"),
            &format!("Ready with {image}"),
            |pod: Option<&Pod>| {
                let pod = pod.ok_or("it is gone")?;
                let runs = pod
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.containers.first()?.image.clone())
                    .unwrap_or_default();
                let conditions =
                    pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
                let ready = conditions
                    .iter()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True");
                if runs == image && ready { Ok(()) } else { Err(format!("it runs {runs}, ready: {ready}")) }
            },
        )
        .await?;
        world.ready(CLUSTER).await?;
        assert!(claims.get(&claim).await?.uid() == volume, "the key server is on another volume");
        let plaintext = kes("key decrypt -p k -", &ciphertext).await?;
        assert!(plaintext == "before the upgrade", "what was encrypted before reads {plaintext:?}");
    }
    Ok(Ending::Held)
}
