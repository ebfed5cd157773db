//! `kubectl kes`: the same binary under the name `kubectl-kes`. It finds KesClusters as kubectl does, and brings its own
//! way to the key service, so that no certificate has to be copied to anybody's machine.

mod forward;
mod logs;
mod place;
mod status;
mod status_json;
mod tenants;
mod way;

use std::ffi::OsStr;

use clap::CommandFactory as _;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use serde_json::json;

use self::place::Place;
use super::{
    enclave,
    failure::Failure,
    identity, key, kubernetes, ls, policy, secret,
    terminal::{self, Report},
};
use crate::crd::KesCluster;

/// Names of the binary under which it is the plugin.
const NAMES: [&str; 2] = ["kubectl-kes", "kubectl_kes"];

/// Look after KesClusters and their keys.
#[derive(clap::Parser)]
#[command(
    name = "kubectl-kes",
    bin_name = "kubectl kes",
    version = super::version(),
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "\
Examples:
  kubectl kes status -n keys
  kubectl kes key create -n keys my-key
  kubectl kes enclave ls -n keys --cluster vault"
)]
pub(super) struct KubectlKes {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Show a KesCluster on one screen: members, seal, certificate, tenants, last events
    Status(status::Status),
    /// Show its MinIO tenants, or what has to be in one
    Tenants(tenants::Tenants),
    /// Show what its key servers log
    Logs(logs::Logs),
    /// Stop the operator from changing anything about it; key servers go on
    Pause(Paused),
    /// Let the operator go on
    Resume(Paused),
    /// Create and see keys, and encrypt with them
    Key(key::Key),
    /// Keep small values, such as passwords and tokens
    Secret(secret::Secret),
    /// Create, assign and see policies
    Policy(policy::Policy),
    /// Create and see identities
    Identity(identity::Args),
    /// Create and see enclaves
    #[command(subcommand)]
    Enclave(enclave::Enclave),
    /// List the names of keys, identities or policies
    Ls(ls::Ls),
}

/// `pause` and `resume`.
#[derive(clap::Args)]
struct Paused {
    #[command(flatten)]
    report: Report,
}

/// `pause --json` and `resume --json`.
#[derive(Serialize)]
struct Now<'a> {
    namespace: &'a str,
    name: &'a str,
    paused: bool,
}

/// Verbs that the plugin has from `kes`, and whose examples say so.
const SHARED: [&str; 6] = ["key", "secret", "policy", "identity", "enclave", "ls"];

/// What stands before a command in a text of help.
const BEFORE: [&str; 4] = ["\n  ", "$(", "| ", "'"];

/// The command line of the plugin, in whose help nothing is called otherwise than a person calls it.
pub(super) fn command() -> clap::Command {
    spoken(KubectlKes::command())
}

fn spoken(command: clap::Command) -> clap::Command {
    let command = match command.get_after_help().map(ToString::to_string) {
        None => command,
        Some(mut text) => {
            for (verb, before) in SHARED.iter().flat_map(|verb| BEFORE.map(|before| (verb, before))) {
                text = text.replace(&format!("{before}kes {verb}"), &format!("{before}kubectl kes {verb}"));
            }
            command.after_help(text)
        }
    };
    command.mut_subcommands(spoken)
}

/// Whether the process was started as the plugin.
pub(super) fn is_asked_for(program: Option<&OsStr>) -> bool {
    let name = program.map(std::path::Path::new).and_then(|path| path.file_stem());
    name.is_some_and(|name| NAMES.iter().any(|known| name == *known))
}

impl KubectlKes {
    pub(super) fn run(self) -> Result<String, Failure> {
        // the way to the key service is worked on beside the verb that uses it
        super::multi_threaded()?.block_on(self.go())
    }

    async fn go(self) -> Result<String, Failure> {
        let Self { place, verb } = self;
        match verb {
            Verb::Status(status) => status.run(&place).await,
            Verb::Tenants(tenants) => tenants.run(&place).await,
            Verb::Logs(logs) => logs.run(&place).await,
            Verb::Pause(Paused { report }) => pause(&place, true, report.json).await,
            Verb::Resume(Paused { report }) => pause(&place, false, report.json).await,
            Verb::Key(key) => {
                way::open(&place).await?;
                key.run().await
            }
            Verb::Secret(secret) => {
                way::open(&place).await?;
                secret.run().await
            }
            Verb::Policy(policy) => {
                way::open(&place).await?;
                policy.run().await
            }
            Verb::Identity(identity) => {
                if !identity.is_local() {
                    way::open(&place).await?;
                }
                identity.run().await
            }
            Verb::Enclave(enclave) => {
                way::open(&place).await?;
                enclave.run().await
            }
            Verb::Ls(ls) => {
                way::open(&place).await?;
                ls.run().await
            }
        }
    }
}

async fn pause(place: &Place, paused: bool, as_json: bool) -> Result<String, Failure> {
    let (client, cluster) = place.find().await?;
    let (namespace, name) = place::names(&cluster);
    let api: Api<KesCluster> = Api::namespaced(client, &namespace);
    let patch = Patch::Merge(json!({"spec": {"paused": paused}}));
    let step = if paused { "pause it" } else { "let it go on" };
    let params = PatchParams { field_manager: Some("kubectl-kes".into()), ..PatchParams::default() };
    api.patch(&name, &params, &patch).await.map_err(|error| kubernetes::failed(step, &error))?;
    if as_json {
        return Ok(json_line(&Now { namespace: &namespace, name: &name, paused }));
    }
    Ok(match (cluster.spec.paused, paused) {
        (true, true) => format!("KesCluster {namespace}/{name} was paused already\n"),
        (false, true) => format!(
            "KesCluster {namespace}/{name} is paused: the operator changes nothing until 'kubectl kes resume'\n"
        ),
        (true, false) => format!("KesCluster {namespace}/{name} goes on\n"),
        (false, false) => format!("KesCluster {namespace}/{name} was not paused\n"),
    })
}

fn json_line(value: &impl Serialize) -> String {
    terminal::json(value) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_the_plugin_by_its_name() {
        for (program, is) in [
            ("/usr/local/bin/kubectl-kes", true),
            ("kubectl-kes.exe", true),
            ("kubectl_kes", true),
            ("/usr/bin/kes", false),
            ("", false),
        ] {
            assert_eq!(is_asked_for(Some(OsStr::new(program))), is, "{program}");
        }
        assert!(!is_asked_for(None));
    }

    #[test]
    fn no_flag_of_the_plugin_hides_one_of_its_verbs() {
        command().debug_assert();
    }

    /// Calls in the help of `command` and of its verbs that a person who has the plugin alone cannot make.
    fn strange(command: &clap::Command, found: &mut Vec<String>) {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let calls = text.match_indices("kes ").filter(|(at, _)| !text[..*at].ends_with("kubectl "));
        let calls = calls.map(|(at, _)| text[at..].lines().next().unwrap_or_default().to_owned());
        // what only `kes` has
        let others = ["kes status --api", "kes seal info"];
        found.extend(calls.filter(|call| !others.iter().any(|other| call.starts_with(other))));
        command.get_subcommands().for_each(|verb| strange(verb, found));
    }

    #[test]
    fn the_help_of_the_plugin_calls_the_plugin() {
        let mut found = Vec::new();
        strange(&command(), &mut found);
        assert_eq!(found, Vec::<String>::new());
        strange(&KubectlKes::command(), &mut found);
        assert!(found.contains(&"kes key create minio-default-key".to_owned()), "{found:?}");
    }
}
