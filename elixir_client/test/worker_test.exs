defmodule FuzzDist.WorkerTest do
  use ExUnit.Case, async: true

  alias FuzzDist.{StandIn, Worker}
  alias FuzzDist.Clients.{CannotOpen, Echo, Incomplete}

  setup do
    server = StandIn.start()
    on_exit(fn -> StandIn.stop(server) end)
    {:ok, server: server}
  end

  defp worker(server, module \\ Echo, options \\ %{}) do
    {:ok, _} = Worker.start(StandIn.config(server))
    {connection, %{role: :worker}} = StandIn.accept(server)
    {connection, initialise(connection, module, options)}
  end

  defp initialise(connection, module, options \\ %{}) do
    nodes = for i <- 1..3, do: {"n#{i}", :"n#{i}@127.0.0.1"}

    map = %{
      module: if(is_atom(module), do: inspect(module), else: module),
      options: options,
      nodes: nodes,
      placement: :node,
      seed: 1,
      op_timeout_ms: 5000,
      workload: "register",
      test: "t"
    }

    {:reply, 1, result} = StandIn.ask(connection, {:init, 1, map})
    result
  end

  # One operation of process 0, which is opened for it.
  defp perform(connection, f, value, process \\ 0) do
    StandIn.send_messages(connection, [{:ops, [{5, process, f, value}]}])
    {:done, [completion], mono_ns, wall_ns} = StandIn.await(connection)
    assert is_integer(mono_ns) and abs(wall_ns - :os.system_time(:nanosecond)) < 60_000_000_000
    Tuple.delete_at(completion, 0)
  end

  defp completions(_connection, 0), do: []

  defp completions(connection, count) do
    {:done, completions, _, _} = StandIn.await(connection)
    Enum.sort(completions ++ completions(connection, count - length(completions)))
  end

  defp opened(server, module \\ Echo, options \\ %{}) do
    {connection, {:ok, :ok}} = worker(server, module, options)
    StandIn.send_messages(connection, [{:open, 0, "n2"}])
    connection
  end

  describe "init" do
    test "refuses a module that does not exist, with what was meant", %{server: server} do
      {_, {:error, text}} = worker(server, "FuzzDist.Worke")
      assert text =~ "there is no module FuzzDist.Worke"
      assert text =~ "did you mean `FuzzDist.Worker`?"
    end

    test "refuses a module without the callbacks, and names them", %{server: server} do
      {_, {:error, text}} = worker(server, Incomplete)
      assert text =~ "has invoke/2, but the callback of FuzzDist.Client is invoke/3"
      assert text =~ "lacks the callback close/2 of FuzzDist.Client (did you mean `clse`?)"
      refute text =~ "open"
    end

    test "refuses the absence of a module", %{server: server} do
      {_, {:error, text}} = worker(server, "")
      assert text =~ "client.module"
    end

    test "takes the names of Elixir with and without prefix", %{server: server} do
      {connection, {:ok, :ok}} = worker(server, "Elixir.FuzzDist.Clients.Echo")
      assert {:error, "there is no module :lists_ in" <> _} = initialise(connection, "lists_")
    end
  end

  describe "results past the bounds" do
    test "make that operation alone indeterminate", %{server: server} do
      connection = opened(server)
      assert perform(connection, :deep, 20_000) == {:info, 20_000, {:too_deep, 100}}
      assert {:info, n, {:too_large, bytes}} = perform(connection, :large, 70_000_000)
      assert n == 70_000_000 and bytes >= n
      # The connection stands, and so does the process.
      assert {:ok, [[[0]]]} = perform(connection, :deep, 3)
      assert {:fail, 500, _} = perform(connection, :deep_reason, 500)
      assert perform(connection, :write, :improper) == {:ok, :improper}
    end

    test "go out in several frames when they are much together", %{server: server} do
      {:ok, _} = server |> StandIn.config() |> Map.put(:frame_bytes_max, 1_000) |> Worker.start()
      {connection, _} = StandIn.accept(server)
      {:ok, :ok} = initialise(connection, Echo)
      StandIn.send_messages(connection, for(p <- 0..9, do: {:open, p, "n1"}))
      StandIn.send_messages(connection, [{:ops, for(p <- 0..9, do: {p, p, :large, 900})}])

      done =
        for _ <- 0..9 do
          assert {:done, [{id, :ok, value}], _, _} = StandIn.await(connection)
          {id, byte_size(value)}
        end

      assert Enum.sort(done) == for(p <- 0..9, do: {p, 900})
    end
  end

  describe "operations" do
    test "complete as the client says", %{server: server} do
      connection = opened(server)
      assert perform(connection, :write, {1, 2}) == {:ok, {1, 2}}
      assert perform(connection, :fail, :taken) == {:fail, :taken, :taken}
      assert perform(connection, :info, :lost) == {:info, :lost, :lost}
      assert perform(connection, :state, nil) == {:ok, {:"n2@127.0.0.1", 0}}
    end

    test "keep the state that the client returns", %{server: server} do
      connection = opened(server)

      assert for(_ <- 1..3, do: perform(connection, :count, nil)) == [
               {:ok, 0},
               {:ok, 1},
               {:ok, 2}
             ]

      perform(connection, :raise, "and it survives an exception")
      assert perform(connection, :count, nil) == {:ok, 3}
    end

    test "are classified when they raise, throw, or return nonsense", %{server: server} do
      connection = opened(server)
      assert {:info, "x", {:exception, "ArgumentError", "x"}} = perform(connection, :raise, "x")
      assert {:info, :x, {:thrown, :x}} = perform(connection, :throw, :x)
      assert {:info, :x, {:bad_return, :x}} = perform(connection, :bad, :x)
      assert {:fail, :raise, {:exception, "RuntimeError", _}} = perform(connection, :read, :raise)
    end

    test "of a process that crashes are indeterminate, and the next opens anew", %{server: server} do
      connection = opened(server)
      assert perform(connection, :count, nil) == {:ok, 0}
      assert perform(connection, :count, nil) == {:ok, 1}
      assert {:info, nil, {:crashed, :boom}} = perform(connection, :linked, nil)
      assert perform(connection, :count, nil) == {:ok, 0}
    end

    test "go on while the client's own read_only? blocks", %{server: server} do
      connection = opened(server, "FuzzDist.Clients.Blocking")
      ops = [{:ops, [{1, 0, :crash, nil}]}, {:ops, [{2, 1, :write, 5}]}]
      StandIn.send_messages(connection, [{:open, 1, "n1"} | ops])
      # Asked about the crashed operation, read_only? never answers.
      assert completions(connection, 2) == [{2, :ok, 5}, {1, :info, nil, {:crashed, :boom}}]
    end

    test "of processes that are not open certainly did not happen", %{server: server} do
      connection = opened(server)
      assert perform(connection, :write, 1, 99) == {:fail, 1, {:no_client, :not_open}}
    end

    test "before init certainly did not happen", %{server: server} do
      {:ok, _} = Worker.start(StandIn.config(server))
      {connection, _} = StandIn.accept(server)
      StandIn.send_messages(connection, [{:open, 0, "n1"}])
      assert perform(connection, :write, 1) == {:fail, 1, {:no_client, :not_initialised}}
    end

    test "of many processes complete each exactly once", %{server: server} do
      {connection, {:ok, :ok}} = worker(server)
      opens = for p <- 0..49, do: {:open, p, "n1"}
      StandIn.send_messages(connection, opens)

      for round <- 0..19 do
        ops = for p <- 0..49, do: {round * 50 + p, p, :write, {p, round}}
        StandIn.send_messages(connection, [{:ops, ops}])

        assert collect(connection, 50, []) ==
                 for(p <- 0..49, do: {round * 50 + p, :ok, {p, round}})
      end
    end

    defp collect(_connection, 0, all), do: Enum.sort(all)

    defp collect(connection, left, all) when left > 0 do
      {:done, done, _mono_ns, _wall_ns} = StandIn.await(connection)
      collect(connection, left - length(done), done ++ all)
    end
  end

  describe "open" do
    test "that fails makes operations fail, and is tried again", %{server: server} do
      :persistent_term.put({CannotOpen, :open}, false)
      connection = opened(server, CannotOpen)
      assert perform(connection, :write, 1) == {:fail, 1, {:no_client, :econnrefused}}
      assert perform(connection, :write, 2) == {:fail, 2, {:no_client, :econnrefused}}
      :persistent_term.put({CannotOpen, :open}, true)
      assert perform(connection, :write, 3) == {:ok, 3}
    end
  end

  describe "kill" do
    test "ends a process that hangs, and says nothing for it", %{server: server} do
      connection = opened(server)
      {:ok, text} = perform(connection, :tell, pid_text())
      assert text == pid_text()
      assert_receive {:told, "n2", logical}
      monitor = Process.monitor(logical)
      StandIn.send_messages(connection, [{:ops, [{6, 0, :hang, nil}]}, {:kill, 0}])
      assert_receive {:DOWN, ^monitor, _, _, :killed}

      # Had it completed, that would come before this answer.
      assert {:echo, :after} = StandIn.ask(connection, {:echo, :after})
      StandIn.send_messages(connection, [{:open, 2, "n3"}])
      assert perform(connection, :write, 1, 2) == {:ok, 1}
    end
  end

  describe "close" do
    test "calls the client's, then the process ends", %{server: server} do
      name = :"closed_#{System.unique_integer([:positive])}"
      Process.register(self(), name)
      connection = opened(server, Echo, %{closed: Atom.to_string(name)})
      perform(connection, :tell, pid_text())
      assert_receive {:told, _, logical}
      monitor = Process.monitor(logical)
      StandIn.send_messages(connection, [{:close, 0}])
      assert_receive {:closed, {:"n2@127.0.0.1", 0, 0}}
      assert_receive {:DOWN, ^monitor, _, _, :normal}
    end
  end

  test "processes die with the connection, and it is dialled again", %{server: server} do
    connection = opened(server)
    perform(connection, :tell, pid_text())
    assert_receive {:told, _, logical}
    monitor = Process.monitor(logical)
    StandIn.close(connection)
    assert_receive {:DOWN, ^monitor, _, _, :killed}

    {again, %{role: :worker}} = StandIn.accept(server)
    assert {:ok, :ok} = initialise(again, Echo)
    StandIn.send_messages(again, [{:open, 0, "n1"}])
    assert perform(again, :write, 1) == {:ok, 1}
  end

  describe "callbacks" do
    setup %{server: server} do
      {connection, {:ok, :ok}} = worker(server)

      {:ok,
       callback: fn name, node ->
         elem(StandIn.ask(connection, {:callback, 3, name, node, 5000}), 2)
       end}
    end

    test "give the client's answer in the protocol's form", %{callback: callback} do
      assert callback.(:setup, "n1") == {:ok, :ok}
      assert callback.(:setup, "n9") == {:error, "no n9"}
      assert callback.(:ready, "n1") == {:ok, true}
      assert callback.(:primary, "n2") == {:ok, ["n1"]}
    end

    test "that do not exist are undefined", %{callback: callback} do
      assert callback.(:teardown, "n1") == {:ok, :undefined}
    end

    test "an exit of ready means not yet, an exception is an error", %{callback: callback} do
      assert callback.(:ready, "n2") == {:ok, false}
      assert {:error, text} = callback.(:ready, "n3")
      assert text =~ "broken"
    end

    test "unknown ones are refused", %{callback: callback} do
      assert {:error, text} = callback.(:redy, "n1")
      assert text =~ "did you mean `ready`?"
    end
  end

  test "a callback that takes too long is given up", %{server: server} do
    defmodule Slow do
      def open(_, context), do: {:ok, context}
      def invoke(_, _, _), do: {:ok, 1}
      def close(_, _), do: :ok
      def setup(_, _), do: Process.sleep(:infinity)
    end

    {connection, {:ok, :ok}} = worker(server, Slow)
    assert {:reply, 3, {:error, text}} = StandIn.ask(connection, {:callback, 3, :setup, "n1", 50})
    assert text =~ "did not return within 50 ms"
  end

  defp pid_text, do: self() |> :erlang.pid_to_list() |> List.to_string()
end
