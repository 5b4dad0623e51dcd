#!/usr/bin/env bash
# Writes the container images of our binaries, without Docker, as docker-archive tars in $SPINDLE_CACHE/images.
# The tag is the chart's default. Unchanged images are not written again.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/env.sh
tag=${SPINDLE_TAG:-$(sed -n 's/^appVersion: *"\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' charts/spindle/Chart.yaml)}
out=$SPINDLE_CACHE/images
# One of each profile: what is newer says nothing about another profile's.
stripped=$out/bin/$profile_dir
mkdir -p "$stripped"
for name in operator node-runtime bindle-server; do
  binary=$SPINDLE_BIN/$name
  [ "$name" = bindle-server ] && binary=$BINDLE_SERVER_BIN
  [ -x "$binary" ] || die "$binary is missing: run tests/build.sh binaries"
  # A debug build's line tables stay in the build directory.
  if [ "$binary" -nt "$stripped/$name" ]; then strip -o "$stripped/$name" "$binary"; fi
  spindle-cluster image --name "spindle/$name:$tag" --binary "$stripped/$name" --out "$out/$name.tar"
done
