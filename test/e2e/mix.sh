#!/usr/bin/env bash
# `mix fuzz_dist.run` in a project that depends on fuzz_dist by path, as the README has it: the whole way from
# the project's own application to a verdict. Its register is replicated naively, so that a partition longer than
# the tick must break it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# The binary that the other tests use, so that nothing is built twice.
export FUZZ_DIST_BIN="${FUZZ_DIST_BIN:-$root/target/debug/fuzz_dist}"
unset FUZZ_DIST_EBIN
export LC_ALL=C.UTF-8

store=$(mktemp -d)
trap 'rm -rf "$store"' EXIT
cd "$root/test/systems/demo_app"

status=0
mix fuzz_dist.run DemoApp.RegisterTest --seed 7 --store "$store" || status=$?
if [[ "$status" != 1 ]]; then
  echo "mix: a naive register under long partitions ended with status $status and not 1 (invalid)" >&2
  exit 1
fi
run=$(echo "$store"/*/latest)
for file in results.json report.html history.edn schedule.json spec.toml nodes/n1/output.log; do
  [[ -e "$run/$file" ]] || { echo "mix: $run/$file is missing" >&2; exit 1; }
done
"$root/test/e2e/support/left_behind" "$run"

# What nodes load was installed by the mix compiler, and is found there with a binary that has nothing beside it.
priv=_build/dev/lib/fuzz_dist/priv
for library in libfuzz_dist_driver.so libfuzz_dist_shim.so; do
  [[ -f "$priv/$library" ]] || { echo "mix: the compiler has not installed $priv/$library" >&2; exit 1; }
done
mkdir "$store/alone"
cp "$FUZZ_DIST_BIN" "$store/alone/fuzz_dist"
FUZZ_DIST_BIN="$store/alone/fuzz_dist" mix fuzz_dist.run DemoApp.PlanesTest --seed 7 --store "$store"
run=$(echo "$store"/demo-planes/latest)
for kind in clock-jump disk-enospc hold; do
  if ! grep -qE ":fault-observed,.*:kind :$kind" "$run/history.edn"; then
    echo "mix: no fault $kind took effect in $run" >&2
    exit 1
  fi
done
"$root/test/e2e/support/left_behind" "$run"
