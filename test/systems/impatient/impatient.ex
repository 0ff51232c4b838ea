defmodule Impatient do
  @moduledoc """
  A server whose callers give it 700 ms: a time that stands nowhere but in its compiled code.
  """

  use GenServer

  @behaviour FuzzDist.Client

  @impl FuzzDist.Client
  def setup(_node, _context) do
    case GenServer.start(__MODULE__, nil, name: __MODULE__) do
      {:ok, _pid} -> :ok
      {:error, {:already_started, _pid}} -> :ok
    end
  end

  @impl GenServer
  def init(nil), do: {:ok, nil}

  @impl GenServer
  def handle_call({:echo, value}, _from, state), do: {:reply, value, state}

  @impl FuzzDist.Client
  def open(_node, _context), do: {:ok, nil}

  @impl FuzzDist.Client
  def invoke({:echo, value}, _state, _context) do
    {:ok, GenServer.call(__MODULE__, {:echo, value}, 700)}
  end

  @impl FuzzDist.Client
  def close(_state, _context), do: :ok
end
