#!/usr/bin/env bash
# Writes the container images of our binaries, without Docker, as docker-archive tars in $SPINDLE_CACHE/images.
# The tag is the chart's default. Unchanged images are not written again.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/env.sh
tag=${SPINDLE_TAG:-$(sed -n 's/^appVersion: *"\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' charts/spindle/Chart.yaml)}
out=$SPINDLE_CACHE/images
mkdir -p "$out/bin"
for name in operator node-runtime bindle-server; do
  binary=$SPINDLE_BIN/$name
  [ "$name" = bindle-server ] && binary=$BINDLE_SERVER_BIN
  [ -x "$binary" ] || die "$binary is missing: run tests/build.sh binaries"
  # A debug build's line tables stay in the build directory.
  if [ "$binary" -nt "$out/bin/$name" ]; then strip -o "$out/bin/$name" "$binary"; fi
  spindle-cluster image --name "spindle/$name:$tag" --binary "$out/bin/$name" --out "$out/$name.tar"
done
