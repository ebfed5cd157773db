//! The report as Markdown: for the terminal and for `report.md`.

use std::fmt::Write as _;

use crate::results::{Cell, Results, Row, Scale};

/// The whole report.
pub(crate) fn markdown(results: &Results) -> String {
    let Results { command, machine, sync_ms, seconds, rounds, servers, resident_at_start, rows, scale } =
        results;
    let mut text = String::new();
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    line("# Side by side\n");
    line(&format!(
        "{machine}; fdatasync of 4 KiB: {sync_ms:.2} ms (median). Client and server share the machine, so only ratios hold."
    ));
    line(&format!(
        "`{command}`: {rounds} interleaved rounds of {seconds} s; mTLS (TLS 1.3, Ed25519), policy of 8 patterns, metrics, and audit where the server has it."
    ));
    line("");

    line("## Server CPU per request, µs: median (min–max)\n");
    table(&mut line, rows, servers, Some(cpu_ratio), |cell| {
        let [low, median, high] = cell.spread(|round| round.cpu_us)?;
        Some(format!("{median:.1} ({low:.1}–{high:.1})"))
    });
    line("## Requests per second · p50 / p99 in ms · CPUs that the server used\n");
    table(&mut line, rows, servers, Some(rate_ratio), |cell| {
        let rate = cell.median(|round| round.per_second)?;
        let (p50, p99) = (cell.median(|round| round.p50_ms)?, cell.median(|round| round.p99_ms)?);
        let cpus = cell.median(|round| round.cpus)?;
        Some(format!("{} · {p50:.2} / {p99:.2} · {cpus:.2}", thousands(rate)))
    });
    let creates: Vec<_> = rows.iter().filter(|row| row.is_create).cloned().collect();
    if !creates.is_empty() {
        line("## Bytes written to disk per create\n");
        table(&mut line, &creates, servers, None, |cell| {
            Some(thousands(cell.median(|round| round.written_bytes)?))
        });
    }
    line("## Memory at start\n");
    for (server, bytes) in servers.iter().zip(resident_at_start) {
        line(&format!("- {server}: {:.0} MiB resident", mebibytes(*bytes)));
    }
    line("");
    many(&mut line, scale);
    let troubles: Vec<_> = rows
        .iter()
        .flat_map(|row| row.cells.iter().zip(servers).map(move |(cell, server)| (row, cell, server)))
        .filter_map(|(row, cell, server)| {
            Some(format!("- {server}, {}: {}", row.title, cell.trouble.as_ref()?))
        })
        .collect();
    if !troubles.is_empty() {
        line("## What failed\n");
        troubles.iter().for_each(|trouble| line(trouble));
    }
    text
}

/// What holding many keys costs.
fn many(line: &mut impl FnMut(&str), scale: &[Scale]) {
    if scale.is_empty() {
        return;
    }
    line("## With many keys\n");
    line(
        "Listed: 1,111 names under prefixes all over, right after the start that follows kill -9. Hot: RSS after so many keys were used once.\n",
    );
    line(
        "| Server, keys | creates/s | CPU per create, µs | bytes per key on disk | RSS after the last create | kill -9 → first answer | RSS then | listed, ms p50 / p99 | CPU per listing, µs | RSS with hot keys |",
    );
    line("|---|---|---|---|---|---|---|---|---|---|");
    for s in scale {
        let name = format!("{}, {} keys", s.server, thousands(s.keys as f64));
        if let (Some(trouble), 0.0) = (&s.trouble, s.creates_per_second) {
            line(&format!("| {name} | failed: {trouble} ||||||||"));
            continue;
        }
        let hot = match &s.trouble {
            Some(trouble) => format!("failed: {trouble}"),
            None => format!("{:.0} MiB, {}", mebibytes(s.resident_hot), thousands(s.hot_keys as f64)),
        };
        line(&format!(
            "| {name} | {} | {:.1} | {:.0} | {:.0} MiB | {:.0} ms | {:.0} MiB | {:.2} / {:.2} | {:.0} | {hot} |",
            thousands(s.creates_per_second),
            s.create_cpu_us,
            s.bytes_per_key,
            mebibytes(s.resident_filled),
            s.open_ms,
            mebibytes(s.resident_opened),
            s.list_p50_ms,
            s.list_p99_ms,
            s.list_cpu_us,
        ));
    }
    line("");
}

/// Ours and another; more is better for ours.
type Ratio = fn(&Cell, &Cell) -> Option<f64>;

/// How much more CPU the other server needs.
fn cpu_ratio(ours: &Cell, other: &Cell) -> Option<f64> {
    Some(other.median(|round| round.cpu_us)? / ours.median(|round| round.cpu_us)?)
}

/// How many more requests ours answered.
fn rate_ratio(ours: &Cell, other: &Cell) -> Option<f64> {
    Some(ours.median(|round| round.per_second)? / other.median(|round| round.per_second)?)
}

/// One row per load, one column per server, and one per ratio to the first.
fn table(
    line: &mut impl FnMut(&str),
    rows: &[Row],
    servers: &[String],
    ratio: Option<Ratio>,
    show: impl Fn(&Cell) -> Option<String>,
) {
    let others = if ratio.is_some() { servers.get(1..).unwrap_or_default() } else { &[] };
    let ratios: String = others.iter().fold(String::new(), |mut text, other| {
        let _ = write!(text, " vs {other} |");
        text
    });
    line(&format!("| | {} |{ratios}", servers.join(" | ")));
    line(&format!("|---|{}{}", "---|".repeat(servers.len()), "---|".repeat(others.len())));
    for row in rows {
        let mut text = format!("| {} |", row.title);
        for cell in &row.cells {
            let failed: u64 = cell.rounds.iter().map(|round| round.failed).sum();
            let shown = show(cell).unwrap_or_else(|| "–".into());
            let mark = if cell.trouble.is_some() { " (failed)" } else { "" };
            let _ = if failed > 0 {
                write!(text, " {shown}, {failed} failed |")
            } else {
                write!(text, " {shown}{mark} |")
            };
        }
        if let (Some(ratio), Some((ours, others))) = (ratio, row.cells.split_first()) {
            for other in others {
                let _ = match ratio(ours, other) {
                    Some(ratio) => write!(text, " {ratio:.1} × |"),
                    None => write!(text, " – |"),
                };
            }
        }
        line(&text);
    }
    line("");
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// `12,345`.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
