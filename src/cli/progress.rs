//! What a person sees while a command takes long: one line on standard error, only on a terminal, gone at the end.

use std::{
    cell::{Cell, RefCell},
    io::{IsTerminal as _, Write as _},
    pin::pin,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{failure::Failure, terminal::json};

/// What takes less needs no explanation.
const QUIET: Duration = Duration::from_secs(2);
/// How often the line is written anew.
const EVERY: Duration = Duration::from_secs(1);

thread_local! {
    /// What is being done; commands run on one thread.
    static DOING: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether the line is there.
    static SHOWN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, and says what is going on when it takes long.
pub(super) async fn patiently<T>(work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let mut work = pin!(work);
    let started = Instant::now();
    let done = loop {
        tokio::select! {
            biased;
            done = &mut work => break done,
            () = tokio::time::sleep(if SHOWN.get() { EVERY } else { QUIET }) => {
                let line = DOING.with_borrow(|doing| line(doing.as_deref(), started.elapsed()));
                if let Some(line) = line {
                    SHOWN.set(true);
                    write(&line);
                }
            }
        }
    };
    clear();
    done
}

/// Does `step` for each of `items` in order and stops at the first that fails. `verb` is what was done then, e.g.
/// `created`. With `as_json` each success is told at once, on standard output.
pub(super) async fn each<T: Serialize>(
    verb: &str,
    items: &[T],
    as_json: bool,
    step: impl AsyncFn(&T) -> Result<(), Failure>,
) -> Result<String, Failure> {
    for (done, item) in items.iter().enumerate() {
        if items.len() > 1 {
            DOING.set(Some(format!("{done} of {} {verb}", items.len())));
        }
        step(item).await.map_err(|failure| failure.after(verb, done, items.len()))?;
        if as_json {
            clear();
            let mut out = std::io::stdout().lock();
            // a closed pipe is the reader's decision
            let _ = writeln!(out, "{}", json(item)).and_then(|()| out.flush());
        }
    }
    DOING.set(None);
    Ok(String::new())
}

/// Says what is being done, if it takes long.
pub(super) fn doing(what: String) {
    DOING.set(Some(what));
}

/// From now on the result itself shows that something is going on.
pub(super) fn silence() {
    DOING.set(Some(String::new()));
    clear();
}

/// Nothing when there is nothing to say.
fn line(doing: Option<&str>, passed: Duration) -> Option<String> {
    let doing = doing.unwrap_or("waiting for the server");
    (!doing.is_empty()).then(|| format!("{doing} … {} s", passed.as_secs()))
}

/// Makes room for other output.
fn clear() {
    if SHOWN.replace(false) {
        write("");
    }
}

/// Replaces the line.
fn write(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "\r\x1b[2K{text}").and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_done_and_for_how_long() {
        let is = |doing, seconds, expected| {
            assert_eq!(line(doing, Duration::from_secs(seconds)).as_deref(), expected);
        };
        is(None, 2, Some("waiting for the server … 2 s"));
        is(Some("12 of 1000 created"), 61, Some("12 of 1000 created … 61 s"));
        is(Some(""), 61, None);
    }

    #[tokio::test]
    async fn the_first_failure_ends_it_and_says_what_was_done_before() {
        let tried = RefCell::new(Vec::new());
        let failure = each("created", &["a", "b", "c"], false, async |name| {
            tried.borrow_mut().push(*name);
            if *name == "b" { Err(Failure::new("failed to create key 'b'", "Next.")) } else { Ok(()) }
        })
        .await
        .unwrap_err();
        assert_eq!(tried.into_inner(), ["a", "b"]);
        let text = failure.to_string();
        assert!(text.contains("failed to create key 'b' (1 of 3 created before)"), "{text}");
    }
}
