# What a person types. Everything is in the scripts and tools called here; `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Erlang and Elixir read and write UTF-8 only when the locale says so, and a bare system has none.
export LC_ALL := C.UTF-8
# rustup's place, for shells that were started before it was installed.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help setup build demo check test test-otp27 test-long bench bench-checkers fmt lint clean

help: ## Lists the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Installs what is missing (a linker, Erlang, Elixir); checks cargo.
	@bin/setup

build: setup ## Builds the binary (release) and the Elixir client.
	cargo build --release --locked -p fuzz_dist -p fuzz_dist_driver -p fuzz_dist_shim
	cd elixir_client && FUZZ_DIST_BIN=$(CURDIR)/target/release/fuzz_dist MIX_ENV=prod mix compile

demo: build ## Finds a real anomaly: Mnesia under partitions shorter and longer than the tick boundary.
	bin/demo

check: setup ## The fast tier: lints and unit tests, no cluster.
	bin/check

test: setup ## Runs every test: Rust, Elixir, end to end, documentation.
	bin/test

test-otp27: setup ## On OTP 27 and Elixir 1.18: warnings, the client's tests, demo, fault matrix.
	bin/test-otp27

test-long: setup ## A million random cases for each property of a checker, and the long suites. Hours.
	bin/test-long
	FUZZ_DIST_LONG=1 PROPTEST_CASES=20000 bin/test
	bin/test-otp27 rust rabbitmq

bench: setup ## Measures, in release builds.
	bin/bench

bench-checkers: setup ## Time and memory of the checkers by size; ONLY="list-append 100k" restricts it.
	bin/bench-checkers $(ONLY)

fmt: ## Formats Rust and Elixir.
	cargo fmt --all
	cd elixir_client && mix format

lint: setup ## Formatting and lints, warnings as errors.
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cd elixir_client && mix format --check-formatted
	@# All of it again, elsewhere: a compiler warns only about the files that it compiles.
	mkdir -p elixir_client/_build/lint/erlang
	cd elixir_client && erlc -Werror -o _build/lint/erlang src/*.erl
	cd elixir_client && MIX_ENV=test MIX_BUILD_PATH=_build/lint mix compile --force --warnings-as-errors

clean: ## Removes everything that was built; runs in the store stay.
	cargo clean
	rm -rf elixir_client/_build
