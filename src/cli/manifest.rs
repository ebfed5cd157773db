//! Reads manifests of KesClusters from files, as `kubectl apply -f` takes them.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{failure::Failure, init_config::first_line};

/// One document.
#[derive(Debug)]
pub(super) struct Manifest {
    /// File, kind and name, for a person.
    pub(super) place: String,
    /// The file alone.
    pub(super) file: String,
    pub(super) object: Value,
}

/// Every `KesCluster` in `files`. Other kinds are left out; a file without one is an error, since it was given by mistake.
pub(super) fn clusters(files: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let mut found = Vec::new();
    for file in files {
        let before = found.len();
        let text = read(file)?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| {
            Failure::new(
                format!("failed to read '{}' as YAML: {}", file.display(), first_line(&error.to_string())),
                "Correct the line that is named.",
            )
        })?;
        for object in documents {
            if object["kind"] == "KesCluster" {
                let name = object["metadata"]["name"].as_str().unwrap_or("without a name");
                let place = match object["metadata"]["namespace"].as_str() {
                    Some(namespace) => format!("{}: KesCluster {namespace}/{name}", file.display()),
                    None => format!("{}: KesCluster {name}", file.display()),
                };
                found.push(Manifest { place, file: file.display().to_string(), object });
            }
        }
        if found.len() == before {
            return Err(Failure::new(
                format!("'{}' has no KesCluster", file.display()),
                "Give a file with a manifest whose kind is KesCluster.",
            ));
        }
    }
    Ok(found)
}

fn read(file: &Path) -> Result<String, Failure> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        return read.map(|_| text).map_err(|error| Failure::read("manifests", file, &error));
    }
    std::fs::read_to_string(file).map_err(|error| Failure::read("manifests", file, &error))
}
