#!/usr/bin/env bash
# The death of mix: the VM of `mix fuzz_dist.run` is killed while one node of its run is paused and every link is
# held. Two seconds later nothing may be left of the run, the core included; a loaded machine gets five.
# native/cli/tests/healing.rs does the same to every other part of a run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export FUZZ_DIST_BIN="${FUZZ_DIST_BIN:-$root/target/debug/fuzz_dist}"
unset FUZZ_DIST_EBIN
export LC_ALL=C.UTF-8

scratch=$(mktemp -d)
mix_pid=
end() {
  # Of a test that failed; its core, guard and nodes follow.
  [[ -n "$mix_pid" ]] && kill -9 "$mix_pid" 2>/dev/null
  rm -rf "$scratch"
}
trap end EXIT
mkdir "$scratch/tmp"
cd "$root/test/systems/demo_app"
# A build of its own, so that no other run of this project is disturbed.
export MIX_BUILD_PATH="$scratch/build"
[[ -d _build/dev ]] && cp -a _build/dev "$MIX_BUILD_PATH"

cat >"$scratch/schedule.json" <<'JSON'
{"version": 1, "seed": 7, "nodes": ["n1", "n2"], "faults": [
  {"id": 1, "kind": "hold", "target": "all", "start_ns": 500000000, "duration_ns": 600000000000},
  {"id": 2, "kind": "pause", "target": {"named": ["n1"]}, "start_ns": 600000000, "duration_ns": 600000000000}]}
JSON

fail() {
  echo "healing_mix: $*" >&2
  sed 's/^/  /' "$scratch/output" >&2 || true
  exit 1
}

# wait_for SECONDS WHAT COMMAND…: until the command succeeds.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    ((SECONDS < deadline)) || fail "$what: not in time"
    sleep 0.02
  done
}

# Processes of others cannot be read and some end meanwhile, which grep reports as errors.
of_run() { grep -lzx "FUZZ_DIST_RUN=$id" /proc/[0-9]*/environ 2>/dev/null | grep -o '[0-9]\+' || true; }
state() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c1; }
in_log() { grep -q "fault 1: hold" "$run/core.log" && grep -q "fault 2: pause" "$run/core.log"; }
gone() { [[ ! -d "/proc/$1" || "$(state "$1")" == Z ]]; }
a_node_is_paused() {
  for pid in $(of_run); do [[ "$(state "$pid")" == T ]] && return 0; done
  return 1
}
the_guard() {
  for pid in $(of_run); do
    [[ "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)" == *" guard " ]] && echo "$pid"
  done
}
nothing_left() { gone "$core" && [[ -z "$(of_run)" ]]; }

for signal in KILL TERM; do
  store="$scratch/store-$signal"
  # What is sent is heard by mix alone, as when a supervisor sends it.
  TMPDIR="$scratch/tmp" mix fuzz_dist.run --nodes 2 --time-limit 600 --store "$store" \
    --schedule "$scratch/schedule.json" >"$scratch/output" 2>&1 </dev/null &
  mix_pid=$!
  wait_for 120 "the run's folder" test -e "$store/latest"
  run=$(readlink -e "$store/latest")
  id=$(basename "$run")
  wait_for 90 "hold and pause" in_log
  wait_for 10 "a paused node" a_node_is_paused
  core=$(awk '{ print $4 }' "/proc/$(the_guard)/stat")
  [[ "$(tr '\0' ' ' <"/proc/$core/cmdline")" == *" run "* ]] || fail "process $core is not the core"

  kill -s "$signal" "$mix_pid"
  began=$(date +%s%N)
  wait_for 10 "nothing left after SIG$signal of mix" nothing_left
  took_ms=$((($(date +%s%N) - began) / 1000000))
  echo "SIG$signal of mix: nothing left after $took_ms ms"
  wait "$mix_pid" || true
  mix_pid=
  ((took_ms <= 5000)) || fail "that took too long"
  [[ -z "$(ls -A "$scratch/tmp")" ]] || fail "left in the temporary folder: $(ls "$scratch/tmp")"

  status=0
  "$FUZZ_DIST_BIN" analyze "$run" 2>"$scratch/output" || status=$?
  ((status <= 2)) || fail "the run cannot be analysed: status $status"
done
