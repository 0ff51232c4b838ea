defmodule FuzzDist.Core do
  @moduledoc false
  # Finds and runs the core, the binary `fuzz_dist`.
  #
  # It inherits standard input, output and error (so its status line and colours are those of the
  # terminal), and descriptor 3 is a pipe that ends when this VM does, however: its life line.

  alias FuzzDist.InputError

  @doc false
  # Path of the binary: FUZZ_DIST_BIN, else the one that the mix compiler installed.
  def path! do
    case System.get_env("FUZZ_DIST_BIN") do
      empty when empty in [nil, ""] -> installed!()
      path -> if File.regular?(path), do: Path.expand(path), else: no_file!(path)
    end
  end

  defp no_file!(path),
    do: raise(InputError, "FUZZ_DIST_BIN names #{path}, which is not a file")

  defp installed! do
    path = Path.join(Application.app_dir(:fuzz_dist, "priv"), "fuzz_dist")

    if File.regular?(path) do
      path
    else
      raise InputError,
            "the core of fuzz_dist is not built: #{path} does not exist. Run `mix deps.compile " <>
              "fuzz_dist --force` (it needs cargo), or set FUZZ_DIST_BIN to a fuzz_dist binary"
    end
  end

  @doc false
  # Runs it and gives its exit status. `life_line: true` tells it to end when this VM ends.
  def run(arguments, options \\ []) do
    life_line = if options[:life_line], do: ["--life-line-fd", "3"], else: []

    port =
      Port.open({:spawn_executable, path!()}, [
        :nouse_stdio,
        :exit_status,
        :binary,
        args: arguments ++ life_line,
        env: [
          {~c"FUZZ_DIST_EBIN", :fuzz_dist |> Application.app_dir("ebin") |> String.to_charlist()},
          # What it prints as the command to repeat a run is then a mix task.
          {~c"FUZZ_DIST_CALLED_BY", ~c"mix"}
        ]
      ])

    await(port)
  end

  @doc false
  # Runs it and gives its standard output and exit status; its standard error goes to ours.
  def output(arguments), do: System.cmd(path!(), arguments)

  defp await(port) do
    receive do
      {^port, {:exit_status, status}} -> status
      {^port, {:data, _}} -> await(port)
    end
  end
end
