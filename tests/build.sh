#!/usr/bin/env bash
# Builds what runs: our binaries, bindle-server, the guests; installs the databases that tests start.
# Usage: tests/build.sh [binaries] [guests] [languages] [services] [cluster]
# Without arguments: all but the services and the guests that only tests need (languages), the long Go build of the cluster's parts in the background first.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/env.sh
need_tools
claim_target_dir
parts=${*:-cluster guests registry binaries}
logs=$SPINDLE_CACHE/logs
mkdir -p "$logs"

wants() { case " $parts " in *" $1 "*) ;; *) return 1 ;; esac; }

# First, because two cannot install packages at once.
if wants services; then
  say "services: Debian's Redis, PostgreSQL, MariaDB and Mosquitto ($logs/services.log)"
  quietly "$logs/services.log" tests/cluster/install.sh services
fi
go_pid=
if wants cluster; then
  say "cluster: building Kubernetes, Helm and Contour from Go modules (in the background, minutes when cold; $logs/cluster-build.log)"
  tests/cluster/install.sh >"$logs/cluster-build.log" 2>&1 &
  go_pid=$!
fi
if wants binaries; then
  profile=$SPINDLE_PROFILE
  say "binaries: cargo build (profile $profile; minutes when cold; $logs/cargo-build.log)"
  # The same selection of packages and targets as the tests': cargo unifies features over what is selected, and another
  # selection would compile every dependency again.
  targets=$([ "$profile" = dev ] && echo --all-targets || echo --bins)
  quietly "$logs/cargo-build.log" cargo build --locked --workspace --profile "$profile" "$targets"
  say "binaries: bindle-server"
  (cd bindle-server && CARGO_TARGET_DIR=$BINDLE_SERVER_TARGET_DIR quietly "$logs/bindle-server-build.log" cargo build --locked --profile "$profile")
fi
if wants guests; then
  say "guests: building WebAssembly from source"
  quietly "$logs/guests-build.log" tests/guests/build.sh
fi
if wants languages; then
  say "languages: building the guests in JavaScript and Python (installs their toolchains when cold)"
  quietly "$logs/languages-build.log" tests/guests/build.sh js py
fi
if wants registry; then
  say "registry: building the OCI registry for tests"
  quietly "$logs/registry-build.log" tests/registry/build.sh
fi
if [ -n "$go_pid" ]; then
  say "cluster: waiting for its build"
  wait "$go_pid" || { tail -n 60 "$logs/cluster-build.log" >&2; die "building the cluster's parts failed; see $logs/cluster-build.log"; }
fi
say "built: $parts"
