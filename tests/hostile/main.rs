//! Clients that mean harm, against the real server process: its memory stays bounded, its limits hold, and others are
//! served meanwhile.
//!
//! `KES_HOSTILE=10` makes every attack ten times as large.

#![recursion_limit = "256"]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod crowd;
mod drain;
mod files;
mod frames;
mod http2;
mod leaks;
mod reload;
mod server;
mod sizes;
mod slow;
mod unread;

/// `n`, or as many times more as `KES_HOSTILE` says.
fn times(n: usize) -> usize {
    std::env::var("KES_HOSTILE").map_or(n, |factor| n * factor.parse::<usize>().unwrap())
}
