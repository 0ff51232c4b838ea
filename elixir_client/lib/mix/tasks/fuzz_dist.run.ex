defmodule Mix.Tasks.FuzzDist.Run do
  @shortdoc "Runs fuzz_dist tests: your application as a cluster, under faults, checked"

  @moduledoc """
  Runs tests: starts a cluster of this project's application, performs operations while faults are
  injected, and checks what was recorded.

      mix fuzz_dist.run [TEST ...] [options]

  `TEST` is a module with `use FuzzDist.Test` (`MyApp.RegisterTest`), the name of a test as runs print
  it (`my_app-register_test`), a file that defines one (`fuzz_dist/register.exs`), or a spec
  (`spec.toml`). Without it, all tests are run, one after the other: modules of the project, and those
  in `fuzz_dist/*.exs` and `test/fuzz_dist/*.exs`, in an umbrella also those of its applications.
  `mix fuzz_dist.new` writes a first one.

  The project is compiled and configured as for `mix run`, in the current `MIX_ENV`. Each node is an
  `erl` of its own with the project's code paths and configuration (`config/*.exs`, `runtime.exs`
  evaluated once, here); it starts the application with all it depends on, and the worker, which
  performs operations in it. Nothing of this VM becomes distributed.

  ## Options

    * `--seed N` – where every random draw comes from; printed by every run
    * `--time-limit SECONDS` – length of the main phase
    * `--nodes N` – how many nodes, or their names with commas between
    * `--concurrency N` – logical processes: a number, or `2n` for two for each node
    * `--rate N` – operations a second in total
    * `--schedule FILE` – run these faults (a `schedule.json`) instead of drawing some
    * `--nemesis FILE|PACKAGES` – faults of this profile (a TOML file with a `[nemesis]` table) or of these packages
      (`kill,partition`, `all`) instead of the test's own; `none` for no faults, `default` for the rotating mix of a
      test that names none
    * `--store DIR` – where runs are stored (`store`)
    * `--json` – one machine-readable object on standard output for each test
    * `--no-color` – no colours
    * `--print-spec` – print the spec as TOML instead of running it

  ## What it leaves

  `store/<test>/<time>/` holds the history, the logs of each node, `results.json` and `report.html`; the
  last lines of the output tell the verdict, the report, and the command that runs the same again.
  The generated spec is in `_build/<env>/fuzz_dist/<test>/spec.toml`.

  Ctrl-C (twice, as in any mix task), or the death of this VM in any way, ends the run: the core notices,
  heals every fault, and stops every node within two seconds.

  ## Exit status

  | status | meaning |
  |---|---|
  | 0 | valid: no checker found anything wrong, and something was tested |
  | 1 | invalid: an anomaly was found |
  | 2 | unknown: not enough to say |
  | 254 | wrong arguments, a spec or a module with a mistake, a project that does not compile or start |
  | 255 | a failure of fuzz_dist itself |
  | 141 | the program that reads the output is gone (`| head`) |

  With several tests, 254 or 255 stops at once; otherwise 1 beats 2 beats 0. When mix itself fails
  before the task starts (a `mix.exs` with a mistake), mix exits with 1: CI that must tell the two
  apart reads `results.json`.

  ## Environment

    * `FUZZ_DIST_BIN` – a `fuzz_dist` binary to use instead of the one built with the dependency
  """

  use Mix.Task

  alias FuzzDist.{Command, Core, Project}

  @switches [
    seed: :integer,
    time_limit: :float,
    nodes: :string,
    concurrency: :string,
    rate: :float,
    schedule: :string,
    nemesis: :string,
    store: :string,
    json: :boolean,
    no_color: :boolean,
    print_spec: :boolean
  ]

  @impl true
  def run(arguments) do
    Command.exit_with(fn ->
      {options, names} = Command.parse!(arguments, @switches)
      {own, options} = Keyword.split(options, [:print_spec])
      specs = specs!(names)

      if own[:print_spec],
        do: print(specs),
        else: worst(specs, options)
    end)
  end

  defp specs!(names) do
    {files, names} = Enum.split_with(names, &String.ends_with?(&1, ".toml"))
    if names != [] or files == [], do: files ++ Project.specs!(names), else: files
  end

  defp print(specs) do
    Enum.each(specs, &IO.puts(File.read!(&1)))
    0
  end

  # Invalid beats unknown beats valid; what is neither ends it.
  defp worst(specs, options) do
    Enum.reduce_while(specs, 0, fn spec, worst ->
      case Core.run(["run", Path.relative_to_cwd(spec) | Command.flags(options)], life_line: true) do
        status when status in [0, 2] -> {:cont, if(worst == 0, do: status, else: worst)}
        1 -> {:cont, 1}
        status -> {:halt, status}
      end
    end)
  end
end
