defmodule FuzzDist.Toml do
  @moduledoc false
  # Writes TOML 1.0: as much as a spec needs. Keyword lists and maps are tables, lists of them arrays of
  # tables, with headers down to the second level and inline below; atoms are strings, `nil` entries are
  # left out (TOML has no null), and so are empty tables.

  @headers_max 2

  @spec encode(keyword() | map()) :: String.t()
  def encode(table), do: table |> table([]) |> IO.iodata_to_binary()

  defp table(table, path) do
    entries = entries(table)

    {tables, plain} =
      Enum.split_with(entries, fn {_, value} ->
        length(path) < @headers_max and (table?(value) or tables?(value))
      end)

    lines = for {key, value} <- plain, do: [key(key), " = ", value(value), "\n"]
    [lines | Enum.map(tables, fn {key, value} -> nested(value, path ++ [key]) end)]
  end

  defp nested(value, path) do
    cond do
      value == %{} -> []
      table?(value) -> ["\n[", path(path), "]\n", table(value, path)]
      true -> for one <- value, do: ["\n[[", path(path), "]]\n", table(one, path)]
    end
  end

  # Sorted unless the order is the writer's.
  defp entries(table) when is_map(table), do: table |> Enum.sort() |> entries()
  defp entries(table), do: Enum.reject(table, fn {_, value} -> is_nil(value) end)

  defp table?(value) when is_map(value), do: true
  defp table?([{key, _} | _] = value), do: is_atom(key) and Keyword.keyword?(value)
  defp table?(_), do: false

  defp tables?([first | _] = value), do: table?(first) and Enum.all?(value, &table?/1)
  defp tables?(_), do: false

  defp value(true), do: "true"
  defp value(false), do: "false"

  defp value(nil),
    do: raise(ArgumentError, "TOML has no null: nil cannot stand in a list (write \":nil\")")

  defp value(atom) when is_atom(atom), do: string(Atom.to_string(atom))
  defp value(text) when is_binary(text), do: string(text)
  defp value(integer) when is_integer(integer), do: Integer.to_string(integer)
  defp value(float) when is_float(float), do: Float.to_string(float)

  defp value(value) do
    cond do
      table?(value) ->
        fields = for {key, inner} <- entries(value), do: [key(key), " = ", value(inner)]
        if fields == [], do: "{}", else: ["{ ", Enum.intersperse(fields, ", "), " }"]

      is_list(value) ->
        ["[", value |> Enum.map(&value/1) |> Enum.intersperse(", "), "]"]

      true ->
        raise ArgumentError, "#{inspect(value)} cannot be written as TOML"
    end
  end

  defp path(keys), do: keys |> Enum.map(&key/1) |> Enum.intersperse(".")

  defp key(key) do
    text = to_string(key)
    if text =~ ~r/\A[A-Za-z0-9_-]+\z/, do: text, else: string(text)
  end

  defp string(text), do: [?", for(<<char::utf8 <- text>>, do: escaped(char)), ?"]

  defp escaped(?"), do: "\\\""
  defp escaped(?\\), do: "\\\\"
  defp escaped(?\n), do: "\\n"
  defp escaped(?\t), do: "\\t"
  defp escaped(?\r), do: "\\r"

  defp escaped(char) when char < 32 or char == 127,
    do: ["\\u", char |> Integer.to_string(16) |> String.pad_leading(4, "0")]

  defp escaped(char), do: <<char::utf8>>
end
