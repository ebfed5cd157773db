//! Every sample is a valid resource. `tests/e2e/samples.rs` applies each of them to a real cluster.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use kes::crd::{KesCluster, problems};
use serde_json::{Value, json};

use crate::{documents, repository, text};

const FOLDER: &str = "config/samples";
const NOTES: &str = "charts/kes-operator/templates/NOTES.txt";

fn files() -> BTreeSet<String> {
    let names = fs::read_dir(repository().join(FOLDER)).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "kustomization.yaml").collect()
}

fn definition(kind: &str) -> Option<Value> {
    let file = match kind {
        "KesCluster" => "crds/kesclusters.yaml",
        "Tenant" => "tests/cluster/manifests-minio/tenant-crd.yaml",
        // what Kubernetes itself defines is checked on the real cluster
        "Namespace" | "Secret" | "ConfigMap" => return None,
        other => panic!("{other} in a sample: tell this test how to check it"),
    };
    Some(documents(&text(file)).remove(0))
}

#[test]
fn every_sample_fits_its_definition() {
    for file in files() {
        for object in documents(&text(format!("{FOLDER}/{file}"))) {
            let kind = object["kind"].as_str().unwrap();
            let Some(definition) = definition(kind) else { continue };
            let version = definition["spec"]["versions"][0]["name"].as_str().unwrap();
            let group = definition["spec"]["group"].as_str().unwrap();
            assert_eq!(object["apiVersion"], format!("{group}/{version}"), "{file}");
            let found = problems(&definition, &object);
            assert!(found.is_empty(), "{file}, {kind} {}: {found:#?}", object["metadata"]["name"]);
            if kind == "KesCluster" {
                let parsed: Result<KesCluster, _> = serde_json::from_value(object);
                assert!(parsed.is_ok(), "{file}: {}", parsed.unwrap_err());
            }
        }
    }
}

/// Markdown files of the repository's documents.
fn markdown(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            markdown(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Manifests of KesClusters that a document shows, in fences of YAML or handed to kubectl.
fn shown(text: &str) -> Vec<String> {
    let fences = text.split("```").skip(1).step_by(2).filter_map(|fence| fence.strip_prefix("yaml\n"));
    let handed = text.split("<<EOF\n").skip(1).filter_map(|rest| rest.split("EOF\n").next());
    let blanks = regex::Regex::new(r"\{\{.*?\}\}").unwrap();
    let all = fences.chain(handed).filter(|text| text.contains("kind: KesCluster\n"));
    all.map(|text| blanks.replace_all(text, "kes").into_owned()).collect()
}

#[test]
fn every_kescluster_in_a_document_fits_its_definition() {
    let mut files = vec![repository().join("README.md"), repository().join(NOTES)];
    markdown(&repository().join("docs"), &mut files);
    markdown(&repository().join("charts"), &mut files);
    let definition = definition("KesCluster").unwrap();
    let mut seen = BTreeSet::new();
    for file in files {
        for manifest in shown(&fs::read_to_string(&file).unwrap()) {
            for object in documents(&manifest).iter().filter(|object| object["kind"] == "KesCluster") {
                let found = problems(&definition, object);
                assert!(found.is_empty(), "{}: {found:#?}", file.display());
                seen.insert(file.clone());
            }
        }
    }
    for file in ["README.md", NOTES] {
        assert!(seen.contains(&repository().join(file)), "{file} shows no KesCluster any more");
    }
}

#[test]
fn every_sample_begins_with_what_it_shows() {
    for file in files() {
        assert!(text(format!("{FOLDER}/{file}")).starts_with("# "), "{file}");
    }
}

#[test]
fn the_kustomization_has_every_sample_that_needs_no_minio() {
    let listed = documents(&text(format!("{FOLDER}/kustomization.yaml"))).remove(0);
    let listed: BTreeSet<String> = serde_json::from_value(listed["resources"].clone()).unwrap();
    let plain =
        files().into_iter().filter(|file| !text(format!("{FOLDER}/{file}")).contains("\nkind: Tenant\n"));
    assert_eq!(listed, plain.collect());
}

#[test]
fn a_resource_that_does_not_fit_is_found() {
    let definition = definition("KesCluster").unwrap();
    for (spec, problem) in [
        (json!({"replica": 1}), "spec.replica: unknown field"),
        (json!({"replicas": "one"}), "spec.replicas: \"one\" is not of type"),
        (json!({"replicas": 9}), "spec.replicas: 9 is out of bounds"),
        (json!({"deletionPolicy": "Keep"}), "spec.deletionPolicy: \"Keep\" is none of"),
        (json!({"enclaves": []}), "spec.enclaves: 0 items are out of bounds"),
        (json!({"enclaves": [{"name": "a b"}]}), "spec.enclaves[0].name: \"a b\" does not match"),
        (json!({"enclaves": [{"name": "a"}, {"name": "a"}]}), "spec.enclaves[1]: a is there twice"),
        (json!({"tenants": [{"name": "a", "namespace": "b"}]}), "spec.tenants[0].keyName: missing"),
        (json!({"pod": {"nodeSelector": {"a": 1}}}), "spec.pod.nodeSelector.a: 1 is not of type"),
    ] {
        let found = problems(&definition, &json!({"spec": spec}));
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        assert!(found[0].starts_with(problem), "{spec}: {found:?}");
    }
}
