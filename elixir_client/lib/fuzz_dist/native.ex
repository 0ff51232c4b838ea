defmodule FuzzDist.Native do
  @moduledoc false
  # The native library `fuzz_dist_nif`: the checkers, and histories from and to files.
  #
  # It is loaded at its first use and not with this module, so that nodes under test, which load every
  # module of a release, run no native code of ours. Functions are called through `call/2`: it loads, and
  # gives a sentence where there is no library. Terms cross as binaries in the external term format.

  # The version of the table of functions must be that of the library, or loading fails with a sentence.
  @library "fuzz_dist_nif.so"

  @doc false
  # {:ok, _} or {:error, sentence}, whatever happens.
  def call(function, arguments) do
    case attempt(function, arguments) do
      :not_loaded ->
        with :ok <- load(), do: attempt(function, arguments)

      answer ->
        answer
    end
  end

  # Remote, since the compiler would conclude that the functions below never return.
  defp attempt(function, arguments) do
    apply(__MODULE__, function, arguments)
  catch
    :error, :nif_not_loaded ->
      :not_loaded

    :error, reason ->
      {:error,
       "this is a failure of fuzz_dist itself, please report it: #{function}: #{inspect(reason)}"}
  end

  # Two processes may come here at once: whoever is second finds the library loaded, which is as good.
  defp load do
    with {:ok, path} <- path() do
      case :erlang.load_nif(path |> Path.rootname(".so") |> String.to_charlist(), 0) do
        :ok -> :ok
        {:error, {:reload, _}} -> :ok
        {:error, {_, text}} -> {:error, "cannot load #{path}: #{text}"}
      end
    end
  end

  @doc false
  # Path of the library: FUZZ_DIST_NIF, else the one that the mix compiler installed.
  def path do
    case System.get_env("FUZZ_DIST_NIF") do
      empty when empty in [nil, ""] -> installed()
      path -> given(Path.expand(path))
    end
  end

  defp given(path) do
    cond do
      not File.regular?(path) -> {:error, "FUZZ_DIST_NIF names #{path}, which is not a file"}
      Path.extname(path) != ".so" -> {:error, "FUZZ_DIST_NIF names #{path}, which is not a .so"}
      true -> {:ok, path}
    end
  end

  defp installed do
    path = Path.join(Application.app_dir(:fuzz_dist, "priv"), @library)

    if File.regular?(path) do
      {:ok, path}
    else
      {:error,
       "the checkers are not built: #{path} does not exist. Run `mix deps.compile fuzz_dist --force` " <>
         "(it needs cargo), or set FUZZ_DIST_NIF to a library made by `cargo build -p fuzz_dist_nif`"}
    end
  end

  @doc false
  def load_history(_path), do: not_loaded()
  @doc false
  def new_history(_records), do: not_loaded()
  @doc false
  def atom_count_max(_history), do: not_loaded()
  @doc false
  def records(_history, _first, _count), do: not_loaded()
  @doc false
  def write_history(_history, _path), do: not_loaded()
  @doc false
  def check(_history, _checkers, _time_ms, _memory_mib), do: not_loaded()
  @doc false
  def check_model(_history, _server, _independent, _time_ms, _memory_mib), do: not_loaded()
  @doc false
  def answer_of_model(_answers, _answer), do: not_loaded()
  @doc false
  def checks_running, do: not_loaded()

  defp not_loaded, do: :erlang.nif_error(:nif_not_loaded)
end
