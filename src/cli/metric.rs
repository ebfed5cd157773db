//! `kes metric`: one screen of what a server does, or the JSON of v0.22.3 (contract §4.6).

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use super::{
    connect::Within,
    duration,
    failure::Failure,
    metric_values::Values,
    status::bytes,
    terminal::{Color, Format, is_terminal, json},
};
use crate::client::Client;

const DEFAULT_RATE: Duration = Duration::from_secs(5);

/// Show what a server does: requests, latency, memory
///
/// On a terminal one screen, written anew until Ctrl-C. Elsewhere one JSON object, or one per interval with --rate.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kes metric\n  kes metric --rate 1s | jq .kes_http_request_success")]
pub(super) struct Metric {
    /// How often the server is asked, e.g. '500ms', '5s' or '1m' [default: 5s on a terminal, else once]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    rate: Option<Duration>,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    format: Format,
}

impl Metric {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let Self { rate, within, format } = self;
        if rate.is_some_and(|rate| rate < Duration::from_millis(100)) {
            return Err(Failure::usage(
                "'--rate' is below 100ms",
                "Give a longer interval: the server answers no more often than it is asked.",
            ));
        }
        let address = within.address()?;
        let client = within.client()?;
        let first = read(&client).await?;
        if is_terminal() && !format.json {
            return screen(&client, &address, first, rate.unwrap_or(DEFAULT_RATE), format.color).await;
        }
        let Some(rate) = rate else { return Ok(json(&first) + "\n") };
        let mut values = first;
        loop {
            let mut out = std::io::stdout().lock();
            if writeln!(out, "{}", json(&values)).and_then(|()| out.flush()).is_err() {
                return Ok(String::new());
            }
            drop(out);
            tokio::time::sleep(rate).await;
            values = read(&client).await?;
        }
    }
}

async fn read(client: &Client) -> Result<Values, Failure> {
    Ok(Values::parse(&client.metrics().await?))
}

/// Writes the screen until somebody ends the process. A server that is away for a while is waited for.
async fn screen(
    client: &Client,
    address: &str,
    first: Values,
    rate: Duration,
    color: Color,
) -> Result<String, Failure> {
    let (mut before, mut at) = (first, Instant::now());
    let mut text = show(address, &before, None, color);
    let mut trouble = String::new();
    // an empty screen once; then each line replaces its predecessor, so that nothing flickers
    let mut out = String::from("\x1b[2J");
    loop {
        out += "\x1b[H";
        for line in text.lines().chain(trouble.lines()) {
            out += &format!("{line}\x1b[K\n");
        }
        out += "\x1b[J";
        let mut terminal = std::io::stdout().lock();
        if terminal.write_all(out.as_bytes()).and_then(|()| terminal.flush()).is_err() {
            return Ok(String::new());
        }
        drop(terminal);
        out.clear();
        tokio::time::sleep(rate).await;
        match read(client).await {
            Ok(now) => {
                text = show(address, &now, Some((&before, at.elapsed())), color);
                (before, at, trouble) = (now, Instant::now(), String::new());
            }
            Err(failure) => trouble = format!("\n{failure}       Trying again every {rate:?}.\n"),
        }
    }
}

/// One screen. `before` are older values and how old they are.
fn show(address: &str, values: &Values, before: Option<(&Values, Duration)>, color: Color) -> String {
    let Values { success, error, failure, active, audit_events, error_events, .. } = values;
    let all = values.requests();
    let share = |part: u64| match all {
        0 => String::new(),
        all => format!(" ({:.1} %)", part as f64 * 100.0 / all as f64),
    };
    let per_second = before.map_or_else(
        || "-".into(),
        |(before, passed)| {
            let new = all.saturating_sub(before.requests());
            format!("{:.1}", new as f64 / passed.as_secs_f64().max(0.001))
        },
    );
    let up = duration::show(values.up_time / 1_000_000_000);
    let row = |label: &str, cells: &[String]| {
        let cells: String = cells.iter().map(|cell| format!("{cell:<18}")).collect();
        format!("{} {}\n", color.bold(&format!("{label:<10}")), cells.trim_end())
    };
    let heading = |cells: &[&str]| row("", &cells.iter().map(ToString::to_string).collect::<Vec<_>>());
    let mut text =
        format!("{} {}, up {up}\n\n", color.green("●"), color.bold(address.trim_start_matches("https://")));
    text += &heading(&["OK (2xx)", "refused (4xx)", "failed (5xx)", "in flight", "per second"]);
    text += &row(
        "Requests",
        &[
            format!("{success}{}", share(*success)),
            format!("{error}{}", share(*error)),
            format!("{failure}{}", share(*failure)),
            active.to_string(),
            per_second,
        ],
    );
    text.push('\n');
    text += &heading(&["half within", "99 % within", "99.9 % within"]);
    text += &row("Latency", &[0.5, 0.99, 0.999].map(|part| values.within(part)));
    text.push('\n');
    text += &heading(&["audit", "error"]);
    text += &row("Events", &[audit_events.to_string(), error_events.to_string()]);
    text.push('\n');
    text += &heading(&["heap", "stack", "CPUs", "threads"]);
    text += &row(
        "System",
        &[bytes(values.heap), bytes(values.stack), values.cpus_used.to_string(), values.threads.to_string()],
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_screen_says_what_the_server_does() {
        let before = Values { success: 100, ..Values::default() };
        let buckets = [(10_000_000, 90), (50_000_000, 149), (100_000_000, 150)];
        let now = Values {
            success: 142,
            error: 8,
            active: 3,
            audit_events: 150,
            answered: 150,
            response_time: buckets.into_iter().collect(),
            up_time: 3_723_000_000_000,
            cpus_used: 2,
            threads: 10,
            heap: 3_500_000,
            stack: 1024,
            ..Values::default()
        };
        let text =
            show("https://127.0.0.1:7373", &now, Some((&before, Duration::from_secs(5))), Color::Never);
        insta::assert_snapshot!(text, @r"
        ● 127.0.0.1:7373, up 1h2m3s

                   OK (2xx)          refused (4xx)     failed (5xx)      in flight         per second
        Requests   142 (94.7 %)      8 (5.3 %)         0 (0.0 %)         3                 10.0

                   half within       99 % within       99.9 % within
        Latency    10 ms             50 ms             100 ms

                   audit             error
        Events     150               0

                   heap              stack             CPUs              threads
        System     3.3 MiB           1.0 KiB           2                 10
        ");
        assert!(show("a", &Values::default(), None, Color::Never).contains("-"), "no rate without a past");
    }
}
