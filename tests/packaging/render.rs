//! Renders with the real programs, and makes what they print comparable.

use std::{collections::BTreeMap, io::Write as _, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{documents, repository};

/// Objects by kind, namespace and name.
pub(crate) type Objects = BTreeMap<String, Value>;

/// The programs, or nothing where they are not built; with `CI=true` that is a failure and not a reason to skip.
pub(crate) struct Tools {
    helm: PathBuf,
    kubectl: PathBuf,
}

impl Tools {
    pub(crate) fn find(test: &str) -> Option<Self> {
        match (program("helm"), program("kubectl")) {
            (Some(helm), Some(kubectl)) => Some(Self { helm, kubectl }),
            (helm, _) => {
                let missing = if helm.is_none() { "helm" } else { "kubectl" };
                let why = format!(
                    "{missing} is neither in target/cluster/bin nor in PATH; run: tests/cluster/build.sh helm kubectl"
                );
                assert!(!is_ci(), "{why}");
                say_skipped(test, &why);
                None
            }
        }
    }

    /// What a chart renders to with these arguments, as release `kes-operator` in namespace `kes-operator`.
    pub(crate) fn chart(&self, chart: &str, arguments: &[&str]) -> Result<Objects, String> {
        let mut all = vec![
            "template",
            "kes-operator",
            chart,
            "--namespace",
            "kes-operator",
            "--kube-version",
            "1.33.0",
        ];
        all.extend(arguments);
        Ok(objects(&self.helm(&all)?))
    }

    /// What helm prints, or what it says against it.
    pub(crate) fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        run(Command::new(&self.helm).args(arguments))
    }

    /// What a kustomization renders to.
    pub(crate) fn kustomization(&self, folder: &str) -> Objects {
        objects(&run(Command::new(&self.kubectl).args(["kustomize", folder])).unwrap())
    }
}

/// Where nothing may be skipped.
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Says it past the harness, which keeps to itself what a passing test prints; at once, since tests run side by side.
pub(crate) fn say_skipped(test: &str, why: &str) {
    let line = format!("\nSKIPPED packaging, {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Built ones first: their versions are pinned.
fn program(name: &str) -> Option<PathBuf> {
    let built =
        std::env::var_os("K8S_DIR").map_or_else(|| repository().join("target/cluster"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = vec![built.join("bin")];
    places.extend(std::env::split_paths(&path));
    places.into_iter().map(|place| place.join(name)).find(|file| file.is_file())
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.current_dir(repository()).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn objects(text: &str) -> Objects {
    let mut objects = Objects::new();
    for object in documents(text) {
        let before = objects.insert(key(&object), object.clone());
        assert!(before.is_none(), "{} is rendered twice", key(&object));
    }
    objects
}

fn key(object: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let metadata = &object["metadata"];
    format!("{} {}/{}", word(&object["kind"]), word(&metadata["namespace"]), word(&metadata["name"]))
}

/// Removes what each way of installing adds for its own bookkeeping, everything else has to be the same.
pub(crate) fn comparable(mut objects: Objects) -> Objects {
    for object in objects.values_mut() {
        let metadata = &mut object["metadata"];
        if let Some(labels) = metadata["labels"].as_object_mut() {
            labels.retain(|label, _| {
                !["helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"]
                    .contains(&label.as_str())
            });
        }
        if let Some(annotations) = metadata["annotations"].as_object_mut() {
            annotations.remove("helm.sh/resource-policy");
        }
        let metadata = metadata.as_object_mut().unwrap();
        metadata.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()));
    }
    objects
}
