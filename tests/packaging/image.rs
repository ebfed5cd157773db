//! `make image` makes what it promises. The image is built from the binary of the tests, which is larger than a release.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::{
    render::{is_ci, say_skipped},
    repository,
};

fn build(binary: &str, archive: &Path) -> Output {
    let mut command = Command::new(repository().join("image/build.sh"));
    command.env("KES_BINARY", binary).env("ARCHIVE", archive).env_remove("IMAGE").env_remove("BASE");
    command.output().unwrap()
}

/// A file of the archive.
fn read(archive: &Path, file: &str) -> Value {
    let output = Command::new("tar").arg("-xOf").arg(archive).arg(file).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn blob(archive: &Path, descriptor: &Value) -> Value {
    let (kind, digest) = descriptor["digest"].as_str().unwrap().split_once(':').unwrap();
    read(archive, &format!("blobs/{kind}/{digest}"))
}

/// Like every missing program, no buildah is a failure in CI and a named skip elsewhere.
fn has_buildah(test: &str) -> bool {
    let has = Command::new("buildah").arg("--version").output().is_ok();
    assert!(has || !is_ci(), "buildah is not installed; run tests/cluster/install.sh");
    if !has {
        say_skipped(test, "buildah is not installed");
    }
    has
}

#[test]
fn the_image_is_small_and_starts_as_nobody() {
    if !has_buildah("image") {
        return;
    }
    let archive = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kes.tar");
    let output = build(env!("CARGO_BIN_EXE_kes"), &archive);
    // it fails by itself when the image is too large, or when the binary does not start in it
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let index = read(&archive, "index.json");
    let entry = &index["manifests"][0];
    let name = format!("localhost/kes:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], name);
    let manifest = blob(&archive, entry);
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1, "one layer, and none of a base");
    let config = blob(&archive, &manifest["config"])["config"].clone();
    assert_eq!(config["Entrypoint"], json!(["/usr/local/bin/kes"]));
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    std::fs::remove_file(archive).unwrap();
}

#[test]
fn a_missing_binary_is_a_sentence() {
    let output = build("/nowhere/kes", Path::new("/nowhere/kes.tar"));
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no binary /nowhere/kes") && said.contains("make build"), "{said}");
}
