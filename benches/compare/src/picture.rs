//! The report as a picture: server CPU and p99 latency of every load, as SVG without a library.

use std::fmt::Write as _;

use crate::results::{Cell, Results, Round, Row};

const COLORS: [&str; 5] = ["#0b7285", "#e8590c", "#868e96", "#5f3dc4", "#2b8a3e"];
const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 24.0;
const BAR: f64 = 13.0;
const GAP: f64 = 2.0;
/// Where bars begin, and how long the longest of a group is; the rest is for its number.
const CPU: Panel = Panel { title: "server CPU per request", left: 420.0, length: 250.0 };
const LATENCY: Panel = Panel { title: "p99 latency", left: 850.0, length: 220.0 };

struct Panel {
    title: &'static str,
    left: f64,
    length: f64,
}

/// Bars of `results`; each group has a scale of its own, since loads differ a thousandfold.
pub(crate) fn svg(results: &Results) -> String {
    let rows: Vec<_> =
        results.rows.iter().filter(|row| row.cells.iter().any(|cell| !cell.rounds.is_empty())).collect();
    let group = results.servers.len() as f64 * (BAR + GAP) + 14.0;
    let top = 132.0;
    let height = top + rows.len() as f64 * group + 20.0;
    let mut out = String::new();
    // writing to a string does not fail
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
    );
    let mut text = |x: f64, y: f64, style: &str, text: &str| {
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>", escape(text));
    };
    text(
        MARGIN,
        34.0,
        "font-size=\"20\" font-weight=\"bold\" fill=\"#212529\"",
        "What a request costs: our key server and KES",
    );
    text(MARGIN, 55.0, "fill=\"#495057\"", &results.machine);
    let how = format!(
        "Medians of {} × {} s, interleaved; mTLS, policy, metrics and audit on; client and server share the machine. Shorter is better.",
        results.rounds, results.seconds
    );
    text(MARGIN, 73.0, "fill=\"#495057\"", &how);
    let mut x = MARGIN;
    for (index, server) in results.servers.iter().enumerate() {
        let square = format!("font-size=\"13\" fill=\"{}\" font-weight=\"bold\"", color(index));
        text(x, 98.0, &square, &format!("■ {server}"));
        x += 40.0 + 8.5 * server.len() as f64;
    }
    for panel in [CPU, LATENCY] {
        text(panel.left, 122.0, "font-weight=\"bold\" fill=\"#212529\"", panel.title);
    }
    let mut y = top;
    for row in rows {
        let _ = writeln!(
            out,
            "<line x1=\"{MARGIN}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#dee2e6\"/>\
             <text x=\"{MARGIN}\" y=\"{:.1}\" fill=\"#212529\">{}</text>",
            WIDTH - MARGIN,
            y + 7.0 + BAR - 2.0,
            escape(row.title)
        );
        bars(&mut out, &CPU, y + 7.0, row, |round| round.cpu_us, true);
        bars(&mut out, &LATENCY, y + 7.0, row, |round| round.p99_ms * 1e3, false);
        y += group;
    }
    out.push_str("</svg>\n");
    out
}

fn color(index: usize) -> &'static str {
    COLORS[index % COLORS.len()]
}

/// One bar for each server, with its number and how many times the first one's that is.
fn bars(
    out: &mut String,
    panel: &Panel,
    mut y: f64,
    row: &Row,
    micros: impl Fn(&Round) -> f64 + Copy,
    has_ratio: bool,
) {
    let values: Vec<_> = row.cells.iter().map(|cell| cell.median(micros)).collect();
    let most = values.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    let first = values.first().copied().flatten();
    for (index, (value, cell)) in values.iter().zip(&row.cells).enumerate() {
        let width = value.map_or(0.0, |value| value / most * panel.length).max(1.0);
        let label = match (value, first) {
            (None, _) => trouble(cell).to_owned(),
            (Some(value), Some(first)) if has_ratio && index > 0 && first > 0.0 => {
                format!("{} · {:.1} ×", duration(*value), value / first)
            }
            (Some(value), _) => duration(*value),
        };
        let _ = writeln!(
            out,
            "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#495057\">{label}</text>",
            panel.left,
            color(index),
            panel.left + width + 5.0,
            y + BAR - 2.5
        );
        y += BAR + GAP;
    }
}

fn trouble(cell: &Cell) -> &'static str {
    if cell.trouble.is_some() { "failed" } else { "not measured" }
}

/// Microseconds with a unit that suits.
fn duration(micros: f64) -> String {
    match micros {
        ..100.0 => format!("{micros:.1} µs"),
        ..1_000.0 => format!("{micros:.0} µs"),
        ..100_000.0 => format!("{:.1} ms", micros / 1e3),
        ..1_000_000.0 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.1} s", micros / 1e6),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
