//! Every sample, as a user applies it: first the commands that its comment asks for, then the file, and then each of its
//! `KesCluster`s has to become Ready.

use std::{collections::BTreeSet, fs};

use anyhow::Context as _;
use kes::crd::KesCluster;
use kube::{Api, ResourceExt};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::process::Command;

use crate::{
    runner::{Case, Ending, Outcome},
    tool::{output, repository, run},
    world::{World, is_ready},
};

const FOLDER: &str = "config/samples";
/// `kustomization.yaml` is the list of them all.
const ALL: &str = "kustomization.yaml";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("the_sample_of_a_tenant_works", |world| applied(world, "tenant.yaml")),
        Case::new("the_sample_of_a_cluster_works", |world| applied(world, "kescluster.yaml")),
        Case::new("the_sample_with_an_own_unseal_key_works", |world| applied(world, "own-unseal-key.yaml")),
        Case::new("the_sample_for_applications_works", |world| applied(world, "applications.yaml")),
        Case::new("every_sample_has_its_case", complete),
    ]
}

async fn complete(_: World) -> Outcome {
    let names =
        fs::read_dir(repository(FOLDER))?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: BTreeSet<_> = names.collect();
    let known = ["applications.yaml", "kescluster.yaml", ALL, "own-unseal-key.yaml", "tenant.yaml"];
    assert_eq!(names, known.map(str::to_owned).into());
    Ok(Ending::Held)
}

async fn applied(world: World, name: &str) -> Outcome {
    let path = repository(FOLDER).join(name);
    let text = fs::read_to_string(&path)?;
    for line in text.lines().filter_map(|line| line.strip_prefix("# $ ")) {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", line]);
        match output(shell, "").await {
            Ok(_) => {}
            // one that was run before is not run again
            Err(error) if format!("{error}").contains("already exists") => {}
            Err(error) => return Err(error),
        }
    }
    // strict: a field that the definition does not know is an error and not a warning
    run("kubectl", &["apply", "--validate=strict", "-f", path.to_str().context("its path")?]).await?;
    for document in serde_saphyr::from_multiple::<Value>(&text)? {
        if document["kind"] == "KesCluster" {
            let cluster = KesCluster::deserialize(&document)?;
            let namespace = cluster.namespace().context("its namespace")?;
            let clusters: Api<KesCluster> = Api::namespaced(world.client.clone(), &namespace);
            is_ready(clusters, &cluster.name_any()).await?;
        }
    }
    Ok(Ending::Held)
}
