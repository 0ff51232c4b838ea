#!/usr/bin/env bash
# Nodes that leave a RabbitMQ cluster, are forgotten and join again, first by themselves, then beside kills and
# partitions; then replicas of the quorum queue alone. In the end everybody is a member again, and nothing is lost.
# Skipped where RabbitMQ is not installed.
source "$(dirname "${BASH_SOURCE[0]}")/support/rabbitmq.bash"

everybody_is_back() {
  local last
  last=$(grep ':f :membership' "$run/history.edn") || fail "the run has no record of the members"
  [[ "$last" == *":missing []"* ]] || fail "not everybody came back: $last"
}

changes() { grep -c "\"effect\": *\"[a-z]* n[1-3] by n[1-3]: members are" "$run/results.json" || true; }

rabbitmq_run membership 500 --seed 1 --time-limit 90 --nemesis membership
everybody_is_back
(($(changes) >= 2)) || fail "only $(changes) changes of membership were seen"

rabbitmq_run membership 300 --seed 2 --time-limit 240
everybody_is_back
(($(changes) >= 1)) || fail "no change of membership was seen beside kills and partitions"

rabbitmq_run rabbitmq 300 --seed 4 --time-limit 180 --nemesis "$system/replicas.toml"
everybody_is_back
(($(changes) >= 1)) || fail "no change of the queue's replicas was seen"
