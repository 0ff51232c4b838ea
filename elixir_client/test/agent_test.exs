defmodule FuzzDist.AgentTest do
  # The node agent registers a name: one at a time.
  use ExUnit.Case

  alias FuzzDist.StandIn

  setup do
    server = StandIn.start()

    on_exit(fn ->
      :fuzz_dist_agent.stop()
      StandIn.stop(server)
    end)

    {:ok, server: server}
  end

  defp connect(server, options \\ []) do
    {:ok, _} = :fuzz_dist_agent.start(StandIn.config(server))
    StandIn.accept(server, options)
  end

  test "says hello with what the protocol asks for", %{server: server} do
    before = :os.perf_counter(:nanosecond)
    {_, hello} = connect(server)
    node = node()
    otp = List.to_string(:erlang.system_info(:otp_release))
    os_pid = String.to_integer(System.pid())

    assert %{protocol: 1, role: :node, name: "n1", node: ^node, otp: ^otp, os_pid: ^os_pid} =
             hello

    assert hello.mono_ns >= before
    assert_in_delta hello.wall_ns, System.os_time(:nanosecond), 600_000_000_000
  end

  test "bytes that come with the answer to the upgrade are not lost", %{server: server} do
    {connection, _} = connect(server, glue: true, messages: [{:ping, 7}])
    assert {:pong, 7, mono, wall} = StandIn.await(connection)
    assert is_integer(mono) and is_integer(wall)
  end

  test "answers pings, nodes and boundaries", %{server: server} do
    {connection, _} = connect(server)
    assert {:pong, 1, _, _} = StandIn.ask(connection, {:ping, 1})
    assert {:nodes, 2, visible, hidden, _, _} = StandIn.ask(connection, {:nodes, 2})
    assert visible == Node.list(:visible) and hidden == Node.list(:hidden)
    assert {:reply, 3, {:ok, boundaries}} = StandIn.ask(connection, {:boundaries, 3})

    assert %{
             net_tickintensity: 4,
             net_setuptime_ms: 7000,
             prevent_overlapping_partitions: true
           } = boundaries

    assert boundaries.net_ticktime_s in 1..3600
    assert boundaries.dist_buf_busy_limit_bytes == :erlang.system_info(:dist_buf_busy_limit)
    assert boundaries.otp_release == List.to_string(:erlang.system_info(:otp_release))
  end

  test "several messages of one frame are answered", %{server: server} do
    {connection, _} = connect(server)
    StandIn.send_messages(connection, for(id <- 1..50, do: {:ping, id}))
    assert for(_ <- 1..50, do: elem(StandIn.await(connection), 1)) == Enum.to_list(1..50)
  end

  describe "call" do
    test "gives the value, or how it failed", %{server: server} do
      {connection, _} = connect(server)
      call = fn id, m, f, a, ms -> StandIn.ask(connection, {:call, id, m, f, a, ms}) end

      assert {:reply, 1, {:ok, 3}} = call.(1, :erlang, :+, [1, 2], 5000)
      assert {:reply, 2, {:error, {:error, :badarith}}} = call.(2, :erlang, :/, [1, 0], 5000)
      assert {:reply, 3, {:error, {:exit, :no}}} = call.(3, :erlang, :exit, [:no], 5000)
      assert {:reply, 4, {:error, :timeout}} = call.(4, :timer, :sleep, [:infinity], 50)

      assert {:reply, 5, {:error, {:error, :undef}}} =
               call.(5, :no_such_module_at_all, :f, [], 5000)
    end

    test "what it linked to itself lives on", %{server: server} do
      {connection, _} = connect(server)
      arguments = [fn -> 1 end]

      assert {:reply, 1, {:ok, {:ok, pid}}} =
               StandIn.ask(connection, {:call, 1, Agent, :start_link, arguments, 5000})

      assert Agent.get(pid, & &1) == 1
      Agent.stop(pid)
    end

    test "a slow one holds up nothing", %{server: server} do
      {connection, _} = connect(server)
      StandIn.send_messages(connection, [{:call, 1, :timer, :sleep, [:infinity], 60_000}])
      assert {:pong, 2, _, _} = StandIn.ask(connection, {:ping, 2})
    end
  end

  test "an unknown request is refused by its id", %{server: server} do
    {connection, _} = connect(server)

    assert {:reply, 9, {:error, {:unknown_request, :frobnicate}}} =
             StandIn.ask(connection, {:frobnicate, 9})
  end

  describe "watch" do
    test "streams what system_monitor tells", %{server: server} do
      {connection, _} = connect(server)

      options = %{
        long_gc_ms: 0,
        long_schedule_ms: 0,
        large_heap_words: 20_000,
        busy_dist_port: true
      }

      assert {:reply, 1, {:ok, :ok}} = StandIn.ask(connection, {:watch, 1, options})

      pid =
        spawn(fn ->
          Process.register(self(), :fuzz_dist_big_heap)
          list = Enum.to_list(1..200_000)
          :erlang.garbage_collect()
          receive do: (:stop -> length(list))
        end)

      assert {:event, :large_heap, map, mono, wall} = await_event(connection, inspect_pid(pid))
      assert map.heap_words >= 20_000
      assert is_integer(mono) and is_integer(wall)
      send(pid, :stop)
    end

    # Other processes of this VM may have large heaps as well.
    defp await_event(connection, pid) do
      case StandIn.await(connection) do
        {:event, _, %{pid: ^pid}, _, _} = event -> event
        {:event, _, _, _, _} -> await_event(connection, pid)
      end
    end

    defp inspect_pid(pid), do: pid |> :erlang.pid_to_list() |> List.to_string()
  end

  describe "the websocket" do
    test "fragments are put together, and control frames may come between them", %{server: server} do
      {connection, _} = connect(server)
      <<a::binary-size(3), b::binary-size(2), c::binary>> = :erlang.term_to_binary([{:ping, 1}])

      StandIn.send_raw(connection, [
        StandIn.frame(2, 0, a),
        StandIn.frame(9, 1, "are you there"),
        StandIn.frame(0, 0, b),
        StandIn.frame(0, 1, c)
      ])

      assert {:control, 10, "are you there"} = StandIn.await(connection)
      assert {:pong, 1, _, _} = StandIn.await(connection)
    end

    test "a frame may come byte by byte", %{server: server} do
      {connection, _} = connect(server)
      for <<byte <- StandIn.frame([{:ping, 1}])>>, do: StandIn.send_raw(connection, <<byte>>)
      assert {:pong, 1, _, _} = StandIn.await(connection)
    end

    test "large frames pass both ways", %{server: server} do
      {connection, _} = connect(server)
      text = String.duplicate("x", 3_000_000)
      call = {:call, 1, String, :upcase, [text], 60_000}
      assert {:reply, 1, {:ok, upcase}} = StandIn.ask(connection, call)
      assert upcase == String.duplicate("X", 3_000_000)
    end

    for {what, bytes} <- [
          {"a masked frame", <<1::1, 0::3, 2::4, 1::1, 1::7, 0::32, 0>>},
          {"reserved bits", <<1::1, 4::3, 2::4, 0::1, 1::7, 0>>},
          {"a text frame", <<1::1, 0::3, 1::4, 0::1, 1::7, "x">>},
          {"a length past the limit", <<1::1, 0::3, 2::4, 0::1, 127::7, 1_000_000_000_000::64>>},
          {"a continuation of nothing", <<1::1, 0::3, 0::4, 0::1, 1::7, "x">>},
          {"what is no term", <<1::1, 0::3, 2::4, 0::1, 2::7, 131, 255>>},
          {"a compressed term", <<1::1, 0::3, 2::4, 0::1, 8::7, 131, 80, 0::48>>},
          {"a term that is no list", <<1::1, 0::3, 2::4, 0::1, 3::7, 131, 97, 1>>}
        ] do
      test "#{what} ends the connection, and it is dialled again", %{server: server} do
        {connection, _} = connect(server)
        StandIn.send_raw(connection, unquote(bytes))
        assert {:control, 8, <<1002::16>>} = StandIn.await(connection)
        {again, _} = StandIn.accept(server)
        assert {:pong, 1, _, _} = StandIn.ask(again, {:ping, 1})
      end
    end
  end

  test "a wrong token is refused, and does not end the VM without a life line", %{server: server} do
    {:ok, pid} = :fuzz_dist_agent.start(%{StandIn.config(server) | token: "wrong"})
    assert {_, :unauthorized} = StandIn.accept(server)
    assert Process.alive?(pid)
  end

  test "a core of another run is not believed", %{server: server} do
    {connection, _} = connect(server, run: "another")
    assert :closed = StandIn.await(connection)
    {again, _} = StandIn.accept(server)
    assert {:pong, 1, _, _} = StandIn.ask(again, {:ping, 1})
  end

  test "an answer that is no websocket's is refused", %{server: server} do
    {connection, _} = catch_error_of_accept(server)
    assert connection == :refused
    {again, _} = StandIn.accept(server)
    assert {:pong, 1, _, _} = StandIn.ask(again, {:ping, 1})
  end

  # The stand-in's process ends as the agent closes before its hello.
  defp catch_error_of_accept(server) do
    {:ok, _} = :fuzz_dist_agent.start(StandIn.config(server))
    {StandIn.accept(server, accept: "bm90IHRoZSBhbnN3ZXI="), nil}
  rescue
    RuntimeError -> {:refused, nil}
  end

  test "its process is started again when something kills it", %{server: server} do
    {connection, _} = connect(server)
    guard = Process.whereis(:fuzz_dist_agent)
    {:monitors, [process: pid]} = Process.info(guard, :monitors)
    Process.exit(pid, :kill)
    assert :closed = StandIn.await(connection)
    {again, _} = StandIn.accept(server)
    assert {:pong, 1, _, _} = StandIn.ask(again, {:ping, 1})
  end

  test "with a life line the VM halts when the core is gone", %{server: server} do
    expression = ":fuzz_dist_boot.start(); Process.sleep(:infinity)"
    {port, _os_pid} = boot(server, expression, [{~c"FUZZ_DIST_WORKER", ~c"1"}])
    agents = for _ <- 1..2, do: StandIn.accept(server)
    assert agents |> Enum.map(fn {_, hello} -> hello.role end) |> Enum.sort() == [:node, :worker]
    # Nobody accepts them again.
    StandIn.stop(server)
    for {connection, _} <- agents, do: StandIn.close(connection)
    assert_receive {^port, {:exit_status, 0}}, 30_000
  end

  test "an application that does not start is told, and ends the VM", %{server: server} do
    {port, _} =
      boot(server, ":fuzz_dist_boot.start()", [{~c"FUZZ_DIST_APP", ~c"no_such_application"}])

    assert_receive {^port, {:exit_status, 1}}, 30_000
    assert output(port) =~ "no_such_application.app is not in the code path"
  end

  defp output(port) do
    receive do
      {^port, {:data, text}} -> text <> output(port)
    after
      0 -> ""
    end
  end

  defp boot(server, expression, env) do
    config = StandIn.config(server)
    ebin = Path.dirname(to_string(:code.which(:fuzz_dist_agent)))

    env =
      for(
        {key, value} <- config,
        do: {~c"FUZZ_DIST_#{key |> to_string() |> String.upcase()}", ~c"#{value}"}
      ) ++ env

    port =
      Port.open({:spawn_executable, System.find_executable("elixir")}, [
        :exit_status,
        :binary,
        :stderr_to_stdout,
        args: ["-pa", ebin, "-e", expression],
        env: env
      ])

    {:os_pid, os_pid} = Port.info(port, :os_pid)
    on_exit(fn -> System.cmd("kill", ["-9", to_string(os_pid)], stderr_to_stdout: true) end)
    {port, os_pid}
  end
end
