defmodule DemoApp.PlanesTest do
  # Faults of the planes that need native code in the nodes: what the mix compiler has installed is found and used.
  use FuzzDist.Test,
    workload: :register,
    workload_options: [cas: false],
    checkers: [:stats],
    name: "demo-planes",
    nodes: 2,
    time_limit_s: 9,
    warm_up_s: 0.5,
    rate: 100,
    recovery_s: 5,
    cluster: [net_ticktime_s: 4],
    nemesis: [
      interval_s: 0.2,
      faults: [
        [kind: :clock_jump, offset_ms: 60_000, targets: [{:named, [:n1]}], duration_ms: 1_500],
        [kind: :disk_enospc, files: "journal", targets: [{:named, [:n2]}], duration_ms: 1_000],
        [kind: :hold, plane: :carrier, targets: [:halves], duration_ms: 500]
      ]
    ]

  @impl FuzzDist.Client
  def ready(_node, _context), do: is_pid(Process.whereis(DemoApp.Register))

  @impl true
  def read(key, _connection), do: {:ok, DemoApp.Register.read(key)}

  # The disk may be full: what is asked here is only that the nodes are told so.
  @impl true
  def write(key, value, _connection) do
    _ = File.write("journal", "#{key} #{value}\n", [:append])
    DemoApp.Register.write(key, value)
  end
end
