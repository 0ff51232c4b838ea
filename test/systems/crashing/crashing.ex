defmodule Crashing do
  @moduledoc """
  Nodes that end by themselves when they are asked to by an operation: `halt` once, `doom` so that they also do whenever
  they are started again (the command of the node looks for the file).
  """

  @behaviour FuzzDist.Client

  @impl true
  def open(_node, context), do: {:ok, context}

  @impl true
  def invoke({:echo, value}, _state, _context), do: {:ok, value}

  def invoke({what, short}, _state, context) when what in [:halt, :doom] do
    {_short, node} = List.keyfind(context.nodes, short, 0)
    :erpc.cast(node, __MODULE__, :end_by_itself, [what])
    {:ok, short}
  end

  @impl true
  def close(_state, _context), do: :ok

  @doc false
  def end_by_itself(what) do
    # Until whoever has asked has its answer, and has asked the others.
    Process.sleep(300)
    # The data folder is where the VM was started.
    if what == :doom, do: File.write!("doomed", "")
    :erlang.halt(3)
  end
end
