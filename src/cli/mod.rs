//! What a person types: one file per verb family. Arguments come in, text or JSON goes out, errors say what, why and
//! what next.
//!
//! ```text
//! argv ─► clap ─► verb (local, or a call through `client`) ─► text on stdout, exit 0
//!           │                        └─ Failure ─► stderr, exit 1
//!           └─ usage ─► stderr, exit 2
//! ```

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
mod key;
mod operator;
mod policy;
mod server;
mod server_banner;
mod server_config;
mod server_dev;
mod settings;
mod status;
mod terminal;

use std::{io::Write, process::ExitCode, sync::LazyLock};

use clap::{ArgAction, Parser, Subcommand};

use failure::Failure;

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
    #[command(subcommand)]
    verb: Verb,
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
    /// Create, assign and see policies
    Policy(policy::Policy),
    /// Create and see identities and API keys
    Identity(identity::Args),
    /// Create and see enclaves
    #[command(subcommand)]
    Enclave(enclave::Enclave),
    /// Show the state of a server
    Status(status::Status),
    /// Print completions for a shell
    Completion(completion::Completion),
}

/// Runs the command that the process was started with.
///
/// The exit code is 0 on success, 1 on an error, 2 on wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    let Kes { version: _, verb } = match Kes::try_parse() {
        Ok(kes) => kes,
        Err(error) => {
            // a closed pipe is the reader's decision
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    match run(verb) {
        Ok(text) => {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = write!(std::io::stderr().lock(), "{failure}");
            failure.exit_code()
        }
    }
}

fn run(verb: Verb) -> Result<String, Failure> {
    match verb {
        Verb::Init(init) => block_on(init.run()),
        Verb::Server(server) => server.run(),
        Verb::Operator(operator) => operator.run(),
        Verb::Key(key) => block_on(key.run()),
        Verb::Policy(policy) => block_on(policy.run()),
        Verb::Identity(identity) => block_on(identity.run()),
        Verb::Enclave(enclave) => block_on(enclave.run()),
        Verb::Status(status) => block_on(status.run()),
        Verb::Completion(completion) => Ok(completion.run()),
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
