//! Load on the data plane of any running KES-compatible server; `compare` does the same for servers that it starts.
//!
//! ```text
//! cargo bench --bench load -- --server 127.0.0.1:7373 --cert c.crt --key c.key --name my-key \
//!     --http 2 --connections 1 --streams 64 --seconds 5 --pid $(pidof kes)
//! ```
//! CPU is the server's own, user and system; without `--pid` it is not told. One line of JSON comes out. The server's
//! certificate is not verified.

#[path = "../client.rs"]
mod client;
#[path = "../load.rs"]
mod load;
#[path = "../usage.rs"]
mod usage;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use clap::Parser;

use self::{
    client::{Client, Http},
    load::{Call, Load, Names, Shape},
    usage::Usage,
};

#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Address of the server.
    #[arg(long)]
    server: SocketAddr,
    /// Client certificate (PEM).
    #[arg(long)]
    cert: PathBuf,
    /// Its key (PEM).
    #[arg(long)]
    key: PathBuf,
    /// Name of the key; with `--names` and for `create`, the prefix of names.
    #[arg(long, default_value = "my-key")]
    name: String,
    /// Use NAME-0 … NAME-(N-1), each once, and end; list NAME-0* … NAME-(N-1)* again and again.
    #[arg(long)]
    names: Option<usize>,
    /// `generate`, `decrypt`, `create` or `list` (NAME is a pattern then).
    #[arg(long, default_value = "generate", value_parser = call)]
    call: Call,
    /// HTTP version, 1 or 2.
    #[arg(long, default_value_t = 2)]
    http: u8,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Requests in flight on each connection (HTTP/2 only).
    #[arg(long, default_value_t = 64)]
    streams: usize,
    /// A connection for each request.
    #[arg(long)]
    reconnect: bool,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Process id of the server.
    #[arg(long)]
    pid: Option<u32>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn call(text: &str) -> Result<Call, String> {
    match text {
        "generate" => Ok(Call::Generate),
        "decrypt" => Ok(Call::Decrypt),
        "create" => Ok(Call::Create),
        "list" => Ok(Call::List),
        _ => Err("one of generate, decrypt, create, list".into()),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let client = Client::new(arguments.server, &arguments.cert, &arguments.key)?;
    let names = match arguments.names {
        Some(names) if arguments.call == Call::List => Names::Cycle(arguments.name, 0..names.max(1), "*"),
        Some(names) => Names::Each(arguments.name, names),
        None if arguments.call == Call::Create => Names::Fresh(arguments.name),
        None => Names::One(arguments.name),
    };
    let shape = Shape {
        http: if arguments.http == 2 { Http::Two } else { Http::One },
        connections: arguments.connections,
        streams: arguments.streams,
        reconnect: arguments.reconnect,
    };
    let bodies = match &names {
        Names::Each(prefix, count) if arguments.call == Call::Decrypt => {
            Some(Arc::new(load::ciphertexts(&client, prefix, *count).await?))
        }
        _ => None,
    };
    let load = Load { call: arguments.call, names, shape, seconds: arguments.seconds, bodies };
    let gauge = || arguments.pid.map(Usage::of);
    let (measured, before, after) = load::run(&client, &load, gauge).await?;
    let count = measured.requests().max(1) as f64;
    let used = after.zip(before).map(|(after, before)| after.since(before));
    println!(
        "{}",
        serde_json::json!({
            "requests": measured.requests(), "failed": measured.failed,
            "per_second": (count / measured.seconds).round(),
            "p50_ms": measured.quantile(0.5), "p99_ms": measured.quantile(0.99),
            "cpu_us_per_request": used.map(|used| used.cpu_seconds * 1e6 / count),
            "written_bytes_per_request": used.map(|used| used.written as f64 / count),
        })
    );
    Ok(())
}
