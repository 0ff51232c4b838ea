#!/usr/bin/env bash
# Stock RabbitMQ from Debian, three nodes in a cluster with a quorum queue, under partitions, kills and pauses: what was
# confirmed must come out. Skipped where RabbitMQ is not installed (`bin/setup` tries to).
source "$(dirname "${BASH_SOURCE[0]}")/support/rabbitmq.bash"

rabbitmq_run rabbitmq 20 --seed 2 --time-limit 12
