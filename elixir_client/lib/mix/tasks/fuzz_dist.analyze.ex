defmodule Mix.Tasks.FuzzDist.Analyze do
  @shortdoc "Checks a stored run again"

  @moduledoc """
  Checks a stored run again.

      mix fuzz_dist.analyze RUN

  All arguments are given to `fuzz_dist analyze`, whose `--help` lists them:

      mix fuzz_dist.analyze latest
      mix fuzz_dist.analyze --help

  Exit status: 0 valid, 1 invalid, 2 unknown, 254 wrong arguments or input, 255 a failure of fuzz_dist
  itself.
  """

  use Mix.Task

  alias FuzzDist.{Command, Core}

  @impl true
  def run(arguments) do
    Command.exit_with(fn -> Core.run(["analyze" | arguments]) end)
  end
end
