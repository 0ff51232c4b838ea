defmodule Echo do
  @moduledoc """
  A system that does nothing: every operation is answered at once with its own value. What it measures is
  fuzz_dist itself (`make bench`).
  """

  @behaviour FuzzDist.Client

  @impl true
  def open(_node, _context), do: {:ok, nil}

  @impl true
  def invoke({_f, value}, _state, _context), do: {:ok, value}

  @impl true
  def close(_state, _context), do: :ok
end
