#!/usr/bin/env bash
# The first command of the README, as a newcomer types it. It fails unless Mnesia came out valid under short
# partitions and invalid under long ones; what is added here is that it left nothing running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# The demo uses what `make build` built, not the debug build of the other tests.
unset FUZZ_DIST_BIN FUZZ_DIST_EBIN

make demo

for run in store/mnesia-short/latest store/mnesia-long/latest; do
  test/e2e/support/left_behind "$run"
  for file in results.json report.html history.edn schedule.json spec.toml; do
    [[ -s "$run/$file" ]] || { echo "demo: $run/$file is missing" >&2; exit 1; }
  done
done
