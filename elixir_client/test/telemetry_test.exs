defmodule FuzzDist.TelemetryTest do
  # Handlers are global.
  use ExUnit.Case

  import ExUnit.CaptureLog

  alias FuzzDist.Clients.Echo
  alias FuzzDist.{Context, Telemetry}
  alias FuzzDist.Worker.Logical

  setup do
    test = self()
    id = make_ref()

    handler = fn event, measurements, metadata, _ ->
      send(test, {event, measurements, metadata})
    end

    :ok = Telemetry.attach_many(id, Telemetry.events(), handler, nil)
    on_exit(fn -> Telemetry.detach(id) end)
    {:ok, id: id}
  end

  defp perform(f, value) do
    context = %Context{process: 7, short: "n2", node: :n2@h, test: "t"}
    pid = spawn_link(Logical, :run, [self(), Echo, context])
    send(pid, {:"$fuzz_dist_op", 1, f, value})
    assert_receive {:"$fuzz_dist_done", 7, ^pid, completion}
    completion
  end

  test "an operation is a span" do
    perform(:write, 5)
    assert_receive {[:fuzz_dist, :op, :start], start, metadata}
    assert is_integer(start.system_time) and is_integer(start.monotonic_time)
    assert %{test: "t", process: 7, node: "n2", f: :write, value: 5} = metadata
    assert_receive {[:fuzz_dist, :op, :stop], stop, ended}
    assert stop.duration >= 0 and stop.monotonic_time >= start.monotonic_time
    assert %{type: :ok, result: 5, error: nil} = ended
    assert Map.take(ended, Map.keys(metadata)) == metadata
  end

  test "what invoke returns is a stop, what it raises an exception" do
    perform(:fail, :taken)
    assert_receive {[:fuzz_dist, :op, :stop], _, %{type: :fail, error: :taken}}
    perform(:raise, "x")
    assert_receive {[:fuzz_dist, :op, :exception], %{duration: _}, metadata}
    assert %{kind: :error, reason: %ArgumentError{}, type: :info, stacktrace: [_ | _]} = metadata
    refute_received {[:fuzz_dist, :op, :stop], _, _}
  end

  test "a handler that raises is detached, others go on" do
    :ok =
      Telemetry.attach(:raises, [:fuzz_dist, :op, :start], fn _, _, _, _ -> raise "oops" end, nil)

    assert capture_log(fn -> perform(:write, 1) end) =~ "oops"
    assert Telemetry.detach(:raises) == {:error, :not_found}
    assert_receive {[:fuzz_dist, :op, :stop], _, _}
  end

  test "attaching twice and detaching nothing are refused", %{id: id} do
    assert Telemetry.attach(id, [:fuzz_dist, :op, :stop], fn _, _, _, _ -> :ok end, nil) ==
             {:error, :already_exists}

    assert Telemetry.detach(:nobody) == {:error, :not_found}
  end

  test "without handlers nobody is told", %{id: id} do
    assert Telemetry.observed?()
    assert Telemetry.detach(id) == :ok
    refute Telemetry.observed?()
    perform(:write, 1)
    refute_received {[:fuzz_dist | _], _, _}
  end
end
