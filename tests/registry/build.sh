#!/usr/bin/env bash
# Builds the test registry into the cache and prints where it is. Costs nothing when it is up to date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
out=${SPINDLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spindle}/bin/test-registry
go build -o "$out" .
echo "$out"
