# `make run` and `make test` are the two that matter: each installs what is missing, builds, and says what it
# does. Development needs neither after the first time: `cargo build` and `cargo test` work alone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup brokers devices validator plugins agent build run test test-languages test-long test-pulley test-vm power-cut deb check-deb test-program test-package bench bench-mqtt bench-plugins bench-spool bench-scale fuzz fmt fmt-check clippy scripts deny clean

# On CI the lock file decides; at a desk cargo may write what a changed Cargo.toml asks for.
LOCKED := $(if $(CI),--locked)
ARCH ?= amd64
PLUGINS := --manifest-path plugins/Cargo.toml
export CARGO_TERM_PROGRESS_WHEN ?= $(if $(CI),never,auto)

help: ## what there is
	@echo 'usage: make TARGET'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## install what is missing (as root; otherwise print it and exit 1)
	@packaging/setup

brokers: setup ## install the brokers that only the tests need, as far as they can be had
	@packaging/setup-brokers

devices: setup ## install the Modbus devices that only the tests need, as far as they can be had
	@packaging/setup-devices

validator: setup ## install what the tests hold the JSON schema against, as far as it can be had
	@packaging/setup-validator

build: setup plugins agent ## target/release/outstation and target/plugins/*.wasm

plugins: ## target/plugins/*.wasm alone
	@echo '== plugins: target/plugins'
	@plugins/build

agent: ## target/release/outstation alone
	@echo '== agent: target/release/outstation'
	@packaging/build-agent $(LOCKED)

run: build ## build, start a broker if none answers, run the agent on agent.toml
	@exec packaging/run-demo

test: setup brokers devices validator plugins ## everything that fits in ten minutes
	@echo '== tests: the agent, its documentation, the house'
	cargo test $(LOCKED)
	@echo '== tests: the plugins, natively'
	cargo test $(LOCKED) $(PLUGINS) --workspace
	@echo '== tests: plugins in other languages, where their tools are in the cache'
	@plugins/examples/test --cached
	@echo '== tests: passed'

test-languages: ## examples and project templates in C, JavaScript and Python; installs their tools into a cache
	cargo build $(LOCKED)
	@plugins/examples/test

test-long: setup brokers devices validator plugins ## a million sessions, a million crashes, a thousand reloads; before a release
	@echo '== long tests: OUTSTATION_SIM_SEEDS, SPOOL_CRASH_POINTS, OUTSTATION_KILLS,'
	@echo '   OUTSTATION_RELOADS, OUTSTATION_BROKER_RELOADS and PROPTEST_CASES say how much'
	OUTSTATION_SIM_SEEDS=$${OUTSTATION_SIM_SEEDS:-1000000} SPOOL_CRASH_POINTS=$${SPOOL_CRASH_POINTS:-1000000} \
	OUTSTATION_KILLS=$${OUTSTATION_KILLS:-500} \
	OUTSTATION_RELOADS=$${OUTSTATION_RELOADS:-1000} OUTSTATION_BROKER_RELOADS=$${OUTSTATION_BROKER_RELOADS:-100} \
	PROPTEST_CASES=$${PROPTEST_CASES:-2000} cargo test $(LOCKED)
	@echo '== long tests: passed'

test-pulley: setup brokers devices validator plugins ## the end-to-end tests with plugins interpreted, under a filter that lets no memory become executable
	@echo '== end-to-end tests, confined, engine = "pulley"'
	OUTSTATION_TEST_CONFINED=1 cargo test $(LOCKED) --test it
	@echo '== end-to-end tests, confined: passed'

test-vm: setup plugins ## what needs a kernel of its own, in a virtual machine (VM_TESTS=vm::gpio: some of it)
	@echo '== tests in a virtual machine'
	@if folder=$$(packaging/setup-vm); then \
	    OUTSTATION_VM="$$folder" cargo test $(LOCKED) --test it $(or $(VM_TESTS),vm::) -- --ignored --test-threads=1 --nocapture; \
	else \
	    echo '== SKIPPED: tests in a virtual machine: the reason is above'; \
	fi

power-cut: setup plugins ## power cuts in a virtual machine, and what each may leave (OUTSTATION_CUTS, OUTSTATION_IMAGES of each); as root
	@echo '== power cuts in a virtual machine'
	@if folder=$$(packaging/setup-vm); then \
	    OUTSTATION_VM="$$folder" OUTSTATION_CUTS=$${OUTSTATION_CUTS:-100} OUTSTATION_IMAGES=$${OUTSTATION_IMAGES:-10} \
	    cargo test $(LOCKED) --test it vm::power_cut -- --ignored --nocapture; \
	else \
	    echo '== SKIPPED: power cuts: the reason is above'; \
	fi

deb: setup plugins ## target/deb/outstation_VERSION_ARCH.deb (ARCH=amd64, arm64, armhf)
	@echo '== package: target/deb'
	@packaging/build-deb $(ARCH) $(LOCKED)

check-deb: ## size, libraries, lintian and locks of the package; builds it a second time elsewhere (amd64)
	@packaging/check-deb --again $(ARCH)

test-program: ## the program of a package, run here: plugins, a broker that goes away, a kill; another ARCH under qemu-user
	@packaging/test-program $(ARCH)

test-package: deb ## its life in a Debian 12 of its own, 256 MiB (CONTAINER=1: without a kernel of its own)
	@packaging/test-package $(if $(CONTAINER),--container)

bench: build ## start to first message, memory at rest, size; measured here and now
	@benches/footprint

fuzz: setup ## a minute of each fuzz target (FUZZ_SECONDS, FUZZ_RUNS)
	@packaging/run-fuzz

bench-mqtt: ## the MQTT client against rumqttc, before the same sink; measured here and now
	cargo run --release --locked --manifest-path benches/mqtt/Cargo.toml --target-dir $${CARGO_TARGET_DIR:-target}/bench

bench-plugins: setup ## what plugins cost: time, memory, wake-ups, and a healthy one beside bad ones; both engines
	@. packaging/build-flags; cargo run --release --quiet --locked --manifest-path benches/plugins/Cargo.toml --target-dir $${CARGO_TARGET_DIR:-target}

bench-spool: ## speed and wear of the buffer, beside bare calls and SQLite
	CARGO_TARGET_DIR=$(CURDIR)/target/bench-spool cargo run --release --manifest-path benches/spool/Cargo.toml

bench-scale: build ## ten to a hundred thousand points: processor, memory, every point counted at a broker (SCALE_SECONDS)
	CARGO_TARGET_DIR=$(CURDIR)/target/bench cargo build --release --locked --manifest-path benches/scale/Cargo.toml
	target/bench/release/bench-scale

fmt: ## format everything
	cargo fmt
	cargo fmt $(PLUGINS) --all

fmt-check: ## fail where something is not formatted
	cargo fmt --check
	cargo fmt $(PLUGINS) --all --check

clippy: ## every lint is an error
	cargo clippy $(LOCKED) --all-targets -- -D warnings
	cargo clippy $(LOCKED) $(PLUGINS) --workspace --all-targets -- -D warnings

scripts: ## every shell script parses
	@packaging/check-scripts

deny: ## licences, bans and sources of what we depend on; advisories where they can be had
	@packaging/check-dependencies

clean: ## remove what was built (not data/)
	cargo clean
	cargo clean $(PLUGINS)
	rm -rf target
