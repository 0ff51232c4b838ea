defmodule FuzzDist.Worker.Bounds do
  @moduledoc false
  # What a completion may hold: a history is no place for a dump of a table, and the core closes the
  # connection of an agent that sends more than it reads, with every operation under way.

  @bytes_max 16 * 1024 * 1024
  # The core takes 128 levels for a whole message, of which four lie around a result.
  @depth_max 100

  # Past the bounds an operation is `:info`, since it may well have taken place, and its result is
  # left out. `value` is what it was invoked with.
  @spec keep(tuple(), term()) :: tuple()
  def keep({id, type, result}, value) do
    case excess(result) do
      nil -> {id, type, result}
      excess -> {id, :info, value, excess}
    end
  end

  def keep({id, type, result, reason}, value) do
    case excess(result) || excess(reason) do
      nil -> {id, type, result, reason}
      excess -> {id, :info, value, excess}
    end
  end

  @spec excess(term()) :: nil | {:too_large | :too_deep, pos_integer()}
  def excess(term) do
    cond do
      is_number(term) or is_atom(term) -> nil
      deep?(term, @depth_max) -> {:too_deep, @depth_max}
      (bytes = :erlang.external_size(term)) > @bytes_max -> {:too_large, bytes}
      true -> nil
    end
  end

  defp deep?(term, left) when is_list(term), do: left == 0 or items_deep?(term, left - 1)

  defp deep?(term, left) when is_tuple(term),
    do: left == 0 or items_deep?(Tuple.to_list(term), left - 1)

  defp deep?(term, left) when is_map(term) do
    left == 0 or
      Enum.any?(:maps.to_list(term), fn {k, v} -> deep?(k, left - 1) or deep?(v, left - 1) end)
  end

  defp deep?(_, _), do: false

  defp items_deep?([item | rest], left), do: deep?(item, left) or items_deep?(rest, left)
  defp items_deep?([], _), do: false
  # An improper list ends in something else.
  defp items_deep?(tail, left), do: deep?(tail, left)
end
