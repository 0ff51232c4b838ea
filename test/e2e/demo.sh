#!/usr/bin/env bash
# The first command of the README, as a newcomer types it. It fails unless Mnesia came out valid under short
# partitions and invalid under long ones; what is added here is that it left nothing running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# The demo uses what `make build` built, not the debug build of the other tests.
unset FUZZ_DIST_BIN FUZZ_DIST_EBIN

make demo

for environment in /proc/[0-9]*/environ; do
  if tr '\0' '\n' <"$environment" 2>/dev/null | grep -q '^FUZZ_DIST_RUN='; then
    folder=$(tr '\0' '\n' <"$environment" 2>/dev/null | grep '^FUZZ_DIST_RUN=' || true)
    # Runs of others on this machine are none of our business: only those of the store are.
    for run in store/mnesia-short/latest store/mnesia-long/latest; do
      if [[ "$folder" == "FUZZ_DIST_RUN=$(basename "$(readlink -f "$run")")" ]]; then
        echo "demo: process ${environment//[^0-9]/} of $run is still there" >&2
        exit 1
      fi
    done
  fi
done
for run in store/mnesia-short/latest store/mnesia-long/latest; do
  for file in results.json report.html history.edn schedule.json spec.toml; do
    [[ -s "$run/$file" ]] || { echo "demo: $run/$file is missing" >&2; exit 1; }
  done
done
