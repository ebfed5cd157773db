//! What a command reads besides its arguments: standard input, a file, or an answer that is not shown.

use std::{
    io::{BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::Path,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::failure::Failure;
use crate::pki::Password;

/// An argument's bytes; `-` stands for standard input.
pub(super) fn argument(what: &str, text: String) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if text == "-" { stdin(what) } else { Ok(Zeroizing::new(text.into_bytes())) }
}

/// Everything that comes on standard input, as it is.
pub(super) fn stdin(what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    std::io::stdin().read_to_end(&mut bytes).map_err(|error| no_input(what, &error))?;
    Ok(bytes)
}

/// The content of a file; `-` stands for standard input.
pub(super) fn file(what: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if path == Path::new("-") {
        return stdin(what);
    }
    std::fs::read(path).map(Zeroizing::new).map_err(|error| Failure::read(what, path, &error))
}

/// Asks the person at the terminal; without one, everything that comes on standard input.
pub(super) fn hidden(what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if !std::io::stdin().is_terminal() {
        return stdin(what);
    }
    let _ = write!(std::io::stderr(), "Enter the {what}: ");
    let quiet = Quiet::new();
    let mut line = Zeroizing::new(String::new());
    let read = std::io::stdin().lock().read_line(&mut line);
    drop(quiet);
    // the newline was not shown either
    let _ = writeln!(std::io::stderr());
    read.map_err(|error| no_input(what, &error))?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).as_bytes().to_vec()))
}

/// A password that the person at the terminal types.
pub(super) fn password(what: &str) -> Result<Password, Failure> {
    let typed = hidden(what)?;
    let text = std::str::from_utf8(&typed)
        .map_err(|_| Failure::new(format!("the {what} is not valid UTF-8"), "Type it again."))?;
    Ok(Password::new(text.to_owned()))
}

/// A password that is typed twice, so that a slip of the hand locks nobody out.
pub(super) fn new_password(what: &str) -> Result<Password, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            format!("there is no terminal to type the {what} at"),
            "Set MINIO_KMS_KES_KEY_PASSWORD to the password, or run the command at a terminal.",
        ));
    }
    let (first, again) = (hidden(what)?, hidden(&format!("{what} again"))?);
    if first.is_empty() || *first != *again {
        return Err(Failure::new(
            format!("the {what} is empty, or was not typed the same twice"),
            "Run the command again; nothing was written.",
        ));
    }
    let text = String::from_utf8(first.to_vec())
        .map_err(|_| Failure::new(format!("the {what} is not valid UTF-8"), "Type it again."))?;
    Ok(Password::new(text))
}

fn no_input(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(
        format!("failed to read the {what} from standard input: {error}"),
        "Check what is piped into the command.",
    )
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet(Option<Termios>);

impl Quiet {
    fn new() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(mut quiet) = before.clone() {
            quiet.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &quiet);
        }
        Self(before)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, before);
        }
    }
}
