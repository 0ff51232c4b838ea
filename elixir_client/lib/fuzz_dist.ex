defmodule FuzzDist do
  @moduledoc """
  Tests real clusters of your application under real faults, and checks what they did against a model:
  what Jepsen is for databases, made for the BEAM.

      # mix.exs
      {:fuzz_dist, path: "…/fuzz_dist/elixir_client", only: [:dev, :test], runtime: false}

      $ mix fuzz_dist.new      # writes fuzz_dist/register.exs, which runs as it is
      $ mix fuzz_dist.run      # three nodes of your application, partitions, a verdict

  | you write | see |
  |---|---|
  | a test: one module, what is done and under which faults | `FuzzDist.Test` |
  | its operations, for the usual shapes | `FuzzDist.Workload` |
  | its operations, freely | `FuzzDist.Client`, `FuzzDist.Generator` |

  | you want to know | see |
  |---|---|
  | what `fail` and `info` mean, and how errors become one of them | `FuzzDist.Outcome` |
  | what a callback gets | `FuzzDist.Context` |
  | how to observe a run from inside | `FuzzDist.Telemetry` |
  | all options of a run, exit codes | `mix help fuzz_dist.run` |

  The application starts no processes. Nodes of a test start the worker (`FuzzDist.Worker`) and the node
  agent (`:fuzz_dist_agent`) by themselves, and nothing of it runs anywhere else.
  """
end
