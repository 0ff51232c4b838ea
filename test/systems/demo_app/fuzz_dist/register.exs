defmodule DemoApp.RegisterTest do
  use FuzzDist.Test,
    workload: :register,
    workload_options: [cas: false],
    name: "demo-register",
    time_limit_s: 10,
    rate: 100,
    recovery_s: 2,
    cluster: [net_ticktime_s: 4],
    nemesis: [
      interval_s: 2,
      faults: [[kind: :hold, targets: [:halves], zones: [:certainly_above]]]
    ]

  @impl FuzzDist.Client
  def ready(_node, _context), do: is_pid(Process.whereis(DemoApp.Register))

  @impl true
  def read(key, _connection), do: {:ok, DemoApp.Register.read(key)}

  @impl true
  def write(key, value, _connection), do: DemoApp.Register.write(key, value)
end
