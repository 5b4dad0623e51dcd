#!/usr/bin/env bash
# A real Kubernetes with Spindle's images on it. Usage: tests/cluster.sh up|down [NAME]
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/env.sh
action=${1:-up}
name=${2:-spindle}
reason=$(can_cluster) || die "no cluster here: $reason"

case $action in
  up)
    tests/build.sh cluster binaries
    tests/images.sh
    cluster_up "$name"
    spindle-cluster status --name "$name"
    ;;
  down)
    [ -x "$SPINDLE_CACHE/bin/spindle-cluster" ] || die "nothing to stop: spindle-cluster was never built here"
    spindle-cluster down --name "$name"
    ;;
  *) die "usage: tests/cluster.sh up|down [NAME]" ;;
esac
