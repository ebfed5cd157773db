//! `make bench`: our server and real KES servers side by side, in one run.
//!
//! ```text
//! plan ─► for each load, for each round: every server in turn ─► usage before and after ─► report.md, report.json, picture
//! ```
//! All servers run all the time, so that one that burns CPU while idle harms all alike; the order turns from round to
//! round. What a server used is what the kernel says of its process.
//!
//! Environment:
//!
//! | Variable | Default | |
//! |---|---|---|
//! | `BENCH_SECONDS` | 2 | length of one load |
//! | `BENCH_ROUNDS` | 3 | how often each is repeated |
//! | `BENCH_ONLY` | | ids of loads (`plan.rs`) or parts of them, separated by commas, e.g. `generate-h2-64,cold,create,scale` |
//! | `BENCH_PEERS` | | `none`: ours alone |
//! | `BENCH_ALSO` | | further binaries of ours, e.g. `before=target/before/kes` |
//! | `BENCH_FULL` | | `1`: ten million keys instead of one; a quarter of an hour and 4 GB of disk more |
//! | `BENCH_KEYS` | 1000000 | keys that ours is filled with |
//! | `BENCH_PEER_KEYS` | 50000 | keys that each KES is filled with: a million take it many minutes and 4 GB |
//! | `PEERS_DIR` | `target/peers` | where `make peers` put KES |

mod client;
mod load;
mod machine;
mod picture;
mod plan;
mod report;
mod results;
mod scale;
mod server;
mod usage;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;

use self::{
    load::{Call, Load, Measured, Names},
    plan::{COLD, COLD_KEYS, KEY, SCENARIOS, Scenario, Settings},
    results::{Cell, Results, Round, Row},
    server::{Identities, Kind, Program, Server},
    usage::Usage,
};

fn main() -> std::process::ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start")
        .and_then(|runtime| runtime.block_on(until_interrupted()));
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Runs everything; a signal drops it, and so ends every server and removes what was written.
async fn until_interrupted() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        done = compare() => done,
        _ = terminate.recv() => bail!("terminated; the servers were ended"),
        _ = interrupt.recv() => bail!("interrupted; the servers were ended"),
    }
}

async fn compare() -> Result<()> {
    let settings = Settings::from_environment()?;
    let programs = programs()?;
    let scaled = programs.clone();
    let out = target()?.join("bench");
    std::fs::create_dir_all(&out)?;
    // on the disk of the build, and not in /tmp, which may be memory
    let dir = tempfile::Builder::new().prefix("run-").tempdir_in(&out)?;
    let mut results = Results {
        command: command_line(),
        machine: machine::describe(),
        sync_ms: machine::sync_time(dir.path())?.as_secs_f64() * 1e3,
        seconds: settings.seconds,
        rounds: settings.rounds,
        servers: programs.iter().map(|program| program.label.clone()).collect(),
        resident_at_start: Vec::new(),
        rows: Vec::new(),
        scale: Vec::new(),
    };
    let identities = Identities::create(&programs[0].binary, &dir.path().join("tls"))?;
    let mut servers = Vec::new();
    for (index, program) in programs.into_iter().enumerate() {
        say(&format!("starting {} ({})", program.label, program.binary.display()));
        let server = Server::create(program, &identities, dir.path().join(index.to_string())).await?;
        results.resident_at_start.push(machine::resident(server.pid()?));
        server.client.once("POST", &Call::Create.path(KEY), &Bytes::new()).await?;
        servers.push(server);
    }
    for scenario in SCENARIOS.iter().filter(|scenario| settings.wants(scenario.id)) {
        results.rows.push(measure(scenario, &mut servers, &settings).await);
    }
    drop(servers);
    if settings.wants("scale") {
        results.scale = scale::measure(&settings, &scaled, &identities, dir.path()).await?;
    }

    let report = report::markdown(&results);
    std::fs::write(out.join("report.md"), &report)?;
    std::fs::write(out.join("report.json"), serde_json::to_vec_pretty(&results)?)?;
    std::fs::write(out.join("report.svg"), picture::svg(&results))?;
    println!("{report}");
    say(&format!("written: {}/report.md, report.json, report.svg", out.display()));
    Ok(())
}

/// All rounds of one load on all servers. A server that fails is out of the rest of this load, and is started again.
async fn measure(scenario: &Scenario, servers: &mut [Server], settings: &Settings) -> Row {
    say(scenario.title);
    let mut row = Row {
        id: scenario.id,
        title: scenario.title,
        is_create: matches!(scenario.kind, plan::Kind::Create(_)),
        cells: vec![Cell::default(); servers.len()],
    };
    for round in 0..settings.rounds {
        for turn in 0..servers.len() {
            let index = (turn + round) % servers.len();
            let (server, cell) = (&mut servers[index], &mut row.cells[index]);
            if cell.trouble.is_some() {
                continue;
            }
            match one_round(scenario, server, round, settings.seconds).await {
                Ok(measured) => {
                    say(&format!(
                        "    {:<14} {:7.1} µs  {:9.0}/s  p99 {:.2} ms  {:.2} CPUs",
                        server.program.label,
                        measured.cpu_us,
                        measured.per_second,
                        measured.p99_ms,
                        measured.cpus
                    ));
                    cell.rounds.push(measured);
                }
                Err(error) => {
                    let trouble = format!("{error:#}");
                    say(&format!("    {:<14} {trouble}", server.program.label));
                    cell.trouble = Some(trouble);
                    server.kill();
                    if let Err(error) = server.start().await {
                        say(&format!("    {error:#}"));
                    }
                }
            }
        }
    }
    row
}

async fn one_round(scenario: &Scenario, server: &mut Server, round: usize, seconds: f64) -> Result<Round> {
    let mut load = scenario.load(round, seconds);
    if scenario.needs_keys() {
        let bodies = cold_keys(server).await?;
        load.bodies = (load.call == Call::Decrypt).then_some(bodies);
    }
    match (scenario.kind, &mut load.names) {
        (plan::Kind::Warm(..), _) => warm_up(server, &load).await?,
        (plan::Kind::Create(_), _) => {}
        (plan::Kind::Cold(..), _) => cool_down(server).await?,
        (plan::Kind::List(_), Names::Cycle(_, _, end)) => *end = server.list_end(),
        (plan::Kind::List(_), _) => {}
    }
    let (measured, used) = run(server, &load).await?;
    if !server.is_running() {
        bail!("it ended under the load: {}", server.last_words());
    }
    let requests = measured.requests();
    if requests == 0 {
        bail!("no request succeeded, {} failed", measured.failed);
    }
    let each = |total: f64| total / requests as f64;
    Ok(Round {
        requests,
        failed: measured.failed,
        per_second: requests as f64 / measured.seconds,
        p50_ms: measured.quantile(0.5),
        p99_ms: measured.quantile(0.99),
        cpu_us: each(used.cpu_seconds * 1e6),
        cpus: used.cpu_seconds / measured.seconds,
        written_bytes: each(used.written as f64),
    })
}

async fn run(server: &Server, load: &Load) -> Result<(Measured, Usage)> {
    let pid = server.pid()?;
    let (measured, before, after) = load::run(&server.client, load, || Usage::of(pid)).await?;
    Ok((measured, after.since(before)))
}

/// Lets caches fill and connections of the runtime wake up.
async fn warm_up(server: &Server, load: &Load) -> Result<()> {
    let load = Load { seconds: 0.2, ..load.clone() };
    run(server, &load).await.map(drop)
}

/// The keys of the cold loads, made at first, and what to decrypt under each.
async fn cold_keys(server: &mut Server) -> Result<Arc<Vec<Bytes>>> {
    let made = match server.cold.take() {
        Some(made) => made,
        None => make_cold_keys(server).await.map_err(|error| format!("{error:#}")),
    };
    server.cold = Some(made.clone());
    made.map_err(anyhow::Error::msg)
}

async fn make_cold_keys(server: &Server) -> Result<Arc<Vec<Bytes>>> {
    let names = Names::Each(COLD.into(), COLD_KEYS);
    let shape = load::Shape { http: client::Http::Two, connections: 4, streams: 64, reconnect: false };
    let load = Load { call: Call::Create, names, shape, seconds: 120.0, bodies: None };
    let (measured, _) = run(server, &load).await?;
    if measured.requests() < COLD_KEYS {
        bail!("only {} of {COLD_KEYS} keys could be made", measured.requests());
    }
    Ok(Arc::new(load::ciphertexts(&server.client, COLD, COLD_KEYS).await?))
}

/// Starts the server anew, so that it has no key in memory.
async fn cool_down(server: &mut Server) -> Result<()> {
    server.kill();
    server.start().await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(())
}

/// Who takes part; ours first.
fn programs() -> Result<Vec<Program>> {
    let ours = ours()?;
    let mut programs = vec![Program { label: "ours".into(), binary: ours, kind: Kind::Ours }];
    for also in std::env::var("BENCH_ALSO").unwrap_or_default().split(',').filter(|also| !also.is_empty()) {
        let (label, path) = also.split_once('=').with_context(|| {
            format!("BENCH_ALSO has '{also}', which is not of the form LABEL=PATH of a binary of ours")
        })?;
        let binary = std::fs::canonicalize(path).with_context(|| format!("BENCH_ALSO: '{path}'"))?;
        programs.push(Program { label: label.into(), binary, kind: Kind::Ours });
    }
    if std::env::var("BENCH_PEERS").is_ok_and(|peers| peers == "none") {
        return Ok(programs);
    }
    let dir = std::env::var_os("PEERS_DIR")
        .map_or_else(|| Ok(target()?.join("peers")), |dir| anyhow::Ok(dir.into()))?;
    let peers = [("KES 0.22.3", "kes", Kind::Stateful), ("KES 0.23.0", "kes-0.23", Kind::Stateless)];
    for (label, file, kind) in peers {
        match std::fs::canonicalize(dir.join(file)) {
            Ok(binary) => programs.push(Program { label: label.into(), binary, kind }),
            Err(_) if kind == Kind::Stateless => {
                say(&format!("{label} is not at {} and does not take part", dir.join(file).display()));
            }
            Err(_) => bail!(
                "{label}, which ours is compared with, is not at {}. Build it with 'make peers' (Go 1.26 and the Go module \
                 proxy are needed; PEERS_DIR says where else it is), or measure ours alone with BENCH_PEERS=none.",
                dir.join(file).display()
            ),
        }
    }
    Ok(programs)
}

/// Our server, which is built together with this program.
pub(crate) fn ours() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("kes");
    if !path.is_file() {
        bail!("our server is not at {}. 'make bench' builds both.", path.display());
    }
    Ok(path)
}

/// Cargo's target directory, where this program is in `release/`.
fn target() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    Ok(exe.ancestors().nth(2).context("this program is not in a target directory")?.to_owned())
}

/// How to repeat this run.
fn command_line() -> String {
    let mut variables: Vec<_> = std::env::vars().filter(|(name, _)| name.starts_with("BENCH_")).collect();
    variables.sort();
    let set: String = variables.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    format!("{set}make bench")
}

fn say(text: &str) {
    eprintln!("bench: {text}");
}
