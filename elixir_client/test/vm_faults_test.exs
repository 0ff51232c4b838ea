defmodule FuzzDist.VmFaultsTest do
  # Not async: faults of this VM touch what others use.
  use ExUnit.Case, async: false

  defmodule Server do
    use GenServer

    def start_link(options), do: GenServer.start_link(__MODULE__, nil, options)

    @impl true
    def init(nil), do: {:ok, nil}

    @impl true
    def handle_call(:ping, _from, state), do: {:reply, :pong, state}
  end

  # What a connection of the core would do.
  setup do
    ledger = :fuzz_dist_vm.start(self())
    on_exit(fn -> :fuzz_dist_vm.lost(ledger) end)
    %{ledger: ledger}
  end

  defp ask(ledger, what) do
    :fuzz_dist_vm.request(ledger, 7, what)
    assert_receive {:fuzz_dist_agent, :answer, {:reply, 7, answer}}, 10_000
    answer
  end

  defp apply_fault(ledger, id, kind, parameters, until_ms \\ 60_000) do
    until_ns = :os.perf_counter(:nanosecond) + until_ms * 1_000_000
    fault = Map.merge(%{kind: kind, until_ns: until_ns, draw: 1}, Map.new(parameters))
    ask(ledger, {:apply, id, fault})
  end

  defp await(ledger, id, key) do
    case ask(ledger, {:look, id}) do
      {:ok, %{^key => nil}} ->
        Process.sleep(5)
        await(ledger, id, key)

      {:ok, %{^key => value}} ->
        value
    end
  end

  defp answers?(name) do
    GenServer.call(name, :ping, 200) == :pong
  catch
    :exit, {:timeout, _} -> false
  end

  test "a suspended process goes on when the fault is healed", %{ledger: ledger} do
    start_supervised!({Server, name: :steady})
    {:ok, decided} = apply_fault(ledger, 1, :suspend, process: {:registered, "steady"})
    assert decided.registered == :steady
    assert {text, %{message_queue_len: _}} = await(ledger, 1, :seen)
    assert text =~ "is suspended"
    refute answers?(:steady)
    assert {:ok, %{mono_ns: _}} = ask(ledger, {:heal, 1})
    assert answers?(:steady)
    assert await(ledger, 1, :heal_seen) =~ "again"
    # Healing twice, or what was never applied, does no harm.
    assert {:ok, _} = ask(ledger, {:heal, 1})
    assert {:ok, _} = ask(ledger, {:heal, 2})
    assert {:ok, %{left: []}} = ask(ledger, :heal_all)
  end

  test "the end of the connection heals what has to be undone", %{ledger: ledger} do
    start_supervised!({Server, name: :steady})
    {:ok, _} = apply_fault(ledger, 1, :"sys-suspend", process: {:registered, "steady"})
    await(ledger, 1, :seen)
    refute answers?(:steady)
    monitor = Process.monitor(ledger)
    :fuzz_dist_vm.lost(ledger)
    assert_receive {:DOWN, ^monitor, :process, ^ledger, _}, 5000
    assert answers?(:steady)
  end

  test "the end of the agent, too" do
    start_supervised!({Server, name: :steady})
    test = self()

    agent =
      spawn(fn ->
        ledger = :fuzz_dist_vm.start(self())
        send(test, {:applied, apply_fault(ledger, 1, :suspend, process: {:registered, "steady"})})
        Process.sleep(:infinity)
      end)

    assert_receive {:applied, {:ok, _}}, 10_000
    refute answers?(:steady)
    Process.exit(agent, :kill)
    assert eventually(fn -> answers?(:steady) end)
  end

  test "a fault whose time is long over heals itself", %{ledger: ledger} do
    start_supervised!({Server, name: :steady})
    {:ok, _} = apply_fault(ledger, 1, :"sys-suspend", [process: {:registered, "steady"}], 0)
    assert await(ledger, 1, :heal_seen) =~ "running again"
    assert answers?(:steady)
  end

  test "processes are found by what they are to the system", %{ledger: ledger} do
    start_supervised!({Registry, keys: :unique, name: Names})
    start_supervised!({Server, name: {:via, Registry, {Names, "shard-3"}}}, id: :shard)
    pool = start_supervised!({DynamicSupervisor, name: Pool})
    {:ok, pooled} = DynamicSupervisor.start_child(pool, {Server, []})
    [{shard, _}] = Registry.lookup(Names, "shard-3")
    text = fn pid -> pid |> :erlang.pid_to_list() |> List.to_string() end

    for {selector, pid} <- [
          {{:via, ["Registry", ~s({Names, "shard-3"})]}, shard},
          {{:via, ["Registry", ~s({'Elixir.Names', <<"shard-3">>})]}, shard},
          {{:position, ["Pool", "0"]}, pooled},
          {{:below, "Pool"}, pooled},
          {{:resolver, ["#{inspect(__MODULE__)}:itself", "Pool"]}, pool}
        ] do
      assert {:ok, found, _again} = :fuzz_dist_selector.resolve(selector, 5)
      assert {selector, text.(found)} == {selector, text.(pid)}
    end

    assert {:ok, %{pid: pid}} = apply_fault(ledger, 1, :"kill-process", process: {:below, "Pool"})

    assert pid == text.(pooled)
    await(ledger, 1, :seen)
    {:ok, _} = ask(ledger, {:heal, 1})
    assert await(ledger, 1, :heal_seen) =~ "stands in its place"
  end

  test "the end of a process is seen although the fault is healed at once", %{ledger: ledger} do
    for id <- 1..30 do
      pid = spawn(fn -> Process.sleep(:infinity) end)
      Process.register(pid, :victim)
      assert {:ok, _} = ask(ledger, {:apply, id, kill(:victim)})
      assert {:ok, _} = ask(ledger, {:heal, id})
      assert eventually(fn -> match?({:ok, %{seen: {_, _}}}, ask(ledger, {:look, id})) end)
    end
  end

  defp kill(name) do
    until_ns = :os.perf_counter(:nanosecond)
    %{kind: :"kill-process", until_ns: until_ns, draw: 1, process: {:registered, "#{name}"}}
  end

  def itself(name), do: name

  test "who is not found is told with what there is" do
    start_supervised!({Server, name: :steady})

    for {selector, part} <- [
          {{:registered, "stedy"}, "registered are: "},
          {{:registered, "stedy"}, "steady"},
          {{:via, ["Nobody", "x"]}, "there is no module Nobody with whereis_name/1"},
          {{:global, "leader"}, "global knows no process as leader"},
          {{:child, ["steady", "x"]}, "steady on nonode is no supervisor"},
          {{:child, ["kernel_sup", "x"]}, "its children are: code_server"},
          {{:position, ["kernel_sup", "99"]}, "has no child number 99"},
          {{:below, "nobody"}, "no application of this name runs"},
          {{:resolver, ["ra-leader", "x"]}, "ra:members/2 does not exist"},
          {{:resolver, ["global-lock", "x"]}, "nobody holds the global lock x"},
          {{:resolver, ["lists:reverse", "[]"]}, "which is no process"}
        ] do
      assert {:error, message} = :fuzz_dist_selector.resolve(selector, 0)
      assert message =~ part
    end
  end

  test "what does not work leaves nothing, and says why", %{ledger: ledger} do
    pid = start_supervised!({Task, fn -> Process.sleep(:infinity) end})
    Process.register(pid, :busy)
    {:error, message} = apply_fault(ledger, 1, :"sys-suspend", process: {:registered, "busy"})
    assert message =~ "did not answer sys:suspend"
    assert {:ok, %{state: :unknown}} = ask(ledger, {:look, 1})

    # Another process may ignore an exit with reason normal, and then there is no effect.
    {:ok, _} =
      apply_fault(ledger, 2, :"exit-process", process: {:registered, "busy"}, reason: :normal)

    {:ok, %{seen: nil}} = ask(ledger, {:look, 2})
    assert eventually(fn -> elem(ask(ledger, {:look, 2}), 1).why_not =~ "does not trap exits" end)
    assert Process.alive?(pid)

    {:error, nobody} = apply_fault(ledger, 3, :disconnect, reconnects: true)
    assert nobody =~ "connected to nobody"
    {:error, module} = apply_fault(ledger, 4, :"load-module", module: "nowhere", beam: "")
    assert module =~ "there is no module nowhere"
    {:error, beam} = apply_fault(ledger, 5, :"load-module", module: "calendar", beam: "no beam")
    assert beam =~ "no compiled module"
  end

  test "one fault at a time where two would undo each other", %{ledger: ledger} do
    {:ok, _} = apply_fault(ledger, 1, :"dirty-block", [])
    {:error, message} = apply_fault(ledger, 2, :"dirty-block", [])
    assert message =~ "fault 1 does the same here"
    assert {_, %{dirty_cpu: cpu_ms, dirty_io: io_ms}} = await(ledger, 1, :seen)
    assert cpu_ms >= 50 and io_ms >= 50
    {:ok, _} = ask(ledger, {:heal, 1})
    assert await(ledger, 1, :heal_seen) =~ "a dirty job runs"
  end

  defp trap(name) do
    test = self()

    pid =
      spawn(fn ->
        Process.flag(:trap_exit, true)
        Process.register(self(), name)
        send(test, :ready)
        forward(test)
      end)

    assert_receive :ready, 10_000
    on_exit(fn -> Process.exit(pid, :kill) end)
    pid
  end

  defp forward(test) do
    receive do
      message -> send(test, {self(), message})
    end

    forward(test)
  end

  defp receive_pattern, do: :erlang.trace_info(:receive, :match_spec)

  test "exits of several processes that trap them overlap, and each is seen", %{ledger: ledger} do
    first = trap(:first_trapping)
    second = trap(:second_trapping)
    exit_of = &[process: {:registered, &1}, reason: :shutdown]
    {:ok, _} = apply_fault(ledger, 1, :"exit-process", exit_of.("first_trapping"))
    {:ok, _} = apply_fault(ledger, 2, :"exit-process", exit_of.("second_trapping"))

    for {id, pid} <- [{2, second}, {1, first}] do
      assert_receive {^pid, {:EXIT, _, :shutdown}}, 10_000
      assert {text, %{trapped: true}} = await(ledger, id, :seen)
      assert text =~ "got the exit signal as a message"
    end

    {:ok, _} = ask(ledger, {:heal, 1})
    assert eventually(fn -> match?({:match_spec, [_]}, receive_pattern()) end)
    {:ok, _} = ask(ledger, {:heal, 2})
    assert eventually(fn -> receive_pattern() == {:match_spec, true} end)
  end

  test "a pattern of somebody else's tracer is left alone", %{ledger: ledger} do
    pid = trap(:traced_trapping)
    theirs = [{[:_, :_, :theirs], [], []}]
    :erlang.trace_pattern(:receive, theirs, [])
    on_exit(fn -> :erlang.trace_pattern(:receive, true, []) end)

    {:ok, _} =
      apply_fault(ledger, 1, :"exit-process",
        process: {:registered, "traced_trapping"},
        reason: :shutdown
      )

    assert_receive {^pid, {:EXIT, _, :shutdown}}, 10_000
    assert receive_pattern() == {:match_spec, theirs}
    {:ok, _} = ask(ledger, {:heal, 1})
    assert receive_pattern() == {:match_spec, theirs}
  end

  defp eventually(holds, left \\ 1000) do
    cond do
      holds.() -> true
      left == 0 -> false
      true -> Process.sleep(5) && eventually(holds, left - 1)
    end
  end
end
