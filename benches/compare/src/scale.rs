//! Many keys in one server: made through the API, listed, then the process is killed, started again and its keys used.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    client::Http,
    load::{self, Call, Load, Measured, Names, Shape},
    machine,
    plan::Settings,
    results::Scale,
    say,
    server::{Identities, Kind, Program, Server},
    usage::Usage,
};

/// What names begin with.
const MANY: &str = "bench-many";
const BY_MANY: Shape = Shape { http: Http::Two, connections: 8, streams: 64, reconnect: false };
const ALONE: Shape = Shape { http: Http::One, connections: 1, streams: 1, reconnect: false };
/// No load here takes longer, in seconds.
const PATIENCE: f64 = 6.0 * 3600.0;
/// Keys that are in use at once.
const HOT: usize = 100_000;
/// Bytes of disk that a key takes at most while the servers are filled: one file of one block where keys are files.
const ROOM: [(Kind, u64); 3] = [(Kind::Ours, 400), (Kind::Stateful, 1_000), (Kind::Stateless, 4_400)];

/// Fills a fresh server of each program, ours with a million keys or more.
pub(crate) async fn measure(
    settings: &Settings,
    programs: &[Program],
    identities: &Identities,
    dir: &Path,
) -> Result<Vec<Scale>> {
    let mut scales = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        let keys = if program.kind == Kind::Ours { settings.keys } else { settings.peer_keys };
        let label = program.label.clone();
        say(&format!("{label}: {keys} keys, made by 512 clients; then kill -9"));
        let dir = dir.join(format!("scale-{index}"));
        let (fresh, at) = (program.clone(), dir.clone());
        match one(fresh, keys, identities, at).await {
            Ok(scale) => scales.push(scale),
            Err(error) if program.kind == Kind::Ours => return Err(error),
            Err(error) => {
                let trouble = format!("{error:#}");
                say(&format!("    {label}: {trouble}"));
                scales.push(Scale { server: label, keys, trouble: Some(trouble), ..Scale::default() });
            }
        }
        // room for the next
        let _ = std::fs::remove_dir_all(&dir);
    }
    Ok(scales)
}

async fn one(
    program: Program,
    keys: usize,
    identities: &Identities,
    dir: std::path::PathBuf,
) -> Result<Scale> {
    std::fs::create_dir_all(&dir)?;
    let room = ROOM.iter().find(|(kind, _)| *kind == program.kind).map_or(0, |(_, bytes)| *bytes);
    let (needed, free) = (keys as u64 * room + (1 << 30), free(&dir)?);
    ensure!(
        free > needed,
        "{keys} keys may take {} MiB of disk, and {} MiB are free at {}. Choose fewer with BENCH_KEYS or BENCH_PEER_KEYS.",
        needed >> 20,
        free >> 20,
        dir.display()
    );
    let label = program.label.clone();
    let mut server = Server::create(program, identities, dir).await?;
    let empty = machine::occupied(&server.data());
    let each = |call, count| Load {
        call,
        names: Names::Each(MANY.into(), count),
        shape: BY_MANY,
        seconds: PATIENCE,
        bodies: None,
    };
    let (made, used) = run(&server, &each(Call::Create, keys)).await?;
    if made.requests() < keys {
        bail!("only {} of {keys} keys could be made: {}", made.requests(), server.last_words());
    }
    let resident_filled = machine::resident(server.pid()?);
    server.kill();
    let occupied = machine::occupied(&server.data()).saturating_sub(empty);
    let open = server.start().await?;
    let resident_opened = machine::resident(server.pid()?);

    let list = Load {
        call: Call::List,
        names: Names::Cycle(MANY.into(), prefixes(keys), server.list_end()),
        shape: ALONE,
        seconds: 3.0,
        bodies: None,
    };
    let (listed, list_used) = run(&server, &list).await?;
    let (hot, _) = run(&server, &Load { seconds: 30.0, ..each(Call::Generate, keys.min(HOT)) }).await?;
    Ok(Scale {
        server: label,
        keys,
        creates_per_second: made.requests() as f64 / made.seconds,
        create_cpu_us: used.cpu_seconds * 1e6 / made.requests() as f64,
        bytes_per_key: occupied as f64 / keys as f64,
        resident_filled,
        open_ms: open.as_secs_f64() * 1e3,
        resident_opened,
        list_p50_ms: listed.quantile(0.5),
        list_p99_ms: listed.quantile(0.99),
        list_cpu_us: list_used.cpu_seconds * 1e6 / listed.requests().max(1) as f64,
        hot_keys: hot.requests(),
        resident_hot: machine::resident(server.pid()?),
        trouble: (!server.is_running()).then(|| format!("it ended under the load: {}", server.last_words())),
    })
}

async fn run(server: &Server, load: &Load) -> Result<(Measured, Usage)> {
    let pid = server.pid()?;
    let (measured, before, after) = load::run(&server.client, load, || Usage::of(pid)).await?;
    Ok((measured, after.since(before)))
}

/// Numbers with which the names of 1,111 keys begin each, of a power of ten of keys: for a million, 100 to 999.
fn prefixes(keys: usize) -> std::ops::Range<usize> {
    let digits = keys.max(10_000).ilog10() - 3;
    let first = 10_usize.pow(digits - 1);
    first..first * 10.min(keys / (first * 1000)).max(2)
}

/// Bytes that are free where `dir` is (`df(1)`).
fn free(dir: &Path) -> Result<u64> {
    let done = Command::new("df").arg("-Pk").arg(dir).output().context("failed to run df")?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let line = text.lines().nth(1).unwrap_or_default();
    let kibibytes = line.split_whitespace().nth(3).and_then(|free| free.parse::<u64>().ok());
    Ok(kibibytes.with_context(|| format!("df says '{line}'"))? * 1024)
}
