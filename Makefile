# Orlop's front door. `make cluster` gives a Kubernetes cluster, `make test` runs the tests; both install and build what is missing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export PATH := $(HOME)/.cargo/bin:/usr/local/go/bin:$(PATH)

TARGET := x86_64-unknown-linux-musl
BIN := target/$(TARGET)/release
ORLOPCTL := $(BIN)/orlopctl
NAME ?= orlop
# How many nodes; without them a new cluster gets one each, and one that is there keeps what it has.
WORKERS ?=
CONTROLPLANES ?=

.PHONY: help
help: ## Show the targets.
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what the build needs and the machine lacks.
	@scripts/setup

.PHONY: binaries
binaries: setup
	@cargo build --release --locked --target $(TARGET) -p node -p ctl

.PHONY: build
build: binaries ## Build the binaries, the Kubernetes payload, the image cache and the root image.
	@cargo xtask all --system-binary $(BIN)/orlop
	@ln -sfn ../../$(ORLOPCTL) _out/bin/orlopctl

.PHONY: cluster
cluster: build ## Create a cluster of one control plane and one worker, or bring it back to health.
	@$(ORLOPCTL) cluster create --reuse --name $(NAME) $(addprefix --controlplanes ,$(CONTROLPLANES)) $(addprefix --workers ,$(WORKERS))

.PHONY: destroy
destroy: ## Destroy the cluster.
	@$(ORLOPCTL) cluster destroy --name $(NAME)

.PHONY: lint
lint: setup ## Check formatting, lints, licences and known holes of dependencies.
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@cargo xtask lint

.PHONY: test
test: build ## Run every test that this machine can run; says what it left out and why.
	@cargo xtask test --system-binary $(BIN)/orlop

.PHONY: bench
bench: build ## Measure speed and memory; BENCH="cluster. ctl." chooses by the names' beginnings.
	@cargo xtask bench $(BENCH)
