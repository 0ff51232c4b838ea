#!/usr/bin/env bash
# A power failure of all three nodes of a quorum queue at once: it loses nothing of what RabbitMQ confirmed, since that was
# synced; nor does a disk that lies about syncs on one node; but disks that lie on all three do. Skipped where RabbitMQ
# is not installed.
source "$(dirname "${BASH_SOURCE[0]}")/support/rabbitmq.bash"

power_failure() {
  rabbitmq_run rabbitmq 200 --seed 1 --time-limit 60 --nemesis none --schedule "$system/$1.json"
  grep -q 'when it was last synced' "$run/results.json" || fail "$1: nothing unsynced was lost"
}

rabbitmq_run rabbitmq 200 --seed 1 --time-limit 60 --nemesis none --schedule "$system/power_failure.json"
[[ "$status" == 0 ]] || fail "a power failure ended with status $status"

power_failure lying_disk
[[ "$status" == 0 ]] || fail "one lying disk of three ended with status $status"

may_lose=1 power_failure lying_disks
[[ "$status" == 1 ]] || fail "three lying disks ended with status $status: their loss was not found"
grep -q '"name": *"lost"' "$run/results.json" || fail "what was lost is not among the anomalies"
