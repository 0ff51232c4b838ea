defmodule FuzzDist.OutcomeTest do
  use ExUnit.Case, async: true
  doctest FuzzDist.Outcome

  alias FuzzDist.Outcome

  defmodule Quits do
    use GenServer
    def init(reason), do: {:ok, reason}
    def handle_call(:quit, _from, reason), do: {:stop, reason, reason}
    def handle_call(:hang, _from, reason), do: {:noreply, reason}
  end

  defp caught(fun) do
    fun.()
    flunk("nothing was raised")
  catch
    :error, %ExUnit.AssertionError{} = error -> reraise error, __STACKTRACE__
    kind, reason -> {kind, reason}
  end

  defp with_place(fun) do
    fun.()
  catch
    kind, reason -> {kind, reason} |> Outcome.classify(false, __STACKTRACE__) |> elem(1)
  end

  test "an error keeps its function and its place" do
    module = String.to_atom("Elixir.Kv.Storre")

    for fun <- [fn -> module.get(1) end, fn -> apply(module, :get, [1]) end] do
      assert {:exception, "UndefinedFunctionError", "function Kv.Storre.get/1 is undefined" <> _,
              at} = with_place(fun)

      assert at =~ ~r"test/outcome_test.exs:\d+: "
    end

    for {fun, name} <- [
          {fn -> raise "boom" end, "RuntimeError"},
          {fn -> :ets.lookup(:no_table, 1) end, "ArgumentError"},
          {fn -> {:ok, _} = Process.get(:nothing) end, "MatchError"},
          {fn -> String.to_integer(Process.get(:nothing, "x")) end, "ArgumentError"}
        ] do
      assert {:exception, ^name, _, at} = with_place(fun)
      assert at =~ ~r"^test/outcome_test.exs:\d+: "
    end

    # A module that was loaded from a file, as those of a user's project are.
    folder =
      Path.join(System.tmp_dir!(), "fuzz_dist-outcome-#{System.unique_integer([:positive])}")

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    code = "defmodule FromAFile do\n  def boom(x), do: raise(x)\nend"
    [{module, binary}] = Code.compile_string(code, "lib/from_a_file.ex")
    path = folder |> Path.join("#{module}.beam") |> String.to_charlist()
    {:module, ^module} = :code.load_binary(module, path, binary)

    assert {:exception, "RuntimeError", "boom", "lib/from_a_file.ex:2: FromAFile.boom/1"} =
             with_place(fn -> apply(module, :boom, ["boom"]) end)

    # An exit has no place: it says which call failed.
    assert {:noproc, "GenServer.call :nobody"} = with_place(fn -> GenServer.call(:nobody, 1) end)
  end

  defp type(error), do: error |> Outcome.classify(false) |> elem(0)

  # Every row of the table in the moduledoc, as {what, error, type of a write}.
  rows = [
    {"noproc of a local name", {:exit, {:noproc, {GenServer, :call, [:nobody, 1, 5000]}}}, :fail},
    {"noproc of a global name", {:exit, {:noproc, {GenServer, :call, [{:global, :x}, 1, 5000]}}},
     :fail},
    {"noproc of a via name",
     {:exit, {:noproc, {:gen_statem, :call, [{:via, Registry, {R, 1}}, 1]}}}, :fail},
    {"noproc of a name on another node",
     {:exit, {:noproc, {GenServer, :call, [{:x, :n@h}, 1, 5000]}}}, :info},
    {"noproc of a name on this node", {:exit, {:noproc, {:gen_server, :call, [{:x, node()}, 1]}}},
     :fail},
    {"noproc of a call of something else", {:exit, {:noproc, {MyQueue, :call, [:x]}}}, :info},
    {"noproc within the called server",
     {:exit, {{:noproc, {GenServer, :call, [:b, 1]}}, {GenServer, :call, [:a, 1]}}}, :info},
    {"bare noproc", :noproc, :info},
    {"calling itself", {:exit, {:calling_self, {GenServer, :call, [:x, 1, 5000]}}}, :fail},
    {"timeout", {:exit, {:timeout, {GenServer, :call, [:x, 1, 5000]}}}, :info},
    {"bare timeout", :timeout, :info},
    {"nodedown", {:exit, {{:nodedown, :n@h}, {GenServer, :call, [{:x, :n@h}, 1]}}}, :info},
    {"bare nodedown", {:nodedown, :n@h}, :info},
    {"noconnection", {:exit, {:noconnection, {GenServer, :call, [:x, 1]}}}, :info},
    {"bare noconnection", :noconnection, :info},
    {"shutdown", {:exit, {:shutdown, {GenServer, :call, [:x, 1]}}}, :info},
    {"shutdown with reason", {:exit, {{:shutdown, :x}, {GenServer, :call, [:x, 1]}}}, :info},
    {"normal", {:exit, {:normal, {GenServer, :call, [:x, 1]}}}, :info},
    {"killed", {:exit, {:killed, {GenServer, :call, [:x, 1]}}}, :info},
    {"erpc noconnection", {:error, %ErlangError{original: {:erpc, :noconnection}}}, :info},
    {"erpc timeout", {:error, {:erpc, :timeout}}, :info},
    {"erpc badarg", {:error, %ErlangError{original: {:erpc, :badarg}}}, :fail},
    {"erpc notsup", {:error, {:erpc, :notsup}}, :fail},
    {"erpc system_limit", {:error, {:erpc, :system_limit}}, :fail},
    {"erpc exception", {:error, {:exception, :undef, [{:m, :f, [], []}]}}, :info},
    {"erpc exit", {:exit, {:exception, :boom}}, :info},
    {"badrpc", {:badrpc, :nodedown}, :info},
    {"mnesia no_exists", {:aborted, {:no_exists, :t}}, :fail},
    {"mnesia no_exists by exit", {:exit, {:aborted, {:no_exists, [:t, 1]}}}, :fail},
    {"mnesia bad_type", {:aborted, {:bad_type, :t, :r}}, :fail},
    {"mnesia node_not_running", {:aborted, {:node_not_running, :n@h}}, :info},
    {"mnesia, an atom", {:aborted, :no_exists}, :info},
    {"econnrefused", :econnrefused, :fail},
    {"econnrefused in error", {:error, :econnrefused}, :fail},
    {"closed", {:error, :closed}, :info},
    {"econnreset", :econnreset, :info},
    {"an exception", {:error, %RuntimeError{message: "x"}}, :info},
    {"an undefined function",
     {:error, %UndefinedFunctionError{module: M, function: :f, arity: 0}}, :info},
    {"a throw", {:throw, :econnrefused}, :info},
    {"anything else", {:error, {:whatever, 1}}, :info}
  ]

  for {what, error, type} <- rows do
    test "#{what}: a write is #{type}, a read fails" do
      error = unquote(Macro.escape(error))
      assert {unquote(type), reason} = Outcome.classify(error, false)
      assert {:fail, ^reason} = Outcome.classify(error, true)
    end
  end

  describe "what the BEAM really raises" do
    test "for a name that is not registered" do
      assert type(caught(fn -> GenServer.call(:not_registered_at_all, :x) end)) == :fail
      assert type(caught(fn -> :gen_server.call(:not_registered_at_all, :x) end)) == :fail
      assert type(caught(fn -> :gen_statem.call(:not_registered_at_all, :x) end)) == :fail
      assert type(caught(fn -> Agent.get(:not_registered_at_all, & &1) end)) == :fail
    end

    test "for a pid that is dead" do
      {pid, monitor} = spawn_monitor(fn -> :ok end)
      assert_receive {:DOWN, ^monitor, _, _, _}
      assert type(caught(fn -> GenServer.call(pid, :x) end)) == :fail
    end

    test "for a server that ends or is silent while it handles the request" do
      for reason <- [:shutdown, {:shutdown, :x}, :normal] do
        {:ok, pid} = GenServer.start(Quits, reason)
        assert type(caught(fn -> GenServer.call(pid, :quit) end)) == :info
      end

      {:ok, pid} = GenServer.start(Quits, nil)
      assert type(caught(fn -> GenServer.call(pid, :hang, 10) end)) == :info
      Process.exit(pid, :kill)
    end

    test "for erpc" do
      assert type(caught(fn -> :erpc.call(:nobody@nowhere, :erlang, :node, []) end)) == :info
      assert type(caught(fn -> :erpc.call(node(), :timer, :sleep, [:infinity], 10) end)) == :info
      assert type(caught(fn -> :erpc.call(node(), :no_module_of_this_name, :f, []) end)) == :info
      assert type(caught(fn -> :erpc.call(node(), :erlang, :node, [], :soon) end)) == :fail
    end

    test "for a connection that is refused" do
      {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, port} = :inet.port(listener)
      :gen_tcp.close(listener)
      assert {:error, _} = error = :gen_tcp.connect({127, 0, 0, 1}, port, [])
      assert type(error) == :fail
    end
  end

  describe "tidy" do
    test "makes text of what only this VM understands" do
      assert Outcome.tidy({:oops, self()}) == {:oops, inspect(self())}
      assert is_binary(Outcome.tidy(make_ref()))
    end

    test "keeps plain terms" do
      for term <- [:a, 1, 1.5, "text", {:a, [1, "b"]}, [], nil],
          do: assert(Outcome.tidy(term) == term)
    end

    test "bounds depth and length" do
      deep = Enum.reduce(1..1000, :x, fn _, inner -> {inner} end)
      long = Enum.to_list(1..10_000)
      wide = String.duplicate("é", 10_000)

      for term <- [deep, long, wide],
          do: assert(byte_size(:erlang.term_to_binary(Outcome.tidy(term))) < 3000)
    end

    test "survives an exception whose message raises" do
      assert {:exception, _, text} =
               Outcome.tidy(%KeyError{key: 1, term: :erlang.make_ref(), message: nil})

      assert is_binary(text)
    end
  end
end
