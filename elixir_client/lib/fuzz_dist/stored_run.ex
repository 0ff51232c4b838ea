defmodule FuzzDist.StoredRun do
  @moduledoc false
  # Builds what a stored run needs from the project as it is now. The nodes of a run by a mix task load
  # code and configuration from the build folder of its project, so that is where it is built.

  alias FuzzDist.{Core, InputError, Project}

  # The argument of `-config` in the command that starts a node.
  @config ~r{"([^"\n]*)/fuzz_dist/([^/"\n]+)/sys\.config"}

  @doc false
  # Does nothing for a run that no mix task made. The core refuses wrong arguments, and says why.
  @spec rebuild!([String.t()]) :: :ok | {:refused, output :: String.t(), status :: pos_integer()}
  def rebuild!(arguments) do
    case Core.output(["replay", "--print-spec" | arguments]) do
      {toml, 0} -> rebuild_from!(Regex.run(@config, toml))
      {output, status} -> {:refused, output, status}
    end
  end

  defp rebuild_from!(nil), do: :ok

  defp rebuild_from!([_, build, test]) do
    same_build!(build)
    Project.rebuild!(test)
  end

  defp same_build!(build) do
    unless build == Mix.Project.build_path() do
      raise InputError,
            "the run was made with the build #{build}, and this is #{Mix.Project.build_path()} " <>
              "(set MIX_ENV=#{Path.basename(build)}, in the project of the run)"
    end
  end
end
