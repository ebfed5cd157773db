//! `kes status`: is the server there, how is it, what does it offer.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{
    connect::Within,
    duration,
    failure::Failure,
    terminal::{Format, json, row, table},
};
use crate::api::message::{self, ApiRoute};

/// Show the state of a server
#[derive(clap::Args)]
pub(super) struct Status {
    /// Only version, uptime and latency
    #[arg(short, long)]
    short: bool,
    /// Also list the routes that the server offers, with their limits
    #[arg(long)]
    api: bool,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    format: Format,
}

/// `kes status --json` as v0.22.3 writes it: uptime in nanoseconds, `num_` before heap and stack.
#[derive(Serialize)]
struct Json<'a> {
    version: &'a str,
    os: &'a str,
    arch: &'a str,
    uptime: u64,
    num_cpu: usize,
    num_cpu_used: usize,
    num_heap_used: u64,
    num_stack_used: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_locked: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<&'a [ApiRoute]>,
}

impl Status {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let Self { short, api, within, format } = self;
        let address = within.address()?;
        let client = within.client()?;
        // the first call also opens the connection; the second measures the server
        client.version().await?;
        let start = Instant::now();
        let status = client.status().await?;
        let latency = start.elapsed();
        let routes = if api { Some(client.api().await?) } else { None };
        if format.json {
            return Ok(to_json(&status, routes.as_deref()));
        }
        Ok(to_text(&address, &status, latency, routes.as_deref(), short, &format))
    }
}

fn to_json(status: &message::Status, api: Option<&[ApiRoute]>) -> String {
    let message::Status {
        version,
        os,
        arch,
        uptime,
        num_cpu,
        num_cpu_used,
        mem_heap_used,
        mem_stack_used,
        mem_locked,
        keystore_latency: _,
        keystore_unreachable: _,
        keystore_unavailable: _,
    } = status;
    let nanoseconds = uptime.saturating_mul(1_000_000_000);
    json(&Json {
        version,
        os,
        arch,
        uptime: nanoseconds,
        num_cpu: *num_cpu,
        num_cpu_used: *num_cpu_used,
        num_heap_used: *mem_heap_used,
        num_stack_used: *mem_stack_used,
        mem_locked: *mem_locked,
        api,
    }) + "\n"
}

fn to_text(
    address: &str,
    status: &message::Status,
    latency: Duration,
    routes: Option<&[ApiRoute]>,
    short: bool,
    format: &Format,
) -> String {
    let color = format.color;
    let line = |label: &str, value: &str| format!("  {}", row(color, label, value));
    let mut text = format!("{} {}\n", color.green("●"), color.bold(address.trim_start_matches("https://")));
    text += &line("Version", &status.version);
    text += &line("Uptime", &duration::show(status.uptime));
    text += &line("Latency", &format!("{} ms", latency.as_millis().max(1)));
    if !short {
        text += &line("OS", &status.os);
        text += &line("CPUs", &format!("{} ({})", status.num_cpu_used, status.arch));
        text += &line("Memory", "");
        text += &line("  · Heap", &bytes(status.mem_heap_used));
        text += &line("  · Stack", &bytes(status.mem_stack_used));
        if let Some(locked) = status.mem_locked {
            text += &line("  · Locked", if locked { "yes" } else { "no" });
        }
    }
    if let Some(routes) = routes {
        let row = |route: &ApiRoute| {
            let limit = if route.timeout == 0 { "∞".into() } else { format!("{}s", route.timeout) };
            vec![route.method.clone(), route.path.clone(), bytes(route.max_body), limit]
        };
        let rows: Vec<_> = routes.iter().map(row).collect();
        text.push('\n');
        text += &table(color, &["Method", "Path", "Body", "Timeout"], &rows);
    }
    text
}

/// A number of bytes as people read it.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        if count >= 1 << shift {
            let tenths = count.saturating_mul(10) >> shift;
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{count} B")
}

#[cfg(test)]
mod tests {
    use super::super::terminal::Color;
    use super::*;

    fn status() -> message::Status {
        message::Status {
            version: "0.1.0".into(),
            os: "linux".into(),
            arch: "amd64".into(),
            uptime: 3723,
            num_cpu: 2,
            num_cpu_used: 2,
            mem_heap_used: 41_943_040,
            mem_stack_used: 1536,
            mem_locked: Some(true),
            keystore_latency: None,
            keystore_unreachable: false,
            keystore_unavailable: false,
        }
    }

    #[test]
    fn a_status_is_shown_in_the_rows_of_kes() {
        let format = Format { json: false, color: Color::Never };
        let route =
            ApiRoute { method: "POST".into(), path: "/v1/key/create/".into(), max_body: 0, timeout: 15 };
        let text = to_text(
            "https://127.0.0.1:7373",
            &status(),
            Duration::from_micros(900),
            Some(&[route]),
            false,
            &format,
        );
        insta::assert_snapshot!(text, @r"
        ● 127.0.0.1:7373
          Version    0.1.0
          Uptime     1h2m3s
          Latency    1 ms
          OS         linux
          CPUs       2 (amd64)
          Memory     
            · Heap   40.0 MiB
            · Stack  1.5 KiB
            · Locked yes

        Method Path            Body Timeout
        POST   /v1/key/create/ 0 B  15s
        ");
        insta::assert_snapshot!(to_json(&status(), None), @r#"{"version":"0.1.0","os":"linux","arch":"amd64","uptime":3723000000000,"num_cpu":2,"num_cpu_used":2,"num_heap_used":41943040,"num_stack_used":1536,"mem_locked":true}"#);
    }
}
