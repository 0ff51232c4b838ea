defmodule FuzzDist.DataTest do
  # What is pure data: generators, specs, TOML, sys.config.
  use ExUnit.Case, async: true

  alias FuzzDist.{InputError, Spec, SysConfig, Toml}

  defmodule Registers do
    use FuzzDist.Test,
      workload: :register,
      workload_options: [keys: 4, cas: false],
      nodes: 5,
      client_options: [table: "t"],
      cluster: [net_ticktime_s: 4, ports: [:raft]],
      nemesis: [
        interval_s: 1.5,
        faults: [
          :kill,
          [
            kind: :half_open,
            targets: [:halves, {:named, ["n1"]}],
            zones: :certainly_below,
            weight: 2
          ],
          [kind: :hold, targets: [{:links, [{"n1", "n2"}]}], boundary: :net_tick, one_way: true]
        ]
      ],
      checkers: [:stats, [name: :linearizable, options: [model: "register"]]]

    @impl true
    def read(key, _connection), do: {:ok, key}
    @impl true
    def write(_key, _value, _connection), do: :ok
  end

  defmodule Own do
    import FuzzDist.Generator

    use FuzzDist.Test,
      generator: mix([op(:read), op(:write, {:k, int(0, 4), "a"})]),
      checkers: [:stats]

    @impl true
    def open(_node, context), do: {:ok, context}
    @impl true
    def invoke({_f, value}, _state, _context), do: {:ok, value}
    @impl true
    def close(_state, _context), do: :ok
    @impl FuzzDist.Test
    def spec, do: Keyword.put(super(), :name, "renamed")
  end

  describe "a test" do
    test "is a client of its workload" do
      assert FuzzDist.Client.validate(Registers) == :ok
      assert Registers.invoke({:read, {1, nil}}, nil, nil) == {:ok, {1, 1}}
      assert FuzzDist.Test.test?(Registers)
      refute FuzzDist.Test.test?(String)
    end

    test "gives a spec" do
      spec = Registers.spec()
      assert spec[:name] == "fuzz_dist-data_test-registers"
      assert spec[:client] == [module: "FuzzDist.DataTest.Registers", options: %{table: "t"}]
      assert spec[:workload][:name] == :register
      assert [[kind: "kill"], half_open, hold] = spec[:nemesis][:faults]
      assert half_open[:kind] == "half-open"
      assert half_open[:targets] == ["halves", %{"named" => ["n1"]}]
      assert half_open[:zones] == ["certainly-below"]
      assert hold[:targets] == [%{"links" => [["n1", "n2"]]}]
      assert hold[:boundary] == "net-tick"
      assert Own.spec()[:name] == "renamed"
    end

    test "refuses options that there are not" do
      for {options, text} <- [
            {[workload: :register, node: 3], "unknown option `node` (did you mean `nodes`?)"},
            {[workload: :register, cluster: [net_ticktime: 3]], "did you mean `net_ticktime_s`?"},
            {[workload: :register, nemesis: [faults: [[kinds: :hold]]]], "did you mean `kind`?"},
            {[workload: :regster], "there is no workload :regster (did you mean `register`?)"},
            {[nodes: 3], "give `workload:`"},
            {[workload: :register, cluster: 3], "expected a keyword list"}
          ] do
        error = assert_raise InputError, fn -> Spec.build!(Own, options) end
        assert error.message =~ text
        assert error.message =~ "FuzzDist.DataTest.Own"
      end
    end

    test "refuses a workload that there is not when it is compiled" do
      code = "defmodule FuzzDist.Misspelt do use FuzzDist.Test, workload: :regster end"
      error = assert_raise CompileError, fn -> Code.compile_string(code) end
      assert error.description =~ "did you mean `register`?"
    end
  end

  describe "faults" do
    defp nemesis(options), do: Spec.build!(Own, generator: :g, nemesis: options)[:nemesis]
    defp fault(options), do: nemesis(faults: [options])[:faults] |> hd()

    test "that nobody has chosen are left to the core, and none is a choice" do
      assert Own.spec()[:nemesis] == []
      assert nemesis(interval_s: 1.0) == [interval_s: 1.0]

      for none <- [:none, [packages: :none], [packages: []], [faults: []]] do
        assert nemesis(none)[:packages] == [], inspect(none)
        assert Spec.to_toml(nemesis: nemesis(none)) =~ "packages = []"
      end
    end

    test "of packages are kept to roles" do
      assert nemesis(packages: [:kill, {:partition, {:api, :storage}}, :file_corruption])[
               :packages
             ] ==
               ["kill", "partition:api-storage", "file-corruption"]

      assert nemesis(packages: :all)[:packages] == ["all"]
    end

    test "wait for events and come in patterns" do
      assert fault(kind: :hold, pattern: :flap)[:pattern] == "flap"

      for {event, toml} <- [
            {[event: :nodedown, of: :n_2, seen_by: "n1", delay_ms: 5],
             [event: "nodedown", of: "n_2", seen_by: "n1", delay_ms: 5]},
            {[event: :fault_observed, of: :half_open],
             [event: "fault-observed", of: "half-open"]},
            {[event: :telemetry, of: [:my_app, :election, :won]],
             [event: "telemetry", of: "my_app.election.won"]},
            {[event: :elected, process: {:global, :leader}],
             [event: "elected", process: %{global: ":leader"}]}
          ] do
        assert fault(kind: :kill, after: event)[:after] == toml
      end

      error = assert_raise InputError, fn -> fault(kind: :kill, after: [evnt: :nodedown]) end
      assert error.message =~ "after:: unknown option `evnt` (did you mean `event`?)"
    end

    test "of processes name them by what they are" do
      for {process, toml} <- [
            {[registered: Some.Server], %{registered: "Some.Server"}},
            {{:registered, :logger}, %{registered: "logger"}},
            {{:via, [Registry, {:key, 1}]}, %{via: ["Registry", "{:key, 1}"]}},
            {{:child, [Some.Supervisor, Some.Child]},
             %{child: ["Some.Supervisor", "Some.Child"]}},
            {{:position, [:my_sup, 0, 2]}, %{position: ["my_sup", "0", "2"]}},
            {{:resolver, [:ra_leader, :queue]}, %{resolver: ["ra-leader", ":queue"]}}
          ] do
        assert fault(kind: :kill_process, process: process)[:process] == toml
      end
    end
  end

  describe "TOML" do
    test "of a spec" do
      assert Spec.to_toml(Registers.spec()) == """
             name = "fuzz_dist-data_test-registers"
             nodes = 5

             [cluster]
             net_ticktime_s = 4

             [[cluster.ports]]
             name = "raft"

             [client]
             module = "FuzzDist.DataTest.Registers"

             [client.options]
             table = "t"

             [workload]
             name = "register"

             [workload.options]
             cas = false
             keys = 4

             [nemesis]
             interval_s = 1.5

             [[nemesis.faults]]
             kind = "kill"

             [[nemesis.faults]]
             kind = "half-open"
             targets = ["halves", { named = ["n1"] }]
             zones = ["certainly-below"]
             weight = 2

             [[nemesis.faults]]
             kind = "hold"
             targets = [{ links = [["n1", "n2"]] }]
             boundary = "net-tick"
             one_way = true

             [[checkers]]
             name = "stats"

             [[checkers]]
             name = "linearizable"

             [checkers.options]
             model = "register"
             """
    end

    test "escapes what must be" do
      assert Toml.encode(a: "q\" b\\ n\n t\t \0 \x7F é") ==
               ~S(a = "q\" b\\ n\n t\t \u0000 \u007F é") <> "\n"

      assert Toml.encode(%{"a b" => 1, "c" => %{"d.e" => true}}) ==
               "\"a b\" = 1\n\n[c]\n\"d.e\" = true\n"
    end

    test "writes floats as floats, leaves nil out, refuses nil in lists" do
      assert Toml.encode(a: 1.0, b: nil, c: 1.0e20, d: []) == "a = 1.0\nc = 1.0e20\nd = []\n"
      assert_raise ArgumentError, fn -> Toml.encode(a: [1, nil]) end
      assert_raise ArgumentError, fn -> Toml.encode(a: self()) end
    end
  end

  describe "generators" do
    test "are the expressions of doc/generators.md" do
      import FuzzDist.Generator

      assert op(:write, {:k, int(0, 4), nil}) == %{
               f: "write",
               value: %{"tuple" => [":k", %{"int" => [0, 4]}, ":nil"]}
             }

      assert stagger(0.01, mix([op(:read)], weights: [2])) == %{
               "stagger" => [0.01, %{"mix" => [%{f: "read", value: ":nil"}], "weights" => [2]}]
             }

      assert op(:read, ":x", final?: true) == %{f: "read", value: "::x", extra: %{final?: true}}

      assert op(:put, %{a: unique(5, step: 2)}).value == %{
               "map" => %{a: %{"unique" => %{from: 5, step: 2}}}
             }

      assert_raise ArgumentError, fn -> op(:put, self()) end
      assert_raise ArgumentError, fn -> op(:put, 1..2) end
    end

    test "of a test are in its TOML" do
      mix =
        ~S(mix = [{ f = "read", value = ":nil" }, ) <>
          ~S({ f = "write", value = { tuple = [":k", { int = [0, 4] }, "a"] } }])

      assert Spec.to_toml(Own.spec()) =~ mix
    end
  end

  describe "sys.config" do
    test "is read back as it was, without what cannot be written" do
      Application.put_env(:fuzz_dist_config, :list,
        a: "ü",
        b: [1.5, {:c, "d"}],
        f: &String.length/1
      )

      Application.put_env(:fuzz_dist_config, :pid, self())
      Application.put_env(:fuzz_dist_config, :fun, fn -> 1 end)
      {text, dropped} = SysConfig.render([:fuzz_dist_config, :there_is_no_such_application])
      assert Enum.sort(dropped) == [fuzz_dist_config: :fun, fuzz_dist_config: :pid]

      path = Path.join(System.tmp_dir!(), "sys-#{System.unique_integer([:positive])}.config")
      on_exit(fn -> File.rm(path) end)
      File.write!(path, text)

      assert :file.consult(path) ==
               {:ok,
                [[fuzz_dist_config: [list: [a: "ü", b: [1.5, {:c, "d"}], f: &String.length/1]]]]}
    end
  end
end
