//! `kes operator`: runs the Kubernetes operator, or prints what it needs installed.

use super::failure::Failure;
use crate::{crd, operator, telemetry};

/// Run the Kubernetes operator
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Operator {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    options: operator::Options,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Print the custom resource definitions
    Crds,
}

impl Operator {
    pub(super) fn run(self) -> Result<String, Failure> {
        let Self { verb, options } = self;
        match verb {
            Some(Verb::Crds) => crd::try_yaml().map_err(|error| {
                Failure::new(
                    format!("failed to write the definitions: {error}"),
                    "This is not expected: please report it.",
                )
            }),
            None => {
                telemetry::init().map_err(|error| Failure::sentence(&error.to_string()))?;
                super::multi_threaded()?.block_on(operator::run(options))?;
                Ok(String::new())
            }
        }
    }
}
