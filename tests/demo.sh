#!/usr/bin/env bash
# `make demo`: from nothing to Spin applications that answer on a real Kubernetes. `tests/demo.sh down` ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/env.sh
cluster=spindle-demo
system=spindle-system
namespace=demo
work=$SPINDLE_CACHE/demo

if ! reason=$(can_cluster); then
  cat <<MESSAGE
The demo starts a Kubernetes of its own, and cannot here: $reason.
What works everywhere is one application without Kubernetes:

  cargo build && tests/build.sh guests
  target=\${CARGO_TARGET_DIR:-target}; \$target/debug/spindle up -f examples/hello-rust
MESSAGE
  exit 1
fi

if [ "${1:-up}" = down ]; then
  tests/cluster.sh down "$cluster"
  exit
fi

# run COMMAND...: shows the command as one would type it, then runs it.
run() {
  printf '\n$ %s\n' "$*"
  "$@"
}

tests/build.sh
tests/images.sh
say "cluster: a real Kubernetes in a network namespace of its own"
cluster_up "$cluster"
state=$(spindle-cluster status --name "$cluster" -o json)
field() { printf '%s' "$state" | sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" | head -n 1; }
KUBECONFIG=$(field kubeconfig)
export KUBECONFIG
ingress=$(field ingress_url)

# A Bindle server of today takes only what is signed by a key that it knows.
mkdir -p "$work"
key=$work/creator.toml
[ -s "$key" ] || "$SPINDLE_BIN/spindle" bindle keys create "Demo <demo@example.com>" --key-file "$key"
"$SPINDLE_BIN/spindle" bindle keys export --key-file "$key" >"$work/keyring.toml"

say "helm: one command installs Spindle"
run helm upgrade --install spindle charts/spindle --namespace "$system" --create-namespace \
  --set bindleServer.enabled=true --set-file bindleServer.keyring="$work/keyring.toml" --wait --timeout 120s
run kubectl --namespace "$system" get pods -o wide

say "publish: the examples, to the Bindle server in the cluster"
kubectl --namespace "$system" port-forward service/spindle-bindle-server :8080 >"$work/port-forward.log" 2>&1 &
forward=$!
trap 'kill $forward 2>/dev/null' EXIT
until port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$work/port-forward.log" | head -n 1) && [ -n "$port" ]; do
  kill -0 $forward 2>/dev/null || die "kubectl port-forward ended: $(cat "$work/port-forward.log")"
  sleep 0.1
done
export BINDLE_URL=http://127.0.0.1:$port/v1
for example in examples/*/spin.toml; do
  printf '\n$ spindle bindle push -f %s\n' "$example"
  if ! "$SPINDLE_BIN/spindle" bindle push -f "$example" --key-file "$key" 2>"$work/push.log"; then
    # What is published never changes: a second demo finds it there.
    grep -q already "$work/push.log" || die "$(cat "$work/push.log")"
    sed 's/^error: //' "$work/push.log"
  fi
done

say "apply: one SpinApp per example"
kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
for app in examples/*/spinapp.yaml; do run kubectl --namespace "$namespace" apply -f "$app"; done
run kubectl --namespace "$namespace" wait --for=condition=Ready spinapp --all --timeout=60s
run kubectl --namespace "$namespace" get spinapps

say "call: through each Service and through the Ingress"
for app in $(kubectl --namespace "$namespace" get spinapps -o name); do
  app=${app#*/}
  address=$(kubectl --namespace "$namespace" get service "$app" -o jsonpath='{.spec.clusterIP}')
  run spindle-cluster exec --name "$cluster" -- curl --silent --show-error --max-time 10 --retry 10 --retry-all-errors --retry-delay 1 "http://$address/" | { head -n 12; cat >/dev/null; }
  run curl --silent --show-error --max-time 10 --retry 10 --retry-all-errors --retry-delay 1 -H "Host: $app.localhost" "$ingress/" | { head -n 12; cat >/dev/null; }
done

cat <<MESSAGE

Spindle runs. To go on by hand:

  export KUBECONFIG=$KUBECONFIG PATH=$SPINDLE_CACHE/bin:$SPINDLE_BIN:\$PATH
  kubectl -n $namespace get spinapps,services,endpointslices
  kubectl -n $namespace describe spinapp hello-rust
  curl -H 'Host: hello-rust.localhost' $ingress/
  kubectl -n $system logs deployment/spindle-operator
  kubectl -n $system port-forward service/spindle-bindle-server 8080 &
  spindle bindle push -f examples/hello-rust/spin-2.0.0.toml --key-file $key
  kubectl -n $namespace apply -f examples/hello-rust/spinapp-2.0.0.yaml
  make demo-down
MESSAGE
say "done"
