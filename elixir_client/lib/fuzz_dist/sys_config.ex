defmodule FuzzDist.SysConfig do
  @moduledoc false
  # The configuration of this project's applications as a sys.config, so that nodes of a test, which
  # are plain `erl`, run with what `config/*.exs` says.
  #
  # Values that exist only in this VM (processes, references, anonymous functions) cannot be written;
  # they are left out and named.

  @doc false
  # {text, [{application, key}] that were left out}
  def render(applications) do
    {kept, dropped} =
      applications
      |> Enum.map(&{&1, Application.get_all_env(&1)})
      |> Enum.map(fn {name, env} -> {name, Keyword.delete(env, :included_applications)} end)
      |> Enum.reject(fn {_, env} -> env == [] end)
      |> Enum.map_reduce([], fn {name, env}, dropped ->
        {good, bad} = Enum.split_with(env, fn {_, value} -> writable?(value) end)
        {{name, good}, dropped ++ Enum.map(bad, fn {key, _} -> {name, key} end)}
      end)

    text = :io_lib.format("%% coding: utf-8~n~tp.~n", [kept])
    {IO.chardata_to_string(text), dropped}
  end

  # What is written must be read back as the same.
  defp writable?(value) do
    text = "~tp." |> :io_lib.format([value]) |> IO.chardata_to_string() |> String.to_charlist()

    with {:ok, tokens, _} <- :erl_scan.string(text),
         {:ok, ^value} <- :erl_parse.parse_term(tokens),
         do: true,
         else: (_ -> false)
  end
end
