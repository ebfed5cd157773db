//! What a person types: one file per verb family. Arguments come in, text or JSON goes out, errors say what, why and
//! what next.
//!
//! ```text
//! argv ─► clap ─► verb (local, or a call through `client`) ─► text on stdout, exit 0
//!           │                        └─ Failure ─► stderr, exit 1
//!           └─ usage ─► stderr, exit 2
//! ```

mod absent;
mod addresses;
mod completion;
mod connect;
mod duration;
mod enclave;
mod failure;
mod identity;
mod identity_local;
mod init;
mod init_config;
mod input;
mod key;
mod key_crypt;
mod kubectl;
mod kubernetes;
mod log;
mod ls;
mod manifest;
mod metric;
mod metric_values;
mod operator;
mod policy;
pub mod probe;
mod progress;
mod seal;
mod secret;
mod server;
mod server_access;
mod server_banner;
mod server_config;
mod server_dev;
mod server_stateless;
mod server_stateless_config;
mod settings;
mod status;
mod terminal;

use std::{io::Write, process::ExitCode, sync::LazyLock};

use clap::{ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use failure::Failure;
use progress::patiently;

/// Commit of this build, as the build was told by `KES_COMMIT`.
const COMMIT: &str = match option_env!("KES_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// What `kes --version` prints after the name.
fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("{} (commit={COMMIT})", env!("CARGO_PKG_VERSION")));
    &VERSION
}

/// Key service for MinIO and its Kubernetes operator.
#[derive(Parser)]
#[command(
    name = "kes",
    version = version(),
    disable_version_flag = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    override_usage = "kes <COMMAND>",
    max_term_width = 100,
    after_help = "\
Environment of commands that call a server:
  KES_SERVER       address of the server [default: https://127.0.0.1:7373]
  KES_API_KEY      API key, or instead of it:
  KES_CLIENT_CERT  file with the client's certificate, and
  KES_CLIENT_KEY   file with its private key
  KES_CA           file with the authority that signed the server's certificate
  KES_ENCLAVE      name of the enclave
The names of later KES (MINIO_KES_...) and of MinIO (MINIO_KMS_KES_...) work as well."
)]
struct Kes {
    /// Print the version
    #[arg(short, long, action = ArgAction::Version)]
    version: Option<bool>,
    /// Say how to get completions, which KES installs itself
    #[arg(long, hide = true)]
    auto_completion: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Make the data directory of a server
    Init(init::Init),
    /// Start a server
    Server(server::Server),
    /// Run the Kubernetes operator
    Operator(operator::Operator),
    /// Create and see keys, and encrypt with them
    Key(key::Key),
    /// Keep small values, such as passwords and tokens
    Secret(secret::Secret),
    /// Create, assign and see policies
    Policy(policy::Policy),
    /// Create and see identities and API keys
    Identity(identity::Args),
    /// Create and see enclaves
    #[command(subcommand)]
    Enclave(enclave::Enclave),
    /// See and change the keys that protect all others
    #[command(subcommand)]
    Seal(seal::Seal),
    /// List the names of keys, identities or policies
    Ls(ls::Ls),
    /// Show the state of a server
    Status(status::Status),
    /// Show what a server does: requests, latency, memory
    Metric(metric::Metric),
    /// Show the audit log or the error log of a server as it happens
    Log(log::Log),
    /// Print completions for a shell
    Completion(completion::Completion),
    #[command(hide = true)]
    Update(absent::Anything),
    #[command(hide = true)]
    Migrate(absent::Anything),
}

/// Runs the command that the process was started with.
///
/// The exit code is 0 on success, 1 on an error, 2 on wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    if kubectl::is_asked_for(std::env::args_os().next().as_deref()) {
        return plugin();
    }
    let parsed = Kes::command().try_get_matches().and_then(|matches| {
        let as_json = wants_json(&matches);
        Ok((Kes::from_arg_matches(&matches)?, as_json))
    });
    let (Kes { version: _, auto_completion, verb }, as_json) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return misused(&error),
    };
    let result = match verb {
        Some(verb) => run(verb),
        None if auto_completion => Ok(absent::auto_completion(std::env::var("SHELL").ok().as_deref())),
        None => Err(Failure::usage("no command given", "See 'kes --help'.")),
    };
    finish(result, as_json)
}

/// Runs the command of `kubectl kes`.
fn plugin() -> ExitCode {
    let parsed = kubectl::command().try_get_matches().and_then(|matches| {
        let as_json = wants_json(&matches);
        Ok((kubectl::KubectlKes::from_arg_matches(&matches)?, as_json))
    });
    match parsed {
        Ok((plugin, as_json)) => finish(plugin.run(), as_json),
        Err(error) => misused(&error),
    }
}

/// What clap says of wrong usage, and of `--help` and `--version`, which it takes for errors too.
fn misused(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let next = lines.next_back().unwrap_or("See 'kes --help'.");
        let what: Vec<_> = lines.take_while(|line| !line.starts_with("Usage:")).collect();
        return finish(Err(Failure::usage(what.join(" ").trim_start_matches("error: "), next)), true);
    }
    // a closed pipe is the reader's decision
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

fn finish(result: Result<String, Failure>, as_json: bool) -> ExitCode {
    match result {
        Ok(text) => {
            terminal::write_bytes(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let text = if as_json { failure.to_json() } else { failure.to_string() };
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
            failure.exit_code()
        }
    }
}

/// Whether the verb, or the verb within it, was given `--json`.
fn wants_json(matches: &ArgMatches) -> bool {
    let here = matches.try_get_one::<bool>("json").ok().flatten().copied().unwrap_or(false);
    here || matches.subcommand().is_some_and(|(_, matches)| wants_json(matches))
}

fn run(verb: Verb) -> Result<String, Failure> {
    match verb {
        Verb::Init(init) => block_on(init.run()),
        Verb::Server(server) => server.run(),
        Verb::Operator(operator) => operator.run(),
        Verb::Key(key) => block_on(patiently(key.run())),
        Verb::Secret(secret) => block_on(patiently(secret.run())),
        Verb::Policy(policy) => block_on(patiently(policy.run())),
        Verb::Identity(identity) => block_on(patiently(identity.run())),
        Verb::Enclave(enclave) => block_on(patiently(enclave.run())),
        Verb::Seal(seal) => block_on(patiently(seal.run())),
        Verb::Ls(ls) => block_on(patiently(ls.run())),
        Verb::Status(status) => block_on(patiently(status.run())),
        Verb::Metric(metric) => block_on(metric.run()),
        Verb::Log(log) => block_on(log.run()),
        Verb::Completion(completion) => Ok(completion.run()),
        Verb::Update(_) => Err(absent::update()),
        Verb::Migrate(_) => Err(absent::migrate()),
    }
}

fn block_on(work: impl Future<Output = Result<String, Failure>>) -> Result<String, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?.block_on(work)
}

/// The runtime of what runs for long.
fn multi_threaded() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(no_runtime)
}

fn no_runtime(error: std::io::Error) -> Failure {
    Failure::new(
        format!("failed to start: {error}"),
        "Free memory, threads or file descriptors and try again.",
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Every command that is not hidden, with its parents.
    fn commands(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let path = format!("{path} {}", verb.get_name());
            commands(verb, &path, found);
            found.push(path);
        }
    }

    fn texts(folder: &Path) -> String {
        let files = std::fs::read_dir(folder).unwrap();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }

    /// Whether a session runs `command` other than for its help.
    fn is_used(sessions: &str, command: &str) -> bool {
        let lines = sessions.lines().filter(|line| line.starts_with("$ "));
        lines.flat_map(|line| line.match_indices(command).map(|(at, _)| &line[at + command.len()..])).any(
            |rest| {
                let is_whole = rest.is_empty() || rest.starts_with([' ', ';', ')', '|']);
                is_whole && !rest.trim_start().starts_with("--help")
            },
        )
    }

    #[test]
    fn every_command_has_a_session_that_shows_its_help_and_one_that_uses_it() {
        let sessions = texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/local"));
        let mut found = Vec::new();
        commands(&Kes::command(), "kes", &mut found);
        // verbs that it shares with `kes` have their sessions there
        let plugin = kubectl::command();
        for verb in ["status", "tenants", "logs", "pause", "resume"] {
            assert!(plugin.find_subcommand(verb).is_some(), "{verb}");
            found.push(format!("./kubectl-kes {verb}"));
        }
        let missing: Vec<_> =
            found.iter().filter(|command| !sessions.contains(&format!("$ {command} --help"))).collect();
        assert!(missing.is_empty(), "no session shows the help of {missing:?}");
        let all =
            ["local", "live"].map(|kind| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli").join(kind));
        let all: String = all.iter().map(|folder| texts(folder)).collect();
        // what needs a cluster of Kubernetes is used there
        let unused: Vec<_> =
            found.iter().filter(|command| command.starts_with("kes ") && !is_used(&all, command)).collect();
        assert!(unused.is_empty(), "no session uses {unused:?}");
        assert!(found.len() > 40, "{} commands", found.len());
    }
}
