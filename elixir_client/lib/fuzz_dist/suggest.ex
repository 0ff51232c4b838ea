defmodule FuzzDist.Suggest do
  @moduledoc false
  # Did-you-mean: one place, so that every message about a wrong name sounds the same.

  @similar 0.77

  # " (did you mean `x`?)", or "" when nothing is near.
  def hint(name, candidates) do
    case nearest(name, candidates) do
      nil -> ""
      candidate -> " (did you mean `#{candidate}`?)"
    end
  end

  def nearest(name, candidates) do
    text = to_string(name)

    candidates
    |> Enum.map(fn candidate -> {String.jaro_distance(text, to_string(candidate)), candidate} end)
    |> Enum.filter(fn {similarity, _} -> similarity >= @similar end)
    |> Enum.max_by(&elem(&1, 0), fn -> {0, nil} end)
    |> elem(1)
  end
end
