//! What was acknowledged survives kill -9 of the real server process, at any moment, and nothing else is half there.
//!
//! Workers change keys, secrets, policies, identities and enclaves, each its own, and keep an oracle of what must be there
//! (`oracle`). The process is killed at a random moment, also while it starts, and what it then has is compared with
//! the oracle. Without `KES_KILL_ROUNDS` it is killed 300 times, or as often as `BUDGET` allows on a slow machine;
//! with it, exactly that often (the long run uses 10,000): each data directory for `LIVES` lives, since to check all that
//! is in it takes longer and longer.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod damage;
mod full;
mod load;
mod memory;
mod oracle;
mod process;
mod rotation;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use self::{
    load::{Clients, Worker},
    oracle::Dice,
    process::Place,
};

const ROUNDS: u64 = 300;
const BUDGET: Duration = Duration::from_secs(60);
/// Lives of one data directory.
const LIVES: u64 = 500;
const WORKERS: usize = 16;
const WITH_ENCLAVE: usize = 4;
/// Longest load before a kill, in microseconds.
const LOAD: u64 = 60_000;
/// A kill while the server starts comes at most so late, in microseconds.
const START: u64 = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_at_any_moment_and_nothing_is_half_there() {
    let asked: Option<u64> = std::env::var("KES_KILL_ROUNDS").ok().map(|n| n.parse().unwrap());
    let (rounds, started) = (asked.unwrap_or(ROUNDS), Instant::now());
    let (mut dice, mut round, mut acknowledged) = (Dice::new(2026), 0, 0);
    let is_on = |round| round < rounds && (asked.is_some() || started.elapsed() < BUDGET);
    while is_on(round) {
        let mut lives = Lives::new().await;
        for _ in 0..LIVES {
            if is_on(round) {
                lives.one(&mut dice, round % 50 == 0).await;
                round += 1;
            }
        }
        acknowledged += lives.end().await;
        println!("{round} ends in {:?}, {acknowledged} changes acknowledged", started.elapsed());
    }
    assert!(acknowledged > round, "too few changes between the kills to prove anything");
}

/// The lives of one server, and who knows what it must have.
struct Lives {
    place: Place,
    workers: Vec<Worker>,
}

impl Lives {
    async fn new() -> Self {
        let place = Place::new(tempfile::tempdir().unwrap()).await;
        let workers = (0..WORKERS).map(|n| Worker::new(n, &place, n < WITH_ENCLAVE)).collect();
        Self { place, workers }
    }

    /// From a start to a violent end, mostly. Checks what was changed in the life before, or all.
    async fn one(&mut self, dice: &mut Dice, all: bool) {
        let mut server = self.place.start();
        if dice.below(8) == 0 {
            tokio::time::sleep(Duration::from_micros(dice.below(START))).await;
            return server.kill();
        }
        let clients = connect(&self.place, &mut server).await;
        join_all(self.workers.iter_mut().map(|worker| worker.check(&clients, all))).await;
        let (dead, moment) = (CancellationToken::new(), Duration::from_micros(dice.below(LOAD)));
        let is_kill = dice.below(10) > 0;
        let end = async {
            tokio::time::sleep(moment).await;
            if is_kill {
                server.kill();
            } else {
                server.terminate().await;
            }
            dead.cancel();
        };
        let load = join_all(self.workers.iter_mut().map(|worker| worker.run(&clients, &dead)));
        futures::future::join(load, end).await;
    }

    /// Checks all, and that nothing else is there. Returns how many changes were acknowledged.
    async fn end(mut self) -> u64 {
        let mut server = self.place.start();
        let clients = connect(&self.place, &mut server).await;
        join_all(self.workers.iter_mut().map(|worker| worker.check(&clients, true))).await;
        let listed = clients.admin.list_keys("*").await.unwrap();
        let listed: BTreeSet<_> = listed.iter().map(|info| &info.name).collect();
        let present: BTreeSet<_> = self.workers.iter().flat_map(Worker::present).collect();
        assert!(listed == present, "the listing is not what was acknowledged");
        server.kill();
        self.workers.iter().map(|worker| worker.acknowledged).sum()
    }
}

async fn connect(place: &Place, server: &mut process::Server) -> Clients {
    place.wait_until_ready(server).await;
    Clients { admin: place.admin(None), system: place.system(), admin_identity: place.admin_identity() }
}
