//! What users install: `charts/`, `config/` and `crds/` agree with each other, with the code, and with what their
//! READMEs say. Renders with helm and kubectl, which `tests/cluster/build.sh helm kubectl` makes; no cluster is needed.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by ending")]

mod definitions;
mod equality;
mod image;
mod kind;
mod render;
mod rights;
mod samples;
mod security;
mod values;

use std::path::{Path, PathBuf};

/// The folder of the repository.
fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the repository.
fn text(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a YAML text, without empty ones.
fn documents(text: &str) -> Vec<serde_json::Value> {
    let all: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).unwrap();
    all.into_iter().filter(|document| !document.is_null()).collect()
}
