//! Many keys in our server: made through the API, then the process is killed and started again.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{
    client::Http,
    load::{self, Call, Load, Names, Shape},
    machine,
    plan::Settings,
    results::Scale,
    say,
    server::{Identities, Kind, Program, Server},
    usage::Usage,
};

const MANY: usize = 1_000_000;
const FULL: usize = 10_000_000;

/// Fills a fresh server of ours with a million keys, with `BENCH_FULL` with ten.
pub(crate) async fn measure(settings: &Settings, identities: &Identities, dir: &Path) -> Result<Vec<Scale>> {
    let keys = match std::env::var("BENCH_KEYS").ok().and_then(|keys| keys.parse().ok()) {
        Some(keys) => keys,
        None if settings.full => FULL,
        None => MANY,
    };
    say(&format!("{keys} keys, made by 512 clients; then kill -9"));
    let program = Program { label: "ours".into(), binary: crate::ours()?, kind: Kind::Ours };
    let mut server = Server::create(program, identities, dir.join("scale")).await?;
    let pid = server.pid()?;
    let empty = machine::occupied(&server.data());
    let load = Load {
        call: Call::Create,
        names: Names::Each("bench-many".into(), keys),
        shape: Shape { http: Http::Two, connections: 8, streams: 64, reconnect: false },
        seconds: 3600.0,
    };
    let (measured, before, after) = load::run(&server.client, &load, || Usage::of(pid)).await?;
    if measured.requests() < keys {
        bail!("only {} of {keys} keys could be made: {}", measured.requests(), server.last_words());
    }
    let resident_filled = machine::resident(pid);
    server.kill();
    let occupied = machine::occupied(&server.data()).saturating_sub(empty);
    let open = server.start().await?;
    Ok(vec![Scale {
        server: "ours".into(),
        keys,
        creates_per_second: measured.requests() as f64 / measured.seconds,
        create_cpu_us: after.since(before).cpu_seconds * 1e6 / measured.requests() as f64,
        bytes_per_key: occupied as f64 / keys as f64,
        resident_filled,
        open_ms: open.as_secs_f64() * 1e3,
        resident_opened: machine::resident(server.pid()?),
    }])
}
