# `make demo` shows it, `make test` proves it. CONTRIBUTING.md tells the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo demo-down cluster cluster-down build images guests test unit e2e check gen bench

help: ## List the targets.
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: ## Show it: a real Kubernetes, Spindle by Helm, the examples published, applied and called.
	@tests/demo.sh

demo-down: ## End the demo and its cluster.
	@tests/demo.sh down

cluster: ## Start a real Kubernetes with Spindle's images; prints kubeconfig and ingress URL.
	@tests/cluster.sh up

cluster-down: ## Stop it; leaves nothing behind, also after a crash.
	@tests/cluster.sh down

build: ## Build the binaries, the guests and the cluster's parts.
	@tests/build.sh

images: ## Write the container images (docker-archive tars).
	@tests/build.sh binaries cluster && tests/images.sh

guests: ## Build the WebAssembly guests and the examples from source.
	@tests/build.sh guests

test: ## Everything, from unit tests to end-to-end tests on a real cluster (needs Linux and root).
	@tests/test.sh

unit: ## The tests that need no cluster.
	@tests/test.sh unit

e2e: ## The tests that need the cluster.
	@tests/test.sh e2e

check: ## What every commit passes: format, lints, fast tests.
	@. tests/env.sh && cargo xtask check

gen: ## Write what is generated from Rust: CRDs, RBAC rules, reference documentation.
	@. tests/env.sh && cargo xtask gen

bench: ## Print the numbers, beside their peers in the same run (BENCH=http needs no cluster).
	@tests/bench.sh $(BENCH)
