defmodule Mix.Tasks.FuzzDist.Check do
  @shortdoc "Checks a recorded history against a property"

  @moduledoc """
  Checks a recorded history against a property.

      mix fuzz_dist.check HISTORY --checker NAME [--option k=v ...]

  All arguments are given to `fuzz_dist check`, whose `--help` lists them:

      mix fuzz_dist.check --checker linearizable --model cas-register --independent history.edn
      mix fuzz_dist.check --help

  Exit status: 0 valid, 1 invalid, 2 unknown, 254 wrong arguments or input, 255 a failure of fuzz_dist
  itself.
  """

  use Mix.Task

  alias FuzzDist.{Command, Core}

  @impl true
  def run(arguments) do
    Command.exit_with(fn -> Core.run(["check" | arguments]) end)
  end
end
