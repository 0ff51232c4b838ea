#!/usr/bin/env bash
# Ten minutes of RabbitMQ's quorum queue under partitions, kills and pauses, which must come to a verdict; then its
# leader killed and suspended, and faults as long as RabbitMQ's own time-outs. Skipped where RabbitMQ is not installed.
source "$(dirname "${BASH_SOURCE[0]}")/support/rabbitmq.bash"

rabbitmq_run rabbitmq 3000 --seed 1 --time-limit 600
[[ "$status" == 0 ]] || fail "ten minutes ended without a verdict"

# Every kill hits whoever leads: that process is gone, and Ra tells of another leader afterwards.
rabbitmq_run rabbitmq 200 --seed 1 --time-limit 60 --nemesis "$system/leader.toml"
grep -q '"effect": *"n[1-3]: <[0-9.]*> is gone (killed)"' "$run/results.json" || fail "no leader was killed"
grep -q '"effect": *"n[1-3]: <[0-9.]*> is suspended"' "$run/results.json" || fail "no leader was suspended"
grep -q '"heal_effect": *"n[1-3]: .* stands in its place"' "$run/results.json" || fail "nobody led after a leader was killed"

rabbitmq_run rabbitmq 200 --seed 3 --time-limit 100 --nemesis "$system/mined.toml"
grep -q '"name": *"mined-5000"' "$run/schedule.json" || fail "no boundary of 5000 ms was mined from RabbitMQ"
