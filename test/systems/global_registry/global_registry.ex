defmodule GlobalRegistry do
  @moduledoc """
  OTP's own registry of names over the cluster, `:global`, with its default way to resolve a conflict
  (one of the two processes is killed).
  """

  use FuzzDist.Workload.Registry

  @impl true
  def register(key, _connection) do
    # Not linked: it must live on when the logical process ends.
    pid = spawn(&hold/0)

    case :global.register_name(name(key), pid) do
      :yes ->
        {:ok, pid}

      :no ->
        Process.exit(pid, :kill)
        {:fail, :taken}
    end
  end

  @impl true
  def whereis(key, _connection), do: {:ok, :global.whereis_name(name(key))}

  defp name(key), do: {__MODULE__, key}

  defp hold do
    receive do
      :stop -> :ok
    end
  end
end
