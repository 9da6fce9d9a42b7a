# Every target says what it does: `make help`. The control plane is built from Go modules once and cached in target/.
SHELL := /bin/bash
CARGO ?= cargo
FEATURES := $(CARGO) tree --workspace --no-dedupe --prefix none --format '{p} {f}' --edges

# The programs, and the control plane, side by side; where one fails the other is ended. Every command builds for the whole workspace, so
# that dependencies are built once for each profile.
define build
@$(CARGO) build $(1) --bin pilotage-dev
@set -m; trap 'kill -- $$(jobs -p | sed s/^/-/) 2>/dev/null' EXIT; \
  { target/$(2)/pilotage-dev build $(4)$(if $(5), && target/$(2)/pilotage-dev build --kubernetes $(5)); } & plane=$$!; $(CARGO) build $(1) $(3) & programs=$$!; \
  wait -n && wait $$plane && wait $$programs
endef

# The versions of Kubernetes that are supported, the oldest first. The tests of one: $(call tests,VERSION,,--trail), and those that show in
# minutes that Pilotage works there: $(call tests,VERSION,--essentials).
VERSIONS ?= 1.33 1.34 1.35 1.36 1.37
OLDEST := $(firstword $(VERSIONS))
DEVELOPED_ON := $(shell sed -n 's/.*k8s.io\/kubernetes v\(1\.[0-9]*\).*/\1/p' tests/controlplane/go.mod | head -n 1)
SUITES := --test behaviour --test attacks --test faults
define tests
set -o pipefail; $(CARGO) test --no-run $(SUITES) && chosen=$$($(CARGO) test --quiet $(SUITES) -- --list | target/debug/pilotage-dev tests --kubernetes $(1) $(2)) && \
  target/debug/pilotage-dev run --kubernetes $(1) --operator target/debug/pilotage $(3) -- $(CARGO) test $(SUITES) -- $$chosen
endef

.DEFAULT_GOAL := help
.PHONY: help demo up down test test-versions attacks attacks-proof bench crash-sweep lint crds reasons plugin-docs krew image chart

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

demo: ## Run the main job end to end on a real control plane, with a table of who deployed what where at the end
	$(call build,--release,release,--bin pilotage)
	@target/release/pilotage-dev demo --operator target/release/pilotage

up: ## Start an empty control plane in target/dev with everything installed and the operator running
	$(call build,--release,release,--bins)
	@target/release/pilotage-dev up --operator target/release/pilotage

down: ## Stop what `make up` started
	@$(CARGO) run --quiet --release --bin pilotage-dev -- down

test: ## Run all tests, on one real control plane, and the demo; and the essentials on the oldest version of Kubernetes
	$(call build,,debug,--bins,--all,$(OLDEST))
	@$(CARGO) test --lib --test controlplane --test install
	@$(call tests,$(DEVELOPED_ON),,--trail)
	@target/debug/pilotage-dev demo --operator target/debug/pilotage
	@$(call tests,$(OLDEST),--essentials)

test-versions: ## Run all tests on a control plane of each version of Kubernetes, or of those in VERSIONS
	$(call build,,debug,--bins,--all)
	@for version in $(VERSIONS); do \
	  echo "Kubernetes $$version"; target/debug/pilotage-dev build --kubernetes $$version && \
	  PILOTAGE_KUBERNETES=$$version $(CARGO) test --test controlplane --test install && \
	  { $(call tests,$$version,,--trail); } || exit; \
	done

attacks: ## Try every known attack against the real API server; the last line counts how many were tried and refused
	@$(CARGO) build --bins
	@set -o pipefail; target/debug/pilotage-dev run --operator target/debug/pilotage -- $(CARGO) test --test attacks -- --show-output \
	  | awk '/^attack [0-9]+ attempted: /{a++} /^attack [0-9]+ refused: /{r++} !/^attack [0-9]+ refused: /{print} \
	    END {printf "attacks: %d attempted, %d refused\n", a, r; exit (a == 0 || a != r)}'

attacks-proof: ## Show that each attack would succeed without what refuses it: guards are taken away one by one (half an hour)
	@$(CARGO) build --bins
	@PILOTAGE_PROOF=check target/debug/pilotage-dev run --operator target/debug/pilotage -- $(CARGO) test --test attacks -- --test-threads=1
	@PILOTAGE_PROOF=removals $(CARGO) test --test attacks removals -- --nocapture

bench: ## Measure against the budgets; prints the figures and writes target/bench.json
	@$(CARGO) build --release --bins
	@$(CARGO) bench --bench budgets

crash-sweep: ## Kill the operator before and after every API write of whole runs, with the large applications too
	@$(CARGO) build --bins
	@PILOTAGE_SWEEP=all $(CARGO) test --test faults -- --nocapture

lint: ## Check formatting, lints and dependencies
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- -D warnings
	@twice=$$(comm -23 <($(FEATURES) normal,build | sort -u) <($(FEATURES) normal,build,dev | sort -u)); \
	  if [ -n "$$twice" ]; then echo "built twice, for tests with other features:"; echo "$$twice"; exit 1; fi
	@if ! command -v cargo-deny >/dev/null; then echo "cargo-deny is not installed: cargo install cargo-deny --locked"; else \
	  $(CARGO) deny fetch db || echo "advisories can't be fetched: checking with those fetched before"; $(CARGO) deny --offline check; fi

crds: ## Generate crds/ from src/api
	@$(CARGO) run --quiet --bin pilotage -- crd --out crds

reasons: ## Generate docs/reasons.md from src/api
	@$(CARGO) run --quiet --bin pilotage -- reasons --out docs/reasons.md

plugin-docs: ## Generate docs/plugin.md from src/cli
	@$(CARGO) run --quiet --bin pilotage -- plugin-docs --out docs/plugin.md

krew: ## Print krew's manifest of the plugin: make krew FROM=https://… ARCHIVES="linux/amd64=FILE …"
	@$(CARGO) run --quiet --bin pilotage -- krew --from "$(FROM)" $(addprefix --archive ,$(ARCHIVES))

# The platforms of the image and the program for each. For another one, build it with that platform's toolchain and name it here.
PROGRAMS ?= linux/$(patsubst x86_64,amd64,$(patsubst aarch64,arm64,$(shell uname -m)))=$(CURDIR)/target/release/pilotage
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

image: ## Make the image of the operator: an OCI layout in target/image, with its bill of materials
	@$(CARGO) build --release --bin pilotage
	@cd release && CGO_ENABLED=0 GOWORK=off go run . --source .. --version $(VERSION) --created $$(git log -1 --format=%ct) \
	  --out ../target/image $(addprefix --program ,$(PROGRAMS))

# With the flags that the tests build Helm with, so that it is built once.
chart: ## Pack the chart into target/
	@cd tests/helm && CGO_ENABLED=0 GOWORK=off GOFLAGS="-trimpath -buildvcs=false" go tool helm package ../../deploy/chart --destination ../../target
