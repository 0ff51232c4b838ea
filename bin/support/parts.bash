# Sourced by scripts that run many things, one after the other: a part that fails does not hide the others, and a table at
# the end says how each ended and how many minutes it took.
#
#   part NAME COMMAND…    runs a part
#   within NAME COMMAND…  runs a script that has parts of its own; they enter the table as "NAME: …"
#   parts_end             prints the table, unless another script does; fails if a part failed
#
# Parts of scripts that call each other gather in one file, FUZZ_DIST_PARTS.

if [[ -z "${FUZZ_DIST_PARTS:-}" ]]; then
  FUZZ_DIST_PARTS=$(mktemp)
  export FUZZ_DIST_PARTS
  parts_own=yes
  trap 'rm -f "$FUZZ_DIST_PARTS"' EXIT
fi
parts_failed=0

part() {
  local name=$1 status=0 began=$SECONDS
  shift
  printf '\n== %s%s\n' "${FUZZ_DIST_PARTS_OF:-}" "$name"
  "$@" || status=$?
  ((status == 0)) || parts_failed=1
  printf '%s\t%s\t%s\n' "$((SECONDS - began))" "$status" "${FUZZ_DIST_PARTS_OF:-}$name" >>"$FUZZ_DIST_PARTS"
}

within() {
  local name=$1 status=0 before after
  shift
  before=$(wc -l <"$FUZZ_DIST_PARTS")
  FUZZ_DIST_PARTS_OF="${name:+$name: }" "$@" || status=$?
  ((status == 0)) || parts_failed=1
  after=$(wc -l <"$FUZZ_DIST_PARTS")
  # It failed before any part of it did.
  if ((status != 0 && before == after)); then
    printf '0\t%s\t%s\n' "$status" "${name:-$*}" >>"$FUZZ_DIST_PARTS"
  fi
}

parts_end() {
  if [[ -n "${parts_own:-}" ]]; then
    printf '\n minutes\n'
    awk -F '\t' '{ printf "%8.1f  %s%s\n", $1 / 60, $3, $2 == 0 ? "" : "  FAILED (status " $2 ")"; all += $1 }
      END { printf "%8.1f  in all\n", all / 60 }' "$FUZZ_DIST_PARTS"
  fi
  return "$parts_failed"
}
