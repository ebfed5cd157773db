//! The one place where an error becomes text on the terminal: what, why, and what next.

use std::{fmt, fmt::Write as _, path::Path, process::ExitCode};

use crate::{api, client, consensus, crypto, operator, pki, server, service, store};

/// A command that did not succeed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What failed and why, lower case.
    what: String,
    /// What the person can do, as a sentence.
    next: String,
    usage: bool,
}

impl Failure {
    pub(super) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into(), usage: false }
    }

    /// The command line itself is wrong.
    pub(super) fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into(), usage: true }
    }

    /// A file could not be read.
    pub(super) fn read(what: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(
            format!("failed to read {what} '{}': {error}", path.display()),
            "Check that the path is right and that this user may read the file.",
        )
    }

    /// A file could not be written.
    pub(super) fn write(what: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(
            format!("failed to write {what} '{}': {error}", path.display()),
            "Check that the directory exists and that this user may write to it.",
        )
    }

    /// An error of another room that says what next after a semicolon.
    pub(super) fn sentence(text: &str) -> Self {
        match text.split_once("; ") {
            Some((what, next)) => Self::new(what, next),
            None => Self::new(text, ""),
        }
    }

    /// What failed and why.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// Says which of several things failed.
    pub(super) fn about(mut self, subject: impl fmt::Display) -> Self {
        self.what = format!("{subject}: {}", self.what);
        self
    }

    /// Says how many of several things were done before.
    pub(super) fn after(mut self, verb: &str, done: usize, all: usize) -> Self {
        if done > 0 {
            self.what = format!("{} ({done} of {all} {verb} before)", self.what);
        }
        self
    }

    /// The same for programs: one line of JSON.
    pub(super) fn to_json(&self) -> String {
        #[derive(serde::Serialize)]
        struct Json<'a> {
            error: &'a str,
            #[serde(skip_serializing_if = "String::is_empty")]
            next: String,
        }
        let next = if self.next.is_empty() { String::new() } else { sentence(&self.next) };
        super::terminal::json(&Json { error: &self.what, next }) + "\n"
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        if self.usage { ExitCode::from(2) } else { ExitCode::FAILURE }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Error: {}", Plain(&self.what))?;
        if !self.next.is_empty() {
            writeln!(f, "       {}", Plain(&sentence(&self.next)))?;
        }
        Ok(())
    }
}

/// Text of which parts come from files and servers: what would move the cursor or begin a line is shown and not done.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            if letter.is_control() {
                write!(f, "{}", letter.escape_default())?;
            } else {
                f.write_char(letter)?;
            }
        }
        Ok(())
    }
}

/// Other rooms write their advice in lower case and without a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(letters).collect();
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

impl From<pki::Error> for Failure {
    fn from(error: pki::Error) -> Self {
        Self::new(error.to_string(), error.next_step())
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        Self::new(error.to_string(), error.next_step())
    }
}

impl From<api::NameError> for Failure {
    fn from(error: api::NameError) -> Self {
        Self::new(error.to_string(), "A name has 1 to 80 letters, digits, '-' and '_'.")
    }
}

impl From<crypto::SealError> for Failure {
    fn from(error: crypto::SealError) -> Self {
        Self::sentence(&error.to_string())
    }
}

impl From<store::DirectoryError> for Failure {
    fn from(error: store::DirectoryError) -> Self {
        Self::new(error.to_string(), error.next_step())
    }
}

impl From<store::StoreError> for Failure {
    fn from(error: store::StoreError) -> Self {
        Self::new(error.to_string(), error.next_step())
    }
}

impl From<service::Error> for Failure {
    fn from(error: service::Error) -> Self {
        match error {
            service::Error::Directory(error) => error.into(),
            service::Error::Seal(error) => error.into(),
            service::Error::Store(error) => error.into(),
            service::Error::Consensus(consensus::Error::Records(error)) => error.into(),
            service::Error::Consensus(consensus::Error::Log(error)) => {
                Self::new(error.to_string(), error.next_step())
            }
            error @ service::Error::Consensus(consensus::Error::Replay(_)) => Self::new(
                error.to_string(),
                "Restore the whole data directory, as it was at one moment, from its volume's snapshot or a backup.",
            ),
            // one half of a directory is no use without the other
            error
            @ (service::Error::NoCluster(_) | service::Error::Consensus(consensus::Error::Mixed(_))) => {
                Self::new(
                    error.to_string(),
                    "Restore the whole directory from one volume or one backup; it is never initialised over.",
                )
            }
            error @ service::Error::Consensus(_) => Self::new(
                error.to_string(),
                "Look at the log lines before this one, and report it with them if it goes on.",
            ),
            error => Self::sentence(&error.to_string()),
        }
    }
}

impl From<server::Error> for Failure {
    fn from(error: server::Error) -> Self {
        match error {
            server::Error::Certificate(error) => error.into(),
            error => Self::sentence(&error.to_string()),
        }
    }
}

impl From<operator::Error> for Failure {
    fn from(error: operator::Error) -> Self {
        Self::sentence(&error.to_string())
    }
}
