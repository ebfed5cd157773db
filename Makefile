# Everything a person or CI runs. `make help` lists it.
SHELL := bash
.DEFAULT_GOAL := help
export K8S_DIR ?= $(CURDIR)/target/cluster
export PEERS_DIR ?= $(CURDIR)/target/peers

.PHONY: help build test test-fast test-cluster verify fix peers cluster demo demo-down demo-local bench crds image clean

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## The binary, optimised: target/release/kes
	cargo build --release

test: verify test-fast test-cluster ## All tests: rules, Rust tests, the real cluster with a real MinIO (root, Debian)

test-fast: ## Rust tests without a cluster
	cargo test

test-cluster: ## The demo's proofs and tests/e2e on a real Kubernetes, then everything it started is removed
	tests/cluster/test.sh

verify: ## Format and lints; writes nothing
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; else echo "verify: cargo-deny is not installed, so deny.toml was not checked (cargo install cargo-deny)"; fi

fix: ## Format, apply lint suggestions, regenerate crds/ and snapshots
	cargo fmt
	cargo clippy --all-targets --fix --allow-dirty --allow-staged
	$(MAKE) crds

crds: ## Regenerate crds/ from src/crd
	cargo run -q -- operator crds > target/kesclusters.yaml && mv target/kesclusters.yaml crds/kesclusters.yaml

peers: ## Build MinIO, mc and KES from pinned modules into target/peers
	tests/peers/build.sh minio mc kes

cluster: ## Build the Kubernetes of the tests into target/cluster
	tests/cluster/install.sh
	tests/cluster/build.sh

demo: ## A Kubernetes, our operator, an encrypted MinIO, and the proof of it
	tests/demo/demo.sh

demo-down: ## Remove what make demo made
	tests/demo/down.sh

demo-local: ## The recipe by hand, without Kubernetes, and the same proofs
	tests/demo/local.sh

bench: ## Load on a running server: make bench ARGS="--server HOST:PORT --cert F --key F --name KEY --pid PID"
	cargo bench --bench load -- $(ARGS)

clean: ## Remove what was built
	cargo clean
