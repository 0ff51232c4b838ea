defmodule Mix.Tasks.FuzzDist.Serve do
  @shortdoc "Serves the stored runs to a browser"

  @moduledoc """
  Serves the stored runs to a browser.

      mix fuzz_dist.serve

  All arguments are given to `fuzz_dist serve`, whose `--help` lists them:

      mix fuzz_dist.serve
      mix fuzz_dist.serve --help

  Exit status: 0 valid, 1 invalid, 2 unknown, 254 wrong arguments or input, 255 a failure of fuzz_dist
  itself.
  """

  use Mix.Task

  alias FuzzDist.{Command, Core}

  @impl true
  def run(arguments) do
    Command.exit_with(fn -> Core.run(["serve" | arguments], life_line: true) end)
  end
end
