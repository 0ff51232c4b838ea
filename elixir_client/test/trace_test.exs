defmodule FuzzDist.TraceTest do
  # Not async: patterns of traces are global.
  use ExUnit.Case, async: false

  # Waits in every way until it is told to end.
  defp wait_again_and_again do
    moment = :erlang.monotonic_time(:millisecond) + 1234
    :erlang.start_timer(moment, self(), :late, abs: true)
    :erlang.start_timer(4321, self(), :late, [])
    # The module `timer` gives moments to its timers.
    :timer.send_interval(50, :now)

    receive do
      :over -> :ok
    after
      5 -> wait_again_and_again()
    end
  end

  test "a traced node tells how long it waits, and not until which moment" do
    {waiting, monitor} = spawn_monitor(fn -> wait_again_and_again() end)
    assert {:ok, text} = :fuzz_dist_trace.observe(300)
    send(waiting, :over)
    assert_receive {:DOWN, ^monitor, :process, ^waiting, :normal}, 10_000

    calls = for "call\t" <> line <- String.split(text, "\n"), do: String.split(line, "\t")
    of = fn what -> for [_, ^what, _, _, _, time, _] <- calls, uniq: true, do: time end
    assert "4321" in of.("erlang:start_timer/4")
    assert of.("timer:send_interval/2") == ["50"]
    # A moment is a large number, mostly below zero.
    assert Enum.all?(of.("erlang:start_timer/4"), &(String.to_integer(&1) in 0..10_000))
  end

  defmodule NoTable do
    # As Registry does while the application that owns it starts again.
    def whereis_name(_), do: raise(ArgumentError, "unknown registry")
  end

  test "a telemetry handler that finds no agent is no error, or it would be detached for good" do
    assert :ok = :fuzz_dist_trace.handle_telemetry([:a, :b], %{}, %{}, :fuzz_dist_no_such_agent)
    Process.register(self(), :fuzz_dist_test_agent)
    assert :ok = :fuzz_dist_trace.handle_telemetry([:a, :b], %{}, %{}, :fuzz_dist_test_agent)

    assert_receive {:fuzz_dist_agent, :answer, {:event, :telemetry, %{event: "a.b"}, _, _}},
                   10_000
  end

  test "a place in a registry that is down is held by nobody, and the watch goes on" do
    place = {:via, [inspect(NoTable), "leader"]}
    assert :fuzz_dist_selector.holder(place) == :nobody

    Process.register(self(), :fuzz_dist_test_watcher)
    :persistent_term.put(__MODULE__.Changing, :raise)
    changing = {:via, [inspect(__MODULE__.Changing), "leader"]}
    :ok = :fuzz_dist_holder.watch(:fuzz_dist_test_watcher, "the leader", changing)
    first = spawn(fn -> Process.sleep(:infinity) end)

    for holder <- [first, :raise, self()] do
      :persistent_term.put(__MODULE__.Changing, holder)
      looked = :counters.get(__MODULE__.Changing.looks(), 1)
      assert eventually(fn -> :counters.get(__MODULE__.Changing.looks(), 1) > looked + 1 end)
    end

    assert_receive {:fuzz_dist_agent, :answer, {:event, :elected, %{place: "the leader"}, _, _}},
                   10_000
  end

  defmodule Changing do
    def looks do
      case :persistent_term.get({__MODULE__, :looks}, nil) do
        nil -> tap(:counters.new(1, []), &:persistent_term.put({__MODULE__, :looks}, &1))
        looks -> looks
      end
    end

    def whereis_name(_) do
      :counters.add(looks(), 1, 1)

      case :persistent_term.get(__MODULE__) do
        :raise -> raise ArgumentError, "unknown registry"
        pid -> pid
      end
    end
  end

  defp eventually(holds, left \\ 1000) do
    cond do
      holds.() -> true
      left == 0 -> false
      true -> Process.sleep(5) && eventually(holds, left - 1)
    end
  end
end
