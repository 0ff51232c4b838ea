defmodule Elections do
  @moduledoc """
  Nodes that elect a leader through `global`: in each of them a candidate asks for the name until it gets it, and
  announces that it has with a telemetry event. A candidate that ends is followed by another.
  """

  @behaviour FuzzDist.Client

  @ask_ms 50

  @impl true
  def setup(_node, _context) do
    if Process.whereis(__MODULE__) == nil, do: spawn(&keep_candidate/0)
    :ok
  end

  @impl true
  def ready(_node, _context), do: is_pid(:global.whereis_name(:leader))

  # The other node may be doing the same at this moment.
  defp keep_candidate do
    Process.register(self(), __MODULE__)
    follow()
  rescue
    ArgumentError -> :somebody_else_does
  end

  defp follow do
    {_pid, monitor} = spawn_monitor(&stand/0)

    receive do
      {:DOWN, ^monitor, :process, _, _} -> follow()
    end
  end

  defp stand do
    case :global.register_name(:leader, self()) do
      :yes ->
        :telemetry.execute([:elections, :won], %{}, %{})
        lead()

      :no ->
        Process.sleep(@ask_ms)
        stand()
    end
  end

  # After a partition `global` may take the name away again.
  defp lead do
    Process.sleep(@ask_ms)
    if :global.whereis_name(:leader) == self(), do: lead(), else: stand()
  end

  @impl true
  def open(_node, _context), do: {:ok, nil}

  @impl true
  def invoke({:leader, _}, _state, _context) do
    case :global.whereis_name(:leader) do
      :undefined -> {:fail, :none}
      pid -> {:ok, node(pid)}
    end
  end

  @impl true
  def close(_state, _context), do: :ok
end
