//! The scripts in `kind/` ask `kind` for the right things. No machine of ours runs kind: a stand-in writes down what it is asked.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::repository;

/// A folder with a stand-in for kind that has this list of clusters.
struct Machine {
    folder: PathBuf,
}

impl Machine {
    fn new(name: &str, clusters: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("repository")).unwrap();
        // the scripts write beside themselves
        for file in ["up.sh", "load-images.sh", "cluster.yaml"] {
            fs::create_dir_all(folder.join("repository/kind")).unwrap();
            let copy = folder.join("repository/kind").join(file);
            fs::copy(repository().join("kind").join(file), copy).unwrap();
        }
        let kind = format!(
            "#!/bin/sh\necho \"$@\" >> {0}/asked\ncase \"$1 $2\" in 'get clusters') echo '{clusters}' ;; 'get kubeconfig') echo config ;; esac\n",
            folder.display()
        );
        for (name, script) in [("kind", kind.as_str()), ("kubectl", "#!/bin/sh\n")] {
            fs::write(folder.join(name), script).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder }
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.folder.display());
        let mut command = Command::new(self.folder.join("repository/kind").join(script));
        command.args(arguments).env("PATH", path).env_remove("KIND_NODE_IMAGE").output().unwrap()
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.folder.join("asked")).unwrap_or_default()
    }
}

#[test]
fn the_cluster_is_created_once_and_its_address_is_nobody_elses() {
    let machine = Machine::new("kind-fresh", "");
    assert!(machine.run("up.sh", &[]).status.success());
    assert!(machine.asked().contains("create cluster --config"), "{}", machine.asked());
    let kubeconfig = machine.folder.join("repository/target/kind/kubeconfig");
    assert_eq!(fs::read_to_string(&kubeconfig).unwrap(), "config\n");
    assert_eq!(fs::metadata(&kubeconfig).unwrap().permissions().mode() & 0o777, 0o600);

    let machine = Machine::new("kind-again", "other\nkes-demo");
    assert!(machine.run("up.sh", &[]).status.success());
    assert!(!machine.asked().contains("create"), "{}", machine.asked());
}

#[test]
fn archives_go_to_the_demos_cluster_and_a_missing_one_stops() {
    let machine = Machine::new("kind-load", "kes-demo");
    let archive = machine.folder.join("kes.tar");
    fs::write(&archive, "").unwrap();
    let archive = archive.to_str().unwrap();
    assert!(machine.run("load-images.sh", &[archive]).status.success());
    assert_eq!(machine.asked(), format!("load image-archive --name kes-demo {archive}\n"));
    let output = machine.run("load-images.sh", &["/nowhere.tar"]);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("no image archive /nowhere.tar"));
}
