#!/usr/bin/env bash
# `make test`: everything. Usage: tests/test.sh [unit|e2e]
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/env.sh
what=${1:-all}
cluster=${SPINDLE_E2E_CLUSTER:-spindle-e2e}

need_tools
[ "$what" = unit ] || reason=$(can_cluster) || die "the end-to-end tests need a cluster: $reason (\`make unit\` runs the rest)"

parts="services guests"
[ "$what" = e2e ] || parts="$parts languages"
[ "$what" = unit ] || parts="$parts cluster"
# shellcheck disable=SC2086  # several words
tests/build.sh $parts binaries

if [ "$what" != e2e ]; then
  say "unit: the workspace"
  # All of them, whatever fails: a run is long.
  cargo test --locked --workspace --no-fail-fast
  say "unit: bindle-server"
  (cd bindle-server && CARGO_TARGET_DIR=$BINDLE_SERVER_TARGET_DIR cargo test --locked)
fi
if [ "$what" = all ]; then
  say "unit: the cluster's own tests"
  # Vet would analyse all of Kubernetes first; with -trimpath what was compiled for the binary serves here too.
  (cd tests/cluster && CGO_ENABLED=0 go test -trimpath -vet=off ./internal/...)
fi
if [ "$what" != unit ]; then
  say "e2e: images and cluster"
  tests/images.sh
  cargo test --locked --workspace --test e2e --no-run
  # Left over from a run that was killed.
  spindle-cluster down --name "$cluster"
  trap 'spindle-cluster down --name "$cluster"' EXIT
  # Two nodes, so that one can be drained.
  cluster_up "$cluster" --nodes 2
  say "e2e: tests"
  SPINDLE_E2E_CLUSTER=$cluster spindle-cluster exec --name "$cluster" -- \
    cargo test --locked --offline --workspace --test e2e -- --test-threads=1 --nocapture
fi
say "all tests passed"
