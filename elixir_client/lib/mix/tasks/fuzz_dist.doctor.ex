defmodule Mix.Tasks.FuzzDist.Doctor do
  @shortdoc "Tells what this machine can do"

  @moduledoc """
  Tells what this machine can do.

      mix fuzz_dist.doctor

  All arguments are given to `fuzz_dist doctor`, whose `--help` lists them:

      mix fuzz_dist.doctor
      mix fuzz_dist.doctor --help

  Exit status: 0 valid, 1 invalid, 2 unknown, 254 wrong arguments or input, 255 a failure of fuzz_dist
  itself.
  """

  use Mix.Task

  alias FuzzDist.{Command, Core}

  @impl true
  def run(arguments) do
    Command.exit_with(fn -> Core.run(["doctor" | arguments]) end)
  end
end
