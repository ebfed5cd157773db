//! `kes log`: what an enclave is asked and answers, and what fails in it, as it happens (contract §4.6, §7.4).

use std::io::Write as _;

use super::{
    connect::Within,
    failure::Failure,
    terminal::{Format, json},
};
use crate::{
    api::message::{AuditEvent, ErrorEvent},
    client::{Error, Lines},
};

/// Show the audit log or the error log of a server as it happens
///
/// Only what happens from now on; it goes on until Ctrl-C (exit code 130) or until the server stops.
#[derive(clap::Args)]
#[command(after_help = "\
Audit events are those of the enclave. As JSON they also say which action was asked for, how it was decided, and by \
which rule.

Examples:
  kes log
  kes log --error
  kes log --json | jq 'select(.response.code == 403)'")]
pub(super) struct Log {
    /// Show audit events: who asked for what, and what was answered (the default)
    #[arg(long)]
    audit: bool,
    /// Show errors: what failed in the server
    #[arg(long)]
    error: bool,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    format: Format,
}

enum Event {
    Audit(Box<AuditEvent>),
    Error(ErrorEvent),
}

impl Log {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let Self { audit, error, within, format } = self;
        let address = within.address()?;
        let client = within.client()?;
        let mut audit = if audit || !error { Some(client.audit_log().await?) } else { None };
        let mut errors = if error { Some(client.error_log().await?) } else { None };
        if audit.is_some() && !format.json && !print(&heading(&format)) {
            return Ok(String::new());
        }
        loop {
            let event = tokio::select! {
                event = next(&mut audit) => event?.map(|event| Event::Audit(Box::new(event))),
                event = next(&mut errors) => event?.map(Event::Error),
            };
            let Some(event) = event else {
                return Err(Failure::new(
                    format!("the server at '{address}' ended the log"),
                    "It was probably stopped: run the command again when it is back.",
                ));
            };
            if !print(&line(&event, &format)) {
                return Ok(String::new());
            }
        }
    }
}

/// The next event of a log that was asked for; of another there is none, ever.
async fn next<T: serde::de::DeserializeOwned>(lines: &mut Option<Lines<T>>) -> Result<Option<T>, Error> {
    match lines {
        Some(lines) => lines.next().await,
        None => std::future::pending().await,
    }
}

/// `false` when nobody reads any more.
fn print(line: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

fn heading(format: &Format) -> String {
    format.color.bold(&columns("Time", "Status", "Identity", "IP", "API", "Latency"))
}

/// The columns of v0.22.3.
fn columns(time: &str, status: &str, identity: &str, ip: &str, path: &str, latency: &str) -> String {
    format!("{time:<12}{status:<10}{identity:<24}{ip:<19}{path:<34}{latency}")
}

fn line(event: &Event, format: &Format) -> String {
    match event {
        Event::Audit(event) if format.json => json(event),
        Event::Error(event) if format.json => json(event),
        Event::Error(ErrorEvent { message }) => message.trim_end().to_owned(),
        Event::Audit(event) => {
            let AuditEvent { time, request, response, .. } = &**event;
            let identity: String = request.identity.chars().take(20).collect();
            let code = response.code.to_string();
            let text = columns(
                &time.strftime("%H:%M:%S").to_string(),
                &code,
                if identity.is_empty() { "-" } else { &identity },
                &request.ip,
                &request.path,
                &latency(response.time),
            );
            // coloured afterwards: escapes have no width
            let painted =
                if response.code < 400 { format.color.green(&code) } else { format.color.red(&code) };
            text.replacen(&code, &painted, 1)
        }
    }
}

/// Nanoseconds as Go writes them, rounded so that three digits remain.
fn latency(nanoseconds: u64) -> String {
    let (value, unit) = match nanoseconds {
        0..1_000 => return format!("{nanoseconds}ns"),
        1_000..1_000_000 => (nanoseconds, "µs"),
        1_000_000..1_000_000_000 => (nanoseconds / 1_000, "ms"),
        _ => (nanoseconds / 1_000_000, "s"),
    };
    match value {
        0..10_000 => format!("{}.{:02}{unit}", value / 1000, value % 1000 / 10),
        10_000..100_000 => format!("{}.{}{unit}", value / 1000, value % 1000 / 100),
        _ => format!("{}{unit}", value / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::terminal::Color, *};

    fn event() -> Event {
        let text = r#"{"time":"2026-11-25T16:26:04.9Z","request":{"ip":"127.0.0.1","path":"/v1/key/delete/nope","identity":"f4e9b71331e4d01318f216173d1e52bf"},"response":{"code":404,"time":60123},"action":"DeleteKey","enclave":"default","decision":"allow","rule":"enclave-admin"}"#;
        Event::Audit(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn audit_events_stand_in_the_columns_of_kes() {
        let format = Format { json: false, color: Color::Never };
        assert_eq!(
            heading(&format),
            "Time        Status    Identity                IP                 API                               Latency"
        );
        assert_eq!(
            line(&event(), &format),
            "16:26:04    404       f4e9b71331e4d01318f2    127.0.0.1          /v1/key/delete/nope               60.1µs"
        );
        let coloured = line(&event(), &Format { json: false, color: Color::Always });
        assert!(coloured.starts_with("16:26:04    \x1b[31m404\x1b[0m       f4e9"), "{coloured}");
    }

    #[test]
    fn as_json_nothing_is_left_out() {
        let text = line(&event(), &Format { json: true, color: Color::Never });
        assert!(
            text.contains(r#""action":"DeleteKey""#) && text.contains(r#""rule":"enclave-admin""#),
            "{text}"
        );
        let error = Event::Error(ErrorEvent { message: "disk\n".into() });
        assert_eq!(line(&error, &Format { json: false, color: Color::Never }), "disk");
    }

    #[test]
    fn latencies_have_three_digits_and_a_unit() {
        for (nanoseconds, text) in [
            (999, "999ns"),
            (1_000, "1.00µs"),
            (60_123, "60.1µs"),
            (999_999, "999µs"),
            (1_230_000, "1.23ms"),
            (15_000_000_000, "15.0s"),
        ] {
            assert_eq!(latency(nanoseconds), text);
        }
    }
}
