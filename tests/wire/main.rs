//! Our server beside the real KES: the same requests to KES v0.22.3, to KES v0.23.0 and to ours, and every difference in
//! the answers has a reason in `differences.yaml`. What only later releases have is compared with `contract.yaml`.
//!
//! Needs what `make peers` builds (`PEERS_DIR`); without it the tests say what they skip, and fail where `CI=true`.
//! `WIRE_SHOW='matrix encrypt*' cargo test --test wire -- --nocapture` prints the answers to the requests so called.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by ending")]

mod access;
mod answer;
mod differences;
mod http;
mod requests;
mod session;
mod stage;

use std::{fmt::Write as _, io::Write as _};

use answer::Answer;
use differences::{Contract, Differences, glob};
use stage::{Server, Stage};

/// Whether all of `peers` were built. With `CI=true` they must be; elsewhere `what` is skipped, and the reason is said.
fn available(what: &str, peers: &[&str]) -> bool {
    let missing: Vec<_> = peers.iter().filter(|name| !stage::peer(name).exists()).collect();
    if missing.is_empty() {
        return true;
    }
    let reason = format!("{missing:?} is not in target/peers: 'make peers' builds it");
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_ci, "{what}: {reason}");
    // past the test runner, which hides what a successful test prints
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {reason}");
    false
}

#[test]
fn every_difference_from_the_real_kes_has_a_reason() {
    if !available("comparison with KES v0.22.3 and v0.23.0", &["kes", "kes-0.23"]) {
        return;
    }
    let stage = Stage::new();
    let list = requests::list();
    let answers = |server: Server| -> Vec<Answer> {
        let running = stage.start(server);
        let responses = requests::send(&list, &stage, http::Client::new(stage.path(), running.address));
        responses.iter().map(|response| answer::answer(response, &stage.identities)).collect()
    };
    let [old, new, ours] = std::thread::scope(|scope| {
        [Server::Old, Server::New, Server::Ours]
            .map(|server| scope.spawn(move || answers(server)))
            .map(|thread| thread.join().unwrap())
    });

    let differences = Differences::load();
    let contract = Contract::load();
    let show = std::env::var("WIRE_SHOW").ok();
    let mut report = String::new();
    for (index, request) in list.iter().enumerate() {
        let ours = &ours[index];
        if show.as_ref().is_some_and(|pattern| glob(pattern, &request.id)) {
            println!("{}\n  {:?}\n  {:?}\n  {ours:?}", request.id, old[index], new[index]);
        }
        for (peer, theirs) in [("v0.22.3", &old[index]), ("v0.23.0", &new[index])] {
            report += &differences.unlisted(peer, &request.id, theirs, ours).unwrap_or_default();
        }
        if let Some(expected) = contract.expected(&request.id) {
            // only what the contract says, with text of any kind where it says `*`
            let said = |aspect: &&str| ours.get(aspect).cloned().unwrap_or_default();
            let ours: Answer = expected.keys().map(|aspect| (*aspect, said(aspect))).collect();
            let met = |(aspect, text): (&&'static str, &String)| {
                let text = if glob(text, &ours[aspect]) { &ours[aspect] } else { text };
                (*aspect, text.clone())
            };
            let expected = expected.iter().map(met).collect();
            report += &differences.unlisted("contract", &request.id, &expected, &ours).unwrap_or_default();
        }
    }
    for (server, answers) in [("v0.22.3", &old), ("v0.23.0", &new), ("ours", &ours)] {
        let paths = offered(&list, answers);
        assert!(paths.len() > 20, "{server} offers {paths:?}");
        for path in paths.iter().filter(|path| !is_asked(path)) {
            let _ = writeln!(report, "{server} offers {path}, for which nobody asks");
        }
    }
    for line in differences.stale().into_iter().chain(contract.stale()) {
        let _ = writeln!(report, "{line}");
    }
    let count = report.lines().filter(|line| !line.starts_with("    ")).count();
    assert!(
        report.is_empty(),
        "{count} of {} requests, aspect: [theirs, ours], or stale entries:\n{report}",
        list.len()
    );
}

/// Rotation and bootstrap, which only ours has: `src/server/tests/matrix.rs` asks for them.
const ONLY_OURS: [&str; 5] =
    ["/v1/enclave/rotate/", "/v1/sys/rotate", "/v1/sys/rotation", "/v1/sys/cluster", "/v1/sys/bootstrap"];

fn is_asked(path: &str) -> bool {
    requests::ROUTES.iter().any(|(line, _)| line.split_once(' ').is_some_and(|(_, asked)| asked == path))
        || ONLY_OURS.contains(&path)
}

/// The paths that a server says it has.
fn offered<'a>(list: &[requests::Request], answers: &'a [Answer]) -> Vec<&'a str> {
    let index = list.iter().position(|request| request.id == "matrix api / admin").unwrap();
    let paths =
        answers[index]["body"].lines().filter_map(|line| line.split_once(r#""path":""#)?.1.split_once('"'));
    paths.map(|(path, _)| path).collect()
}

#[test]
fn the_original_programs_and_sdks_do_all_they_can_with_our_server() {
    let peers = session::PROGRAMS.map(|(_, program)| program);
    if !available("sessions of the original programs", &peers) {
        return;
    }
    let wrong: Vec<_> = std::thread::scope(|scope| {
        let threads = session::files().into_iter().map(|file| scope.spawn(move || session::check(&file)));
        threads.collect::<Vec<_>>().into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
