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
end
