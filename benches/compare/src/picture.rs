//! The report as a picture: bars of server CPU per request, as SVG without a library.

use std::fmt::Write as _;

use crate::results::Results;

const COLORS: [&str; 5] = ["#0b7285", "#e8590c", "#868e96", "#5f3dc4", "#2b8a3e"];
const WIDTH: f64 = 900.0;
const LEFT: f64 = 20.0;
const BAR: f64 = 15.0;

/// Bars of `results`; each group has a scale of its own, since loads differ a hundredfold.
pub(crate) fn svg(results: &Results) -> String {
    let servers = results.servers.len() as f64;
    let group = 34.0 + servers * (BAR + 3.0);
    let rows: Vec<_> =
        results.rows.iter().filter(|row| row.cells.iter().any(|cell| !cell.rounds.is_empty())).collect();
    let height = 70.0 + rows.len() as f64 * group;
    let mut out = String::new();
    let mut y = 28.0;
    // writing to a string does not fail
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"{y}\" font-size=\"17\" font-weight=\"bold\">Server CPU per request in µs (less is better)</text>\n"
    );
    y += 24.0;
    for row in rows {
        let values: Vec<_> = row.cells.iter().map(|cell| cell.median(|round| round.cpu_us)).collect();
        let most = values.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
        y += 16.0;
        let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{y}\" fill=\"#212529\">{}</text>", row.title);
        y += 5.0;
        for (index, (value, server)) in values.iter().zip(&results.servers).enumerate() {
            let color = COLORS[index % COLORS.len()];
            let width = value.map_or(0.0, |value| value / most * (WIDTH - 330.0));
            let label = value.map_or("failed".into(), |value| format!("{value:.1}"));
            let (text_x, text_y) = (LEFT + width + 6.0, y + 12.0);
            let _ = writeln!(
                out,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\
                 <text x=\"{text_x:.1}\" y=\"{text_y}\" fill=\"#495057\">{label}  {server}</text>"
            );
            y += BAR + 3.0;
        }
        y += 13.0;
    }
    out.push_str("</svg>\n");
    out
}
