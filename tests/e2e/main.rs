//! Tests on a real Kubernetes cluster: one file per feature, all of them on the cluster that `make test-cluster` brings
//! up, with the operator, the MinIO Operator (or its stand-in) and the demo's Tenant in it.
//!
//! They change and delete what is in the cluster, so they run only when `KES_E2E=1` says that the cluster of
//! `KUBECONFIG` is meant for that. `KES_E2E=1 cargo test --test e2e -- WORD` runs those whose name contains WORD.

#![expect(clippy::expect_used, reason = "tests end by panicking")]

mod admission;
mod certificates;
mod contents;
mod definitions;
mod deletion;
mod drift;
mod encryption;
mod forward;
mod install;
mod invalid_specs;
mod nodes;
mod old_operators;
mod operators;
mod plugin;
mod runner;
mod samples;
mod tenant_conflicts;
mod tenant_selector;
mod tool;
mod upgrade;
mod volumes;
mod wait;
mod wiring;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cases = [
        admission::cases(),
        certificates::cases(),
        contents::cases(),
        definitions::cases(),
        deletion::cases(),
        drift::cases(),
        encryption::cases(),
        invalid_specs::cases(),
        nodes::cases(),
        old_operators::cases(),
        operators::cases(),
        plugin::cases(),
        samples::cases(),
        tenant_conflicts::cases(),
        tenant_selector::cases(),
        volumes::cases(),
        wiring::cases(),
        // last: they replace the operator
        install::cases(),
        upgrade::cases(),
    ];
    runner::main(cases.into_iter().flatten().collect())
}
