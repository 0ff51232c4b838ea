defmodule DemoApp.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _arguments) do
    Supervisor.start_link([DemoApp.Register], strategy: :one_for_one, name: DemoApp.Supervisor)
  end
end
