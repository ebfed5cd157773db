# Everything a person or CI runs. `make help` lists it.
SHELL := bash
.DEFAULT_GOAL := help
export K8S_DIR ?= $(CURDIR)/target/cluster
export PEERS_DIR ?= $(CURDIR)/target/peers

.PHONY: help build test test-fast test-fuzz test-minio test-cluster wire-peers test-wire render-tools verify fix peers cluster demo demo-down demo-local bench bench-cluster crds image clean

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## The binary, optimised: target/release/kes
	cargo build --release

test: verify render-tools wire-peers test-fast test-fuzz test-minio test-cluster ## All tests: rules, Rust tests, a real MinIO, the real cluster with a real MinIO (root, Debian)

render-tools: ## helm and kubectl for the tests of charts/ and config/ (without them those tests say that they skip)
	tests/cluster/build.sh helm kubectl

wire-peers: ## What tests/wire compares with: KES v0.22.3 and v0.23.0 and clients on their SDKs, into target/peers
	tests/peers/build.sh kes kes-0.23 sdk-kes sdk-kes-go sdk-kms-go

test-wire: wire-peers ## The same requests to KES v0.22.3, KES v0.23.0 and ours; sessions of the original programs and SDKs
	CI=true cargo test --test wire

test-minio: ## A real MinIO on our key server, without Kubernetes
	tests/peers/build.sh minio mc
	tests/minio/test.sh

test-fast: ## Rust tests without a cluster (tests/wire only where wire-peers were built; with CI=true they must be)
	cargo test

test-fuzz: ## Fuzz targets with coverage, FUZZ_SECONDS=60 each (FUZZ_SEED for new ways): policy, config, stateless, ciphertext, target, body
	fuzz/run.sh

test-cluster: ## The demo's proofs and tests/e2e on a real Kubernetes, then everything it started is removed
	tests/cluster/test.sh

verify: ## Format and lints; writes nothing
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; else echo "verify: cargo-deny is not installed, so deny.toml was not checked (cargo install cargo-deny)"; fi

fix: ## Format, apply lint suggestions, regenerate crds/ and the READMEs of charts/
	cargo fmt --all
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	$(MAKE) crds
	KES_UPDATE=1 cargo test -q --test packaging the_readmes_list_every_value

crds: ## Regenerate crds/ from src/crd, and the chart's copy
	cargo build -q --bin kes --example minio-operator-standin # together they have the features of the tests: nothing is built twice
	$${CARGO_TARGET_DIR:-target}/debug/kes operator crds > target/kesclusters.yaml && mv target/kesclusters.yaml crds/kesclusters.yaml
	cp crds/kesclusters.yaml charts/kes-operator-crds/files/

image: build ## Our image as an OCI archive in target/image, made by buildah without a Docker engine
	image/build.sh

peers: ## Build MinIO, mc, KES and clients on its Go SDKs from pinned modules into target/peers
	tests/peers/build.sh

cluster: ## Build the Kubernetes of the tests into target/cluster
	tests/cluster/install.sh
	tests/cluster/build.sh

demo: ## A Kubernetes, our operator, an encrypted MinIO, and the proof of it
	tests/demo/demo.sh

demo-down: ## Remove what make demo made
	tests/demo/down.sh

demo-local: ## The recipe by hand, without Kubernetes, and the same proofs
	tests/demo/local.sh

bench: ## Ours and KES side by side, into target/bench/report.md and report.svg (BENCH_ONLY=generate,scale, BENCH_FULL=1, BENCH_PEERS=none; more in benches/compare/src/main.rs)
	@[ "$$BENCH_PEERS" = none ] || tests/peers/build.sh kes kes-0.23
	cargo build --release -p kes -p kes-compare
	target/release/kes-compare

bench-cluster: ## On the real cluster: seconds until Ready and verified; what the operator costs at rest, into target/bench/cluster.md
	tests/cluster/bench.sh

clean: ## Remove what was built
	cargo clean
