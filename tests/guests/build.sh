#!/usr/bin/env bash
# Builds the guests of tests and examples from source.
#
#   build.sh [rust c go js py]      default: rust c go
#
# Writes wasm files to $SPINDLE_CACHE/guests/out (default: ~/.cache/spindle/guests/out), and those of
# the examples to examples/*/target/. Installs the Debian packages that are missing. Builds what is
# out of date, so a second run takes a second or two. Two runs at the same time wait for each other.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
examples=$(cd "$here/../../examples" && pwd)
cache=${SPINDLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spindle}/guests
work=$cache/work
out=$cache/out

say() { printf 'guests: %s\n' "$*"; }
die() { printf 'guests: error: %s\n' "$*" >&2; exit 1; }
trap '[[ $? -eq 0 ]] || say "FAILED, see above; what is in $out may be old"' EXIT

sets=${*:-rust c go}
for set in $sets; do
  case $set in
    rust | c | go | js | py) ;;
    *) die "no set of guests is called '$set'; there are: rust c go js py" ;;
  esac
done
wants() { [[ " $sets " == *" $1 "* ]]; }

mkdir -p "$work" "$out"
exec 9>"$cache/lock"
flock 9

# ---- small steps -----------------------------------------------------------------------------

# Puts a built file where it is wanted; leaves the file alone where nothing changed.
put() { # from to
  if cmp -s "$1" "$2"; then return; fi
  mkdir -p "$(dirname "$2")"
  cp "$1" "$2.new"
  mv "$2.new" "$2"
  say "made ${2/#$HOME/\~} ($(stat -c %s "$2") bytes)"
}

# True where a product is missing, or older than one of its sources.
stale() { # product sources...
  local product=$1 source
  shift
  [[ -e $product ]] || return 0
  for source in "$@"; do
    if [[ $source -nt $product ]]; then return 0; fi
  done
  return 1
}

need() { # command, what for
  command -v "$1" >/dev/null || die "'$1' is not installed; it is needed for $2"
}

install_packages() { # names...
  local missing=() package
  for package in "$@"; do
    if [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true) != installed ]]; then
      missing+=("$package")
    fi
  done
  if [[ ${#missing[@]} -eq 0 ]]; then return; fi
  command -v apt-get >/dev/null || die "needs these packages of Debian: ${missing[*]}"
  local root=()
  if [[ $EUID -ne 0 ]]; then root=(sudo); fi
  say "installing ${missing[*]}"
  # The lists may be missing, or name versions that the archive no longer has.
  if ! apt_install "${missing[@]}" 2>"$work/apt.log"; then
    "${root[@]}" apt-get update -qq
    apt_install "${missing[@]}"
  fi
}

apt_install() {
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# ---- toolchains ------------------------------------------------------------------------------

# The linkers come with the project's own Rust toolchain, for C as well.
use_linkers() {
  need rustc "its linkers (wasm-component-ld, rust-lld)"
  local sysroot host
  sysroot=$(cd "$here" && rustc --print sysroot)
  host=$(cd "$here" && rustc -vV | sed -n 's/^host: //p')
  export LINKERS=$sysroot/lib/rustlib/$host/bin
  [[ -x $LINKERS/wasm-component-ld && -x $LINKERS/gcc-ld/wasm-ld ]] ||
    die "no wasm-component-ld in $LINKERS; a toolchain from rustup has it"
}

# The compiler for guests is Debian's: it comes with the source of its standard library, from which
# a private copy for wasm32-wasip1 is made once. Nothing is written outside of $work.
use_guest_rust() {
  install_packages rustc-web rust-web-src wasi-libc
  guest_rustc=/usr/bin/rustc
  local libc=/usr/lib/wasm32-wasi stamp
  stamp="$("$guest_rustc" -V) libc $(cksum <"$libc/libc.a") 1"
  sysroot=$work/sysroot
  if [[ $(cat "$sysroot/stamp" 2>/dev/null || true) == "$stamp" ]]; then return; fi

  say "building Rust's standard library for wasm32-wasip1, once (about 40 s of CPU)"
  rm -rf "$sysroot" "$work/std"
  mkdir -p "$work/std/src" "$sysroot/lib/rustlib/wasm32-wasip1/lib/self-contained"
  printf '[package]\nname = "stdbuild"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$work/std/Cargo.toml"
  echo '#![no_std]' >"$work/std/src/lib.rs"
  (
    cd "$work/std"
    RUSTC=$guest_rustc RUSTC_BOOTSTRAP=1 CARGO_ENCODED_RUSTFLAGS=-Cembed-bitcode=yes CARGO_TARGET_DIR=$work/std/target \
      "$(command -v cargo)" build -q --release -Zbuild-std=std,panic_abort -Zbuild-std-features= --target wasm32-wasip1
  )
  local libraries=$sysroot/lib/rustlib/wasm32-wasip1/lib
  cp "$work"/std/target/wasm32-wasip1/release/deps/*.rlib "$libraries/"
  rm -f "$libraries"/libstdbuild-*.rlib
  cp "$libc"/{crt1-command.o,crt1-reactor.o,libc.a} "$libraries/self-contained/"
  rm -rf "$work/std"
  echo "$stamp" >"$sysroot/stamp"
}

# Builds a cargo workspace of guests. One target folder for all: ../guest-ld links each crate as what
# it should become. Its path holds its checksum, so that a changed linker links anew.
cargo_guests() { # folder
  local linker
  linker=$work/ld/$(cksum <"$here/guest-ld" | tr ' ' -)/guest-ld
  if [[ ! -x $linker ]]; then
    rm -rf "$work/ld"
    mkdir -p "$(dirname "$linker")"
    cp "$here/guest-ld" "$linker"
  fi
  (
    cd "$1"
    RUSTC=$guest_rustc CARGO_TARGET_DIR=$work/rust CARGO_TARGET_WASM32_WASIP1_LINKER=$linker \
      CARGO_ENCODED_RUSTFLAGS=--sysroot$'\x1f'$sysroot$'\x1f'--remap-path-prefix=$HOME=~ \
      cargo build -q --locked --release --target wasm32-wasip1
  )
}

# ---- the sets --------------------------------------------------------------------------------

build_rust() {
  use_linkers
  need cargo "Rust guests"
  use_guest_rust
  say "rust"
  local made=$work/rust/wasm32-wasip1/release
  cargo_guests "$here/rust"
  put "$made/cli-hello.wasm" "$out/cli-hello.wasm"
  put "$made/wagi-rust.wasm" "$out/wagi-rust.wasm"
  put "$made/legacy_rust.wasm" "$out/legacy-rust.wasm"
  put "$made/legacy_databases.wasm" "$out/legacy-databases.wasm"
  put "$made/databases_first.wasm" "$out/databases-first.wasm"
  put "$made/legacy_stores.wasm" "$out/legacy-stores.wasm"
  put "$made/stores.wasm" "$out/stores.wasm"
  put "$made/http_rust.wasm" "$out/http-rust.wasm"
  put "$made/http_october.wasm" "$out/http-october.wasm"
  put "$made/deps/http_october.core.wasm" "$out/http-october.core.wasm"
  put "$made/http_p3.wasm" "$out/http-p3.wasm"
  put "$made/deps/http_p3.core.wasm" "$out/http-p3.core.wasm"
  put "$made/http_spin_sdk.wasm" "$out/http-spin-sdk.wasm"
  put "$made/deps/http_spin_sdk.core.wasm" "$out/http-spin-sdk.core.wasm"

  cargo_guests "$examples/hello-rust"
  put "$made/hello_rust.wasm" "$examples/hello-rust/target/hello.wasm"
  cargo_guests "$examples/todo-rust"
  put "$made/todo_rust.wasm" "$examples/todo-rust/target/todo.wasm"
  cargo_guests "$examples/two-components"
  put "$made/two_components_home.wasm" "$examples/two-components/target/home.wasm"
  put "$made/two_components_api.wasm" "$examples/two-components/target/api.wasm"
  cargo_guests "$examples/static-site"
  put "$made/static_site.wasm" "$examples/static-site/target/site.wasm"
  put "$made/static_site.wasm" "$out/http-files.wasm"
}

build_c() {
  use_linkers
  install_packages clang libclang-rt-dev-wasm32 wasi-libc
  say "c"
  local c=$here/c made=$work/c
  mkdir -p "$made"
  local strict=(-std=c11 -Wall -Wextra -Werror)
  local bare=(clang --target=wasm32 -Os "${strict[@]}" -mbulk-memory -ffreestanding -nostdlib)
  local libc=(clang --target=wasm32-wasi -Os "${strict[@]}")
  local link=("-fuse-ld=$LINKERS/gcc-ld/wasm-ld" -Wl,-s,-z,stack-size=65536)

  if stale "$made/legacy-c.wasm" "$c/legacy.c" "$0"; then
    "${bare[@]}" "${link[@]}" -Wl,--no-entry "$c/legacy.c" -o "$made/legacy-c.wasm"
    "${bare[@]}" "${link[@]}" -Wl,--no-entry -DSLOTS "$c/legacy.c" -o "$made/legacy-slots.wasm"
  fi
  if stale "$made/noexport.wasm" "$c/noexport.c" "$0"; then
    "${bare[@]}" "${link[@]}" -Wl,--no-entry "$c/noexport.c" -o "$made/noexport.wasm"
  fi
  if stale "$made/wagi-c.wasm" "$c/wagi.c" "$0"; then
    "${libc[@]}" "${link[@]}" "$c/wagi.c" -o "$made/wagi-c.wasm"
  fi
  # Compiled and linked apart: clang would hand a component to wasm-opt, which reads modules only.
  if stale "$made/http-c.wasm" "$c/http.c" "$c/http.wit" "$0"; then
    "${bare[@]}" -c "$c/http.c" -o "$made/http.o"
    PATH=$LINKERS/gcc-ld:$PATH "$LINKERS/wasm-component-ld" --wasi-adapter none --component-type "$c/http.wit" \
      --no-entry -s -z stack-size=16384 "$made/http.o" -o "$made/http-c.wasm"
  fi
  # The same source for the draft of November 2023: the functions that it calls were as they are in the release.
  if stale "$made/http-november.wasm" "$c/http.c" "$c/http.wit" "$0"; then
    local draft='s/@0\.2\.0/@0.2.0-rc-2023-11-10/'
    sed "$draft" "$c/http.c" >"$made/http-november.c"
    sed "$draft" "$c/http.wit" >"$made/http-november.wit"
    "${bare[@]}" -c "$made/http-november.c" -o "$made/http-november.o"
    PATH=$LINKERS/gcc-ld:$PATH "$LINKERS/wasm-component-ld" --wasi-adapter none --component-type "$made/http-november.wit" \
      --no-entry -s -z stack-size=16384 "$made/http-november.o" -o "$made/http-november.wasm"
  fi
  # legacy.c as a component: the same functions under other names.
  if stale "$made/inbound-c.wasm" "$c/legacy.c" "$c/inbound.wit" "$0"; then
    sed 's/"handle-http-request"/"fermyon:spin\/inbound-http#handle-request"/; s/"canonical_abi_realloc"/"cabi_realloc"/' \
      "$c/legacy.c" >"$made/inbound.c"
    "${bare[@]}" -c "$made/inbound.c" -o "$made/inbound.o"
    PATH=$LINKERS/gcc-ld:$PATH "$LINKERS/wasm-component-ld" --wasi-adapter none --component-type "$c/inbound.wit" \
      --no-entry -s -z stack-size=16384 "$made/inbound.o" -o "$made/inbound-c.wasm"
  fi
  local name
  for name in legacy-c legacy-slots noexport wagi-c http-c http-november inbound-c; do put "$made/$name.wasm" "$out/$name.wasm"; done
  put "$c/legacy.wat" "$out/legacy.wat"

  if stale "$made/hello-legacy.wasm" "$examples/hello-legacy/hello.c" "$0"; then
    clang --target=wasm32 -Os "${strict[@]}" -nostdlib "${link[@]}" -Wl,--no-entry \
      "$examples/hello-legacy/hello.c" -o "$made/hello-legacy.wasm"
  fi
  put "$made/hello-legacy.wasm" "$examples/hello-legacy/target/hello.wasm"
  if stale "$made/example-wagi-c.wasm" "$examples/wagi-c/hello.c" "$0"; then
    "${libc[@]}" "${link[@]}" "$examples/wagi-c/hello.c" -o "$made/example-wagi-c.wasm"
  fi
  put "$made/example-wagi-c.wasm" "$examples/wagi-c/target/hello.wasm"
}

build_go() {
  need go "Go guests"
  say "go"
  local made=$work/go/wagi-go.wasm
  mkdir -p "$work/go"
  if stale "$made" "$examples/wagi-go/main.go" "$examples/wagi-go/go.mod"; then
    (
      cd "$examples/wagi-go"
      GOOS=wasip1 GOARCH=wasm GOFLAGS= GOWORK=off go build -trimpath -ldflags='-s -w' -o "$made" .
    )
  fi
  put "$made" "$out/wagi-go.wasm"
  put "$made" "$examples/wagi-go/target/hello.wasm"
}

build_js() {
  need npm "JavaScript guests"
  say "js"
  local made=$work/js
  mkdir -p "$made"
  if ! cmp -s "$here/js/package-lock.json" "$made/installed"; then
    say "installing the JavaScript toolchain (about 370 MB)"
    cp "$here"/js/package.json "$here"/js/package-lock.json "$made/"
    # Not `npm ci`: it wants lock entries of optional packages for other platforms, which not every
    # registry has. No peer dependencies: they are a second toolchain.
    (cd "$made" && npm install --no-save --legacy-peer-deps --no-audit --no-fund --loglevel=error)
    cp "$here/js/package-lock.json" "$made/installed"
  fi
  if stale "$made/http-js.wasm" "$here"/js/{http.js,build.mjs,guest.wit} "$here/wit/stores.wit" "$made/installed" "$0"; then
    cp "$here"/js/{http.js,build.mjs,guest.wit} "$here/wit/stores.wit" "$made/"
    (cd "$made" && node build.mjs http.js http-js.wasm)
  fi
  put "$made/http-js.wasm" "$out/http-js.wasm"
}

build_py() {
  need python3 "Python guests"
  say "py"
  local made=$work/py
  mkdir -p "$made"
  if ! cmp -s "$here/py/requirements.txt" "$made/installed"; then
    say "installing componentize-py"
    rm -rf "$made/venv"
    python3 -m venv "$made/venv"
    "$made/venv/bin/pip" install -q --disable-pip-version-check -r "$here/py/requirements.txt"
    cp "$here/py/requirements.txt" "$made/installed"
  fi
  if stale "$made/http-py.wasm" "$here"/py/{app.py,guest.wit} "$here/wit/stores.wit" "$made/installed" "$0"; then
    # The interface definitions come with the `wasi` crate that the Rust guests use.
    need cargo "the WIT of wasi:http"
    local wit
    wit=$(cargo metadata --locked --format-version 1 --filter-platform wasm32-wasip1 --manifest-path "$here/rust/Cargo.toml" |
      python3 -c 'import json, os, sys
packages = json.load(sys.stdin)["packages"]
[wasi] = [p for p in packages if p["name"] == "wasi" and p["version"].startswith("0.13.")]
print(os.path.join(os.path.dirname(wasi["manifest_path"]), "wit"))')
    rm -rf "$made/wit"
    mkdir -p "$made/wit"
    cp -r "$wit/deps" "$made/wit/"
    mkdir -p "$made/wit/deps/stores"
    cp "$here/wit/stores.wit" "$made/wit/deps/stores/"
    cp "$here/py/guest.wit" "$made/wit/"
    cp "$here/py/app.py" "$made/"
    (
      cd "$made"
      PATH=$made/venv/bin:$PATH componentize-py -q -d wit -w guest componentize app -o "$made/http-py.wasm"
    )
  fi
  put "$made/http-py.wasm" "$out/http-py.wasm"
  build_py_sdk
}

# The SDK wants a componentize-py of its own time, which finds it through the active environment.
build_py_sdk() {
  local made=$work/py-sdk
  mkdir -p "$made"
  if ! cmp -s "$here/py/requirements-sdk.txt" "$made/installed"; then
    say "installing Spin's SDK for Python"
    rm -rf "$made/venv"
    python3 -m venv "$made/venv"
    "$made/venv/bin/pip" install -q --disable-pip-version-check -r "$here/py/requirements-sdk.txt"
    cp "$here/py/requirements-sdk.txt" "$made/installed"
  fi
  if stale "$made/spin-py.wasm" "$here/py/databases.py" "$made/installed" "$0"; then
    cp "$here/py/databases.py" "$made/"
    (
      cd "$made"
      VIRTUAL_ENV=$made/venv PATH=$made/venv/bin:$PATH \
        componentize-py -q -w spin-http componentize databases -o "$made/spin-py.wasm"
    )
  fi
  put "$made/spin-py.wasm" "$out/spin-py.wasm"
}

started=$SECONDS
for set in $sets; do "build_$set"; done
say "done in $((SECONDS - started)) s: ${out/#$HOME/\~}"
