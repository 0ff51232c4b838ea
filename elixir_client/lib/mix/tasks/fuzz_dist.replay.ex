defmodule Mix.Tasks.FuzzDist.Replay do
  @shortdoc "Runs the stored faults of a run again"

  @moduledoc """
  Runs the stored faults of a run again.

      mix fuzz_dist.replay RUN

  All arguments are given to `fuzz_dist replay`, whose `--help` lists them:

      mix fuzz_dist.replay latest
      mix fuzz_dist.replay --help

  Exit status: 0 valid, 1 invalid, 2 unknown, 254 wrong arguments or input, 255 a failure of fuzz_dist
  itself.
  """

  use Mix.Task

  alias FuzzDist.{Command, Core}

  @impl true
  def run(arguments) do
    Command.exit_with(fn -> Core.run(["replay" | arguments], life_line: true) end)
  end
end
