# Every target says what it does: `make help`. The control plane is built from Go modules once and cached in target/.
SHELL := /bin/bash
CARGO ?= cargo
DEV := $(CARGO) run --quiet --package pilotage-harness --bin pilotage-dev --

.DEFAULT_GOAL := help
.PHONY: help demo up down test attacks attacks-proof bench crash-sweep lint crds

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

demo: ## Run the main job end to end on a real control plane, with a table of who deployed what where at the end
	@$(CARGO) build --release --bins
	@$(DEV) demo --operator target/release/pilotage

up: ## Start an empty control plane in target/dev with everything installed and the operator running
	@$(CARGO) build --release --bins
	@$(DEV) up --operator target/release/pilotage

down: ## Stop what `make up` started
	@$(DEV) down

test: ## Run all tests, on one real control plane, and the demo
	@$(DEV) build
	@$(CARGO) build --bins
	@$(CARGO) test --package pilotage-harness
	@$(CARGO) test --package pilotage --lib
	@$(DEV) run --operator target/debug/pilotage --trail -- $(CARGO) test --package pilotage --tests
	@$(DEV) demo --operator target/debug/pilotage

attacks: ## Try every known attack against the real API server; the last line counts how many were tried and refused
	@$(CARGO) build --bins
	@set -o pipefail; $(DEV) run --operator target/debug/pilotage -- $(CARGO) test --package pilotage --test attacks -- --show-output \
	  | awk '/^attack [0-9]+ attempted: /{a++} /^attack [0-9]+ refused: /{r++} !/^attack [0-9]+ refused: /{print} \
	    END {printf "attacks: %d attempted, %d refused\n", a, r; exit (a == 0 || a != r)}'

attacks-proof: ## Show that each attack would succeed without what refuses it: guards are taken away one by one (half an hour)
	@$(CARGO) build --bins
	@PILOTAGE_PROOF=check $(DEV) run --operator target/debug/pilotage -- $(CARGO) test --package pilotage --test attacks -- --test-threads=1
	@PILOTAGE_PROOF=removals $(CARGO) test --package pilotage --test attacks removals -- --nocapture

bench: ## Measure against the budgets; prints the figures and writes target/bench.json
	@$(CARGO) build --release --bins
	@$(CARGO) bench --package pilotage --bench budgets

crash-sweep: ## Kill the operator before and after every API write of whole runs, with the large applications too
	@$(CARGO) build --bins
	@PILOTAGE_SWEEP=all $(CARGO) test --package pilotage --test faults -- --nocapture

lint: ## Check formatting, lints and dependencies
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if ! command -v cargo-deny >/dev/null; then echo "cargo-deny is not installed: cargo install cargo-deny --locked"; else \
	  $(CARGO) deny fetch db || echo "advisories can't be fetched: checking with those fetched before"; $(CARGO) deny --offline check; fi

crds: ## Generate crds/ from src/api
	@$(CARGO) run --quiet --bin pilotage -- crd --out crds
