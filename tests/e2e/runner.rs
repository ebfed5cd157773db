//! Runs the cases: several at a time, each in a namespace of its own, each with a deadline, each ending in one line.
//!
//! A case that finds something false panics, and has failed. One that ends with an error or too late was stopped by what it
//! waited for or used, and says nothing about the product yet: it runs once more, alone, and is told of at the end.

use std::{
    future::Future,
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};

use crate::world::World;

/// How a case ends when it neither fails nor panics.
pub(crate) enum Ending {
    /// Everything held.
    Held,
    /// What it needs is not here. With `CI=true` that is a failure.
    Skipped(String),
}

pub(crate) type Outcome = anyhow::Result<Ending>;
type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One fact about the product on a cluster.
pub(crate) struct Case {
    name: &'static str,
    /// Whether it disturbs others, so that it runs alone, after them.
    alone: bool,
    run: Box<dyn Fn(World) -> Running + Send + Sync>,
}

impl Case {
    /// A case that may run beside others.
    pub(crate) fn new<F>(name: &'static str, run: impl Fn(World) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        Self { name, alone: false, run: Box::new(move |world| Box::pin(run(world))) }
    }

    /// A case that disturbs others.
    pub(crate) fn alone<F>(name: &'static str, run: impl Fn(World) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        Self { alone: true, ..Self::new(name, run) }
    }
}

/// No case takes longer, whatever it waits for.
const LIMIT: Duration = Duration::from_secs(420);
/// Most of a case's time is waiting, so several share two cores well.
const AT_A_TIME: usize = 4;

enum Verdict {
    Held,
    /// At the second time of asking; why not at the first.
    HeldLater(String),
    Skipped(String),
    /// It did not get to its end.
    Stuck(String),
    Failed(String),
}

/// Runs `cases` as the arguments and the environment ask.
pub(crate) fn main(cases: Vec<Case>) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let chosen: Vec<_> = cases
        .into_iter()
        .filter(|case| words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str())))
        .collect();
    if std::env::args().any(|argument| argument == "--list") {
        chosen.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    if std::env::var_os("KES_E2E").is_none_or(|value| value != "1") {
        println!("e2e: {} cases are not run here: make test-cluster runs them on a cluster", chosen.len());
        return ExitCode::SUCCESS;
    }
    // an error means that a provider is installed already
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run_all(chosen))
}

async fn run_all(cases: Vec<Case>) -> ExitCode {
    let client = match kube::Client::try_default().await {
        Ok(client) => client,
        Err(error) => {
            eprintln!("e2e: failed to find the cluster of KUBECONFIG: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("e2e: {} cases", cases.len());
    let began = Instant::now();
    let (alone, together): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.alone);
    let mut verdicts: Vec<_> = stream::iter(together)
        .map(|case| {
            let client = client.clone();
            async move { (case, run_one(client, case).await) }
        })
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    for case in alone {
        verdicts.push((case, run_one(client.clone(), case).await));
    }
    for (case, verdict) in &mut verdicts {
        if let Verdict::Stuck(first) = verdict {
            *verdict = match run_one(client.clone(), case).await {
                Verdict::Held => Verdict::HeldLater(std::mem::take(first)),
                second => second,
            };
        }
    }
    let verdicts: Vec<_> = verdicts.into_iter().map(|(case, verdict)| (case.name, verdict)).collect();
    let (mut held, mut skipped, mut failed) = (0, 0, 0);
    for (name, verdict) in &verdicts {
        match verdict {
            Verdict::Held => held += 1,
            Verdict::HeldLater(why) => {
                held += 1;
                println!("\n---- {name} held at the second time of asking; at the first:\n{why}");
            }
            Verdict::Skipped(_) => skipped += 1,
            Verdict::Stuck(why) | Verdict::Failed(why) => {
                failed += 1;
                println!("\n---- {name}\n{why}");
            }
        }
    }
    println!("\ne2e: {held} held, {failed} failed, {skipped} skipped, after {} s", began.elapsed().as_secs());
    for_the_end(&verdicts);
    // a skipped case proves nothing, and CI is there for proofs
    let strict = std::env::var("CI").is_ok_and(|value| value == "true");
    if failed > 0 || (strict && skipped > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Says what did not hold once more, in the file that `tests/cluster/test.sh` prints at its end: a CI may keep the last lines only.
fn for_the_end(verdicts: &[(&str, Verdict)]) {
    let Some(file) = std::env::var_os("FAILURE_FILE") else { return };
    let text: String = verdicts
        .iter()
        .filter_map(|(name, verdict)| {
            let (what, why) = match verdict {
                Verdict::Held => return None,
                Verdict::HeldLater(why) => ("HELD ONLY AT THE SECOND TIME", why),
                Verdict::Skipped(why) => ("SKIPPED", why),
                Verdict::Stuck(why) | Verdict::Failed(why) => ("FAILED", why),
            };
            let why: Vec<_> = why.lines().take(4).collect();
            Some(format!("{what}: {name}\n  why:  {}\n", why.join("\n        ")))
        })
        .collect();
    if let Err(error) = std::fs::write(&file, text) {
        eprintln!("e2e: failed to write {}: {error}", file.display());
    }
}

async fn run_one(client: kube::Client, case: &Case) -> Verdict {
    let began = Instant::now();
    let name = case.name;
    let verdict = match World::new(client, name).await {
        Err(error) => Verdict::Stuck(format!("failed to make its namespace: {error:#}")),
        Ok(world) => {
            let running = tokio::spawn(tokio::time::timeout(LIMIT, (case.run)(world.clone())));
            let with_state = async |why| format!("{why}\n{}", world.diagnose().await);
            let verdict = match running.await {
                Ok(Ok(Ok(Ending::Held))) => Verdict::Held,
                Ok(Ok(Ok(Ending::Skipped(why)))) => Verdict::Skipped(why),
                Ok(Ok(Err(error))) => Verdict::Stuck(with_state(format!("{error:#}")).await),
                Ok(Err(_)) => Verdict::Stuck(with_state(format!("it did not end within {LIMIT:?}")).await),
                Err(error) => Verdict::Failed(with_state(panic_text(error)).await),
            };
            world.remove().await;
            verdict
        }
    };
    let seconds = began.elapsed().as_secs();
    let first_line = |why: &str| why.lines().next().unwrap_or_default().to_owned();
    match &verdict {
        Verdict::Held | Verdict::HeldLater(_) => println!("e2e {name} ... ok ({seconds} s)"),
        Verdict::Skipped(why) => println!("e2e {name} ... skipped: {why}"),
        Verdict::Stuck(why) => println!("e2e {name} ... STUCK ({seconds} s): {}", first_line(why)),
        Verdict::Failed(why) => println!("e2e {name} ... FAILED ({seconds} s): {}", first_line(why)),
    }
    verdict
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "it panicked".into()),
        Err(error) => error.to_string(),
    }
}
