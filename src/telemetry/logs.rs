//! Logs on standard error: text for a person at a terminal, JSON lines for everything else.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

/// The environment variable that selects what is logged, e.g. `debug` or `info,kes::consensus=debug`.
const VARIABLE: &str = "KES_LOG";

/// Why logs cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The variable is no filter.
    #[error(
        "failed to read {VARIABLE}='{value}': {reason}; use a level such as 'info' or 'info,kes::server=debug'"
    )]
    Filter {
        /// What it says.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else took the logs before.
    #[error("failed to start logs: {0}")]
    Taken(String),
}

/// Starts logs for the process, at `info` unless `KES_LOG` says otherwise.
///
/// # Errors
/// [`LogError::Filter`], or [`LogError::Taken`] when called twice.
pub fn init() -> Result<(), LogError> {
    let filter = filter(std::env::var(VARIABLE).ok().as_deref())?;
    let logs = fmt().with_writer(std::io::stderr).with_env_filter(filter);
    if std::io::stderr().is_terminal() {
        logs.with_target(false).try_init()
    } else {
        logs.json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_ansi(false)
            .try_init()
    }
    .map_err(|error| LogError::Taken(error.to_string()))
}

/// What is logged where nobody says otherwise. kube's client tells of each request without an answer, but not why none came;
/// whoever made the request does.
const USUAL: &str = "info,openraft=warn,kube_client::client::builder=off";

fn filter(value: Option<&str>) -> Result<EnvFilter, LogError> {
    let value = value.filter(|value| !value.is_empty()).unwrap_or(USUAL);
    EnvFilter::try_new(value)
        .map_err(|error| LogError::Filter { value: value.into(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_named() {
        assert!(filter(None).is_ok());
        assert!(filter(Some("info,kes::server=debug")).is_ok());
        let error = filter(Some("kes=lowd")).unwrap_err().to_string();
        assert!(error.starts_with("failed to read KES_LOG='kes=lowd': "), "{error}");
    }
}
