#!/usr/bin/env bash
# `make bench`: the numbers, each beside its peers in the same run, of what is shipped (the `dist` profile); nothing is asserted.
# Usage: tests/bench.sh [http] [operator] [cluster]; all without arguments.
#   http      what a request costs, beside hyper and `wasmtime serve` (docs/reference/benchmarks.md): no cluster needed
#   operator  what one change costs the operator with 5,000 apps (SPINDLE_SCALE_APPS) and 100 runtimes: no cluster needed
#   cluster   how long from apply to the first 200, on a real Kubernetes, also with 1,000 and 5,000 apps there (BENCH_APPS)
# What is missing is built first. BENCH_ROUNDS and BENCH_MS (of one measurement) make `http` longer or shorter.
set -euo pipefail
cd "$(dirname "$0")/.."
# Where a shell sets RUST_BACKTRACE, each error number that WASI gives a guest costs a stack of the host's (decision 0070).
export RUST_LIB_BACKTRACE=0
export SPINDLE_PROFILE=${SPINDLE_PROFILE:-dist}
. tests/env.sh
parts=${*:-http operator cluster}
for part in $parts; do
  case $part in http | operator | cluster) ;; *) die "there is no part \`$part\`: usage: tests/bench.sh [http] [operator] [cluster]" ;; esac
done
wants() { case " $parts " in *" $1 "*) ;; *) return 1 ;; esac; }

# The peer, of the same wasmtime as ours, with nothing that `serve` does not need. Built once, in its own target directory.
wasmtime_version=48.0.8
wasmtime_root=$SPINDLE_CACHE/wasmtime-$wasmtime_version
build_wasmtime() {
  [ -x "$wasmtime_root/bin/wasmtime" ] && return
  say "wasmtime: building wasmtime-cli $wasmtime_version (once, minutes; $SPINDLE_CACHE/logs/wasmtime-build.log)"
  CARGO_TARGET_DIR=$SPINDLE_CACHE/target-wasmtime quietly "$SPINDLE_CACHE/logs/wasmtime-build.log" \
    cargo install wasmtime-cli --version "$wasmtime_version" --locked --no-default-features \
    --features run,serve,compile,component-model-async,pooling-allocator,parallel-compilation,gc,gc-drc,threads \
    --root "$wasmtime_root"
  rm -rf "$SPINDLE_CACHE/target-wasmtime"
}

bench_http() {
  tests/build.sh guests
  # Of the whole workspace, as everything here (tests/build.sh), but each other binary takes minutes to link.
  say "binaries: cargo build (profile $SPINDLE_PROFILE; half an hour when cold; $SPINDLE_CACHE/logs/cargo-build.log)"
  quietly "$SPINDLE_CACHE/logs/cargo-build.log" \
    cargo build --locked --workspace --profile "$SPINDLE_PROFILE" --bin spindle --bin bench-http
  # Without it (no network), everything else is measured all the same.
  (build_wasmtime) || say "wasmtime: not built, so it is left out"
  WASMTIME=$wasmtime_root/bin/wasmtime "$SPINDLE_BIN/bench-http"
}

bench_operator() {
  SPINDLE_SCALE_APPS=${SPINDLE_SCALE_APPS:-5000} \
    cargo test --locked --workspace --profile "$SPINDLE_PROFILE" --test shell scale:: -- --nocapture
}

bench_cluster() {
  local cluster=${BENCH_CLUSTER:-spindle-bench} reason
  reason=$(can_cluster) || die "this part needs a cluster: $reason"
  tests/build.sh
  tests/images.sh
  spindle-cluster image --name spindle/bench:dev --binary "$SPINDLE_BIN/bench" --out "$SPINDLE_CACHE/images/bench.tar.only"
  spindle-cluster down --name "$cluster"
  # shellcheck disable=SC2064 # the name of now
  trap "spindle-cluster down --name '$cluster'" EXIT
  cluster_up "$cluster" --image "$SPINDLE_CACHE/images/bench.tar.only"
  SPINDLE_E2E_CLUSTER=$cluster spindle-cluster exec --name "$cluster" -- "$SPINDLE_BIN/bench"
}

if wants http; then bench_http; fi
if wants operator; then bench_operator; fi
if wants cluster; then bench_cluster; fi
