#!/usr/bin/env bash
# Stock RabbitMQ from Debian, three nodes in a cluster with a quorum queue, under partitions, kills and pauses: what was
# confirmed must come out. Skipped where RabbitMQ is not installed (`bin/setup` tries to).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
fuzz_dist="${FUZZ_DIST_BIN:-$root/target/debug/fuzz_dist}"
export FUZZ_DIST_EBIN="${FUZZ_DIST_EBIN:-$root/elixir_client/_build/test/lib/fuzz_dist/ebin}"
export LC_ALL=C.UTF-8

plugins=$(echo /usr/lib/rabbitmq/lib/rabbitmq_server-3.*/plugins)
if [[ ! -d "$plugins" ]]; then
  echo "rabbitmq: skipped: RabbitMQ 3 is not installed in /usr/lib/rabbitmq (apt-get install rabbitmq-server)" >&2
  exit 0
fi

store=$(mktemp -d)
trap 'rm -rf "$store"' EXIT
system="$root/test/systems/rabbitmq"
mkdir -p "$root/target/rabbitmq"
ERL_LIBS="$plugins" erlc -o "$root/target/rabbitmq" "$system/rabbitmq_client.erl"

status=0
"$fuzz_dist" run "$system/rabbitmq.toml" --seed 2 --time-limit 12 --store "$store" || status=$?
run=$(echo "$store"/*/latest)
# A machine that is too slow for three brokers may leave the queue undrained: nobody knows then. What is never
# right is a loss.
if [[ "$status" != 0 && "$status" != 2 ]]; then
  echo "rabbitmq: a quorum queue under faults ended with status $status" >&2
  exit 1
fi
ok=$(grep -o '"ok": *[0-9]*' "$run/results.json" | sed -n '1s/.*: *//p')
if ((${ok:-0} < 20)); then
  echo "rabbitmq: only ${ok:-no} operations succeeded" >&2
  exit 1
fi
[[ -e "$run/report.html" ]] || { echo "rabbitmq: $run/report.html is missing" >&2; exit 1; }
"$root/test/e2e/support/left_behind" "$run"
