# Sourced by the suites of RabbitMQ: ends the script where RabbitMQ is not installed, compiles the client, and defines
#
#   rabbitmq_run SPEC OK_MIN [FLAG...]   runs a spec of test/systems/rabbitmq; sets `status` and `run`, the run's folder;
#                                        fails the script on a loss, or if fewer operations than OK_MIN succeeded
#   may_lose=1                           before it: a loss is no failure
set -euo pipefail
suite=$(basename "$0" .sh)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
fuzz_dist="${FUZZ_DIST_BIN:-$root/target/debug/fuzz_dist}"
export FUZZ_DIST_EBIN="${FUZZ_DIST_EBIN:-$root/elixir_client/_build/test/lib/fuzz_dist/ebin}"
export LC_ALL=C.UTF-8
system="$root/test/systems/rabbitmq"

plugins=$(echo /usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins)
if [[ ! -d "$plugins" ]]; then
  echo "$suite: skipped: RabbitMQ is not installed in /usr/lib/rabbitmq (apt-get install rabbitmq-server)" >&2
  exit 0
fi

store=$(mktemp -d)
trap 'rm -rf "$store"' EXIT
mkdir -p "$root/target/rabbitmq"
ERL_LIBS="$plugins" erlc -o "$root/target/rabbitmq" "$system/rabbitmq_client.erl"

fail() { echo "$suite: $*" >&2; exit 1; }

rabbitmq_run() {
  local spec=$1 ok_min=$2 ok
  shift 2
  status=0
  "$fuzz_dist" run "$system/$spec.toml" --store "$store" "$@" || status=$?
  run=$(readlink -e "$store/latest")
  # A machine that is too slow for three brokers may leave the queue undrained: nobody knows then. What is never
  # right is a loss.
  [[ "$status" == 0 || "$status" == 2 || ("$status" == 1 && -n "${may_lose:-}") ]] || fail "a quorum queue under faults ended with status $status"
  ok=$(grep -o '"ok": *[0-9]*' "$run/results.json" | sed -n '1s/.*: *//p')
  ((${ok:-0} >= ok_min)) || fail "only ${ok:-no} operations succeeded, of $ok_min at least"
  [[ -e "$run/report.html" ]] || fail "$run/report.html is missing"
  compgen -G "$run/nodes/n1/log/n1@*.log" >/dev/null || fail "the log of n1 is not in $run/nodes/n1/log"
  "$root/test/e2e/support/left_behind" "$run"
}
