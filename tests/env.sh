# Sourced by the scripts here and by the Makefile's recipes: where caches and tools are.
#
# Everything that is built or downloaded is kept outside the checkout, so that a second clone starts warm:
#   SPINDLE_CACHE      default ${XDG_CACHE_HOME:-~/.cache}/spindle
#   CARGO_TARGET_DIR   default $SPINDLE_CACHE/target
export SPINDLE_CACHE="${SPINDLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spindle}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$SPINDLE_CACHE/target}"
export SPINDLE_GUESTS="${SPINDLE_GUESTS:-$SPINDLE_CACHE/guests/out}"
# The project's kubectl, helm and spindle-cluster come first.
export PATH="$SPINDLE_CACHE/bin:$PATH"
SPINDLE_PROFILE="${SPINDLE_PROFILE:-dev}"
case $SPINDLE_PROFILE in dev) profile_dir=debug ;; *) profile_dir=$SPINDLE_PROFILE ;; esac
# Where the binaries are, and where bindle-server's are (its own workspace: see bindle-server/README.md).
export SPINDLE_BIN="$CARGO_TARGET_DIR/$profile_dir"
export BINDLE_SERVER_TARGET_DIR="$SPINDLE_CACHE/target-bindle-server"
export BINDLE_SERVER_BIN="$BINDLE_SERVER_TARGET_DIR/$profile_dir/bindle-server"

started=$(date +%s)
# say MESSAGE: a progress line with the time since the script began.
say() { printf '[%4ds] %s\n' $(($(date +%s) - started)) "$*"; }
# die MESSAGE: one line on stderr, exit 1.
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
# quietly LOG COMMAND...: runs it with its output in LOG, shown only when it fails.
quietly() {
  local log=$1
  shift
  mkdir -p "$(dirname "$log")"
  "$@" >"$log" 2>&1 || {
    tail -n 60 "$log" >&2
    die "\`$*\` failed; its whole output is in $log"
  }
}
# need_tools: the compilers that no script here can install.
need_tools() {
  command -v cargo >/dev/null || die "cargo is missing: install Rust 1.95 or later (https://rustup.rs), then run this again"
  command -v go >/dev/null || die "go is missing: install Go 1.26 or later (https://go.dev/dl), then run this again"
  command -v cc >/dev/null || die "a C compiler is missing: apt-get install build-essential"
}
# claim_target_dir: two checkouts that share a target directory must not take each other's crates for their own. Cargo goes
# by the time of files, so those of the checkout that comes second are made new.
claim_target_dir() {
  local owner=$CARGO_TARGET_DIR/checkout
  mkdir -p "$CARGO_TARGET_DIR"
  [ "$(cat "$owner" 2>/dev/null)" = "$PWD" ] && return
  find . \( -name '*.rs' -o -name Cargo.toml \) -not -path '*/target/*' -exec touch {} +
  echo "$PWD" >"$owner"
}
# can_cluster: whether a Kubernetes can be started here; says why not.
can_cluster() {
  [ "$(uname -s)" = Linux ] || { echo "this is $(uname -s), and the cluster needs Linux"; return 1; }
  [ "$(id -u)" = 0 ] || { echo "you are not root, and the cluster needs network namespaces and a kubelet"; return 1; }
  command -v apt-get >/dev/null || command -v containerd >/dev/null || { echo "this is no Debian-like system, and containerd is missing"; return 1; }
}
# cluster_up NAME [FLAG...]: brings the cluster up, or finds it up, with the images of tests/images.sh as they are now.
cluster_up() {
  local name=$1 image images=()
  shift
  for image in "$SPINDLE_CACHE"/images/*.tar; do images+=(--image "$image"); done
  spindle-cluster up --name "$name" "${images[@]}" "$@"
}
