#!/usr/bin/env bash
# The compilers of this Erlang and this Elixir have nothing to say about what users compile: the client as a dependency
# of a fresh project, the test that `mix fuzz_dist.new` writes, and the systems under test that serve as examples.
# The library's own sources must also compile with a warning in them: what a later compiler warns about is no reason to
# stop the build of a user.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export FUZZ_DIST_BIN="${FUZZ_DIST_BIN:-$root/target/debug/fuzz_dist}"
unset FUZZ_DIST_EBIN MIX_ENV MIX_BUILD_PATH MIX_BUILD_ROOT ERL_COMPILER_OPTIONS
export LC_ALL=C.UTF-8

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

# Runs a compiler: it must succeed and print no warning.
silent() {
  local name=$1 status=0
  shift
  "$@" >"$scratch/output" 2>&1 </dev/null || status=$?
  if ((status != 0)) || grep -qi warning "$scratch/output"; then
    printf 'warnings: %s (status %s):\n' "$name" "$status" >&2
    cat "$scratch/output" >&2
    failed=1
  fi
}

# A project with the client as its only dependency.
project() {
  local folder=$1 client=$2
  mkdir -p "$folder/lib"
  printf 'defmodule Fresh do\nend\n' >"$folder/lib/fresh.ex"
  cat >"$folder/mix.exs" <<END
defmodule Fresh.MixProject do
  use Mix.Project

  def project do
    [app: :fresh, version: "0.1.0", elixir: "~> 1.14", deps: [{:fuzz_dist, path: "$client"}]]
  end

  def application, do: [extra_applications: [:logger]]
end
END
}

project "$scratch/fresh" "$root/elixir_client"
cd "$scratch/fresh"
silent "the client as a dependency" mix compile
silent "mix fuzz_dist.new" mix fuzz_dist.new
silent "the test that mix fuzz_dist.new writes" \
  mix run --no-start -e 'Code.compile_file("fuzz_dist/register.exs")'
ebin="$scratch/fresh/_build/dev/lib/fuzz_dist/ebin"

# RabbitMQ's client library is not everywhere: its suites compile what needs it.
mapfile -t erlang < <(find "$root/test/systems" -name '*.erl' -not -path '*/_build/*' \
  -not -name rabbitmq_client.erl | sort)
mapfile -t elixir < <(find "$root/test/systems" -name '*.ex' -not -path '*/_build/*' \
  -not -path '*/demo_app/*' | sort)
mkdir "$scratch/erlang" "$scratch/elixir"
silent "Erlang systems" erlc -o "$scratch/erlang" "${erlang[@]}"
silent "Elixir systems" \
  elixirc -pa "$ebin" -pa "$scratch/erlang" -o "$scratch/elixir" "${elixir[@]}"
cd "$root/test/systems/demo_app"
export MIX_BUILD_PATH="$scratch/demo_app"
silent "demo_app" mix compile
for file in fuzz_dist/*.exs; do
  silent "demo_app/$file" mix run --no-start -e "Code.compile_file(\"$file\")"
done
unset MIX_BUILD_PATH

# A copy of the client with a warning in each language.
cp -R "$root/elixir_client" "$scratch/client"
rm -rf "$scratch/client/_build"
printf 'defmodule FuzzDist.Unused do\n  def f, do: (x = 1)\nend\n' >"$scratch/client/lib/unused.ex"
printf -- '-module(fuzz_dist_unused).\n-export([f/1]).\nf(X) -> 1.\n' >"$scratch/client/src/fuzz_dist_unused.erl"
project "$scratch/warned" "$scratch/client"
cd "$scratch/warned"
mix compile >"$scratch/output" 2>&1 </dev/null || {
  echo "warnings: a warning in the client fails the build of a project that depends on it:" >&2
  cat "$scratch/output" >&2
  failed=1
}
if (($(grep -ci warning "$scratch/output") < 2)); then
  echo "warnings: the compilers did not warn about the copy with warnings, so that nothing was tested" >&2
  failed=1
fi
exit "$failed"
