//! How text looks: rows, tables and colour. Without a terminal the output is the plain one of KES, for scripts.

use std::io::IsTerminal;

use jiff::Timestamp;
use serde::Serialize;

/// When to use colour; `Auto` is on a terminal, unless NO_COLOR is set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Color {
    // plain comments: clap would turn documentation into a longer help of every command
    #[default]
    Auto,
    Always,
    Never,
}

/// How a result is printed.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Format {
    /// Print JSON; errors too
    #[arg(long)]
    pub(super) json: bool,
    /// When to use colour; NO_COLOR turns it off as well
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(super) color: Color,
}

/// Whether a result is for a program.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Json {
    /// Print JSON also on a terminal; errors too
    #[arg(long)]
    pub(super) json: bool,
}

/// Whether several results are for a program.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Lines {
    /// Print one line of JSON for each of them; errors too
    #[arg(long)]
    pub(super) json: bool,
}

/// How success is told by a command that has no result.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Report {
    /// Print one line of JSON for each thing that was done; errors too
    #[arg(long)]
    pub(super) json: bool,
}

impl Color {
    fn on(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    /// A heading.
    pub(super) fn bold(self, text: &str) -> String {
        if self.on() { format!("\x1b[1m{text}\x1b[0m") } else { text.into() }
    }

    /// Something that is well.
    pub(super) fn green(self, text: &str) -> String {
        if self.on() { format!("\x1b[32m{text}\x1b[0m") } else { text.into() }
    }

    /// Something that is not.
    pub(super) fn red(self, text: &str) -> String {
        if self.on() { format!("\x1b[31m{text}\x1b[0m") } else { text.into() }
    }
}

/// Whether a person reads the output.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// One `Label      value` line.
pub(super) fn row(color: Color, label: &str, value: &str) -> String {
    format!("{} {value}\n", color.bold(&format!("{label:<10}")))
}

/// A point in time as people read it, in UTC.
pub(super) fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// What stands for a table without rows: nothing for scripts, as in KES, and a word for people.
pub(super) fn nothing() -> &'static str {
    if is_terminal() { "Nothing found.\n" } else { "" }
}

/// Rows under headings, padded with blanks; see [`nothing`] for no rows.
pub(super) fn table(color: Color, headings: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return nothing().into();
    }
    let last = headings.len().saturating_sub(1);
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(heading.len())
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.zip(&widths).enumerate() {
            if column == last {
                line.push_str(cell);
            } else {
                line.push_str(&format!("{cell:<width$} "));
            }
        }
        line
    };
    let mut text = color.bold(&line(&mut headings.iter().copied()));
    text.push('\n');
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
        text.push('\n');
    }
    text
}

/// One line of JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    // the messages that we print have neither maps with other keys than text nor writers that fail
    serde_json::to_string(value).unwrap_or_default()
}

/// Bytes as they are, on standard output.
pub(super) fn write_bytes(bytes: &[u8]) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // a closed pipe is the reader's decision
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}
