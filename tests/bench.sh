#!/usr/bin/env bash
# `make bench`: the numbers, each beside its peers in the same run. Release builds; nothing is asserted.
set -euo pipefail
cd "$(dirname "$0")/.."
export SPINDLE_PROFILE=${SPINDLE_PROFILE:-release}
. tests/env.sh
cluster=spindle-bench
reason=$(can_cluster) || die "the benchmark needs a cluster: $reason"
tests/build.sh
tests/images.sh
images=()
for image in "$SPINDLE_CACHE"/images/*.tar; do images+=(--image "$image"); done
spindle-cluster image --name spindle/bench:dev --binary "$SPINDLE_BIN/bench" --out "$SPINDLE_CACHE/images/bench.tar.only"
spindle-cluster down --name "$cluster"
trap 'spindle-cluster down --name "$cluster"' EXIT
spindle-cluster up --name "$cluster" "${images[@]}" --image "$SPINDLE_CACHE/images/bench.tar.only"
SPINDLE_E2E_CLUSTER=$cluster spindle-cluster exec --name "$cluster" -- "$SPINDLE_BIN/bench" "$@"
