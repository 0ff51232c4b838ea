defmodule FuzzDist.CheckTest do
  # Checks and histories through the native library.
  #
  # Not async: a test counts the checks that run in this VM.
  use ExUnit.Case

  alias FuzzDist.{History, Native}

  @histories Path.expand("../../test/histories", __DIR__)

  # `bin/test` builds the library and names it; who runs `mix test` alone may have built it as well.
  setup_all do
    built = for mode <- ~w(debug release), do: "../target/#{mode}/libfuzz_dist_nif.so"
    given = System.get_env("FUZZ_DIST_NIF")

    if given in [nil, ""] do
      library = Enum.find(built, &File.regular?/1)
      library || flunk("these tests need the library: `cargo build -p fuzz_dist_nif` makes it")
      System.put_env("FUZZ_DIST_NIF", Path.expand(library))
      on_exit(fn -> System.delete_env("FUZZ_DIST_NIF") end)
    end

    :ok
  end

  setup do
    folder =
      Path.join(
        System.tmp_dir!(),
        "fuzz_dist-check-#{System.unique_integer([:positive])}-#{System.pid()}"
      )

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    {:ok, folder: folder}
  end

  # A write, and a read of `read` that began when it had ended.
  defp write_and_read(read) do
    [
      %{process: 0, type: :invoke, f: :write, value: 1},
      %{process: 0, type: :ok, f: :write, value: 1},
      %{process: 1, type: :invoke, f: :read, value: nil},
      %{process: 1, type: :ok, f: :read, value: read}
    ]
  end

  # `;; options: {"independent": true, "anomalies": ["G0"]}`: JSON, which Elixir 1.14 cannot read; with other
  # colons it is a map of Elixir.
  defp golden_options(path) do
    case Regex.run(~r/^;; options: (.*)$/m, File.read!(path), capture: :all_but_first) do
      nil -> %{}
      [json] -> "%#{String.replace(json, "\":", "\" =>")}" |> Code.eval_string() |> elem(0)
    end
  end

  describe "check" do
    test "gives the verdict of golden histories" do
      paths = Path.wildcard(@histories <> "/*/*/*.edn")
      assert length(paths) > 50

      for path <- paths do
        [checker, verdict, _] = path |> Path.split() |> Enum.take(-3)
        assert {:ok, result} = FuzzDist.check(path, {checker, golden_options(path)})
        assert {path, Atom.to_string(result.verdict)} == {path, verdict}
        assert result.verdict != :invalid or result.anomalies != []
      end
    end

    test "takes lists of records, and says what is wrong with them" do
      assert {:ok, %{verdict: :valid, checker: "linearizable", parts: [], notices: []}} =
               FuzzDist.check(write_and_read(1), :linearizable)

      assert {:ok, %{verdict: :invalid} = result} =
               FuzzDist.check(write_and_read(2), :linearizable)

      assert [%{name: "nonlinearizable", key: nil, ops: ops, text: text}] = result.anomalies
      assert 3 in ops
      assert text =~ "read 2"
      assert result.reason =~ "read 2"
      assert %{"operations" => 2} = result.counts
      assert result.elapsed_ms >= 0
    end

    test "takes options, by atoms and text, with dashes or underscores" do
      # 3 was never written: only an initial value can be read.
      read = [
        %{process: 0, type: :invoke, f: :read, value: nil},
        %{process: 0, type: :ok, f: :read, value: :free}
      ]

      assert {:ok, %{verdict: :invalid}} = FuzzDist.check(read, :linearizable)
      assert {:ok, %{verdict: :valid}} = FuzzDist.check(read, {:linearizable, initial: :free})
      options = %{"initial" => :free, model: "register", failed_cas: :observe}
      assert {:ok, %{verdict: :valid}} = FuzzDist.check(read, {"linearizable", options})
      # An atom is no text.
      assert {:ok, %{verdict: :invalid}} = FuzzDist.check(read, {:linearizable, initial: "free"})
    end

    test "splits independent keys" do
      history = for op <- write_and_read(2), do: Map.update!(op, :value, &{"k", &1})

      assert {:ok, %{verdict: :invalid, anomalies: [%{key: key}]}} =
               FuzzDist.check(history, {:linearizable, independent: true})

      assert key =~ "k"
    end

    test "composes several checkers" do
      assert {:ok, %{verdict: :invalid, checker: "all", parts: parts}} =
               FuzzDist.check(write_and_read(2), [:stats, {:linearizable, model: :register}])

      assert Enum.map(parts, & &1.checker) == ["stats", "linearizable"]
      assert Enum.map(parts, & &1.verdict) == [:valid, :invalid]
    end

    test "answers bad input of every kind with a sentence" do
      good = write_and_read(1)

      for {history, checker, options, message} <- [
            {good, :linearisable, [], "did you mean \"linearizable\"?"},
            {good, {:linearizable, modle: :register}, [], "did you mean \"model\"?"},
            {good, {:linearizable, model: :regster}, [], "did you mean \"register\"?"},
            {good, {:linearizable, initial: self()}, [], "option \"initial\""},
            {good, {:linearizable, [{:model, 1} | 2]}, [], "a checker is a name"},
            {good, {:linearizable, [1]}, [], "a checker is a name or {name, options}"},
            {good, nil, [], "a checker is a name"},
            {good, [], [], "no checker"},
            {good, [:stats | :more], [], "a checker is a name"},
            {good, :stats, [timout: 1], "no option :timout (did you mean `timeout`?)"},
            {good, :stats, [timeout: -1], "timeout: is milliseconds"},
            {good, :stats, [memory_mib_max: "1"], "memory_mib_max: is a number"},
            {good, :stats, :fast, "options are a keyword list"},
            {"/nowhere/history.edn", :stats, [], "/nowhere/history.edn"},
            {"zero\0byte", :stats, [], "zero byte"},
            {:history, :stats, [], "a history is a path, a list"},
            {[], :stats, [], "no operations"},
            {[1], :stats, [], "record 0: expected an operation"},
            {[:a | :b], :stats, [], "not a list of operations"},
            {[%{process: 0, f: :read}], :stats, [], "record 0: the operation has no :type"},
            {[%{process: 0, type: :begin}], :stats, [], "unknown :type :begin"},
            {[%{process: 0, type: :ok, f: :read}], :stats, [], "no open invocation"}
          ] do
        assert {:error, sentence} = FuzzDist.check(history, checker, options)
        assert sentence =~ message
        assert String.valid?(sentence)
      end
    end

    test "names the file, line and column of what is no history", %{folder: folder} do
      path = Path.join(folder, "bad.edn")

      File.write!(
        path,
        "{:process 0 :type :invoke :f :read}\n{:process 0 :type :okay :f :read}\n"
      )

      assert {:error, sentence} = FuzzDist.check(path, :stats)
      assert sentence =~ "bad.edn:2:"
      assert sentence =~ "did you mean :ok?"
    end

    test "a long search ends at its timeout, undecided" do
      assert {:ok, %{verdict: :unknown, reason: reason}} =
               FuzzDist.check(long_search(), :linearizable, timeout: 20, memory_mib_max: 256)

      assert reason =~ "time budget"
    end

    test "a check ends with the process that asked for it" do
      {:ok, history} = History.new(long_search())
      options = [timeout: :infinity, memory_mib_max: 256]
      caller = spawn(fn -> FuzzDist.check(history, :linearizable, options) end)
      eventually(fn -> Native.checks_running() == 1 end)
      Process.exit(caller, :kill)
      eventually(fn -> Native.checks_running() == 0 end)

      task = Task.async(fn -> FuzzDist.check(history, :linearizable, options) end)
      eventually(fn -> Native.checks_running() == 1 end)
      assert Task.shutdown(task) == nil
      eventually(fn -> Native.checks_running() == 0 end)
    end

    test "many at once" do
      1..20
      |> Task.async_stream(fn i ->
        {i, FuzzDist.check(write_and_read(rem(i, 2)), :linearizable)}
      end)
      |> Enum.each(fn {:ok, {i, {:ok, %{verdict: verdict}}}} ->
        assert verdict == if(rem(i, 2) == 1, do: :valid, else: :invalid)
      end)
    end
  end

  describe "histories" do
    test "go to files and come back", %{folder: folder} do
      records = [
        %{process: 0, type: :invoke, f: :append, value: {"key", [1, :a, nil, 2.5, %{b: true}]}},
        %{process: 0, type: :info, f: :append, value: {"key", [1]}, error: {:timeout, self()}},
        %{
          process: :nemesis,
          type: :info,
          f: :kill,
          value: ["n1"],
          time: 7,
          node: "n1",
          final?: true
        }
      ]

      assert {:ok, %History{count: 3} = history} = History.new(records)
      assert inspect(history) == "#FuzzDist.History<3 records>"
      assert {:ok, back} = History.to_list(history)

      defaults = %{time: -1}
      expected = for {record, i} <- Enum.with_index(records), do: Map.put(record, :index, i)
      assert back == Enum.map(expected, &Map.merge(defaults, &1))

      for name <- ~w(h.edn h.jsonl) do
        path = Path.join(folder, name)
        assert :ok = History.write(history, path)
        assert {:ok, %History{count: 3, notices: []} = loaded} = History.load(path)
        assert {:ok, [first, second, third]} = History.to_list(loaded)
        # Files have no tuples, and keep everything else.
        assert first == %{hd(back) | value: ["key", [1, :a, nil, 2.5, %{b: true}]]}
        assert second.error == [:timeout, self()]
        assert third == Enum.at(back, 2)
      end

      assert Enum.sort(File.ls!(folder)) == ~w(h.edn h.jsonl)
    end

    test "a run's folder is a history, and its torn end is told", %{folder: folder} do
      File.write!(Path.join(folder, "history.edn"), "{:process 0 :type :invoke :f :read}\n")
      assert {:ok, %{count: 1}} = History.load(folder)
      assert :ok = History.write(folder, Path.join(folder, "kept.jsonl"))
      assert {:ok, %{count: 1}} = History.load(Path.join(folder, "kept.jsonl"))
    end

    test "longer than what crosses at a time" do
      records =
        for i <- 0..4_999,
            type <- [:invoke, :ok],
            do: %{process: i, type: type, f: :add, value: i}

      assert {:ok, history} = History.new(records)
      assert {:ok, back} = History.to_list(history)
      assert Enum.map(back, & &1.index) == Enum.to_list(0..9_999)
      assert Enum.map(back, & &1.value) == Enum.map(records, & &1.value)
    end

    test "of more names than the VM has room for stay outside", %{folder: folder} do
      room = :erlang.system_info(:atom_limit) - :erlang.system_info(:atom_count)
      names = for i <- 1..(div(room, 2) + 1), do: [" :name-of-check-test-", to_string(i)]
      path = Path.join(folder, "names.edn")
      File.write!(path, ["{:process 0 :type :invoke :f :add :value [", names, "]}"])
      before = :erlang.system_info(:atom_count)
      assert {:ok, history} = History.load(path)
      assert {:error, sentence} = History.to_list(history)
      assert sentence =~ "different names"
      assert :erlang.system_info(:atom_count) - before < 100
    end

    test "with values that no VM has are refused as a list", %{folder: folder} do
      path = Path.join(folder, "long.edn")
      long = String.duplicate("a", 300)
      File.write!(path, "{:process 0 :type :invoke :f :add :value :#{long}}")
      assert {:ok, history} = History.load(path)
      assert {:error, sentence} = History.to_list(history)
      assert sentence =~ "no term of the BEAM"
    end

    test "say why they cannot be written", %{folder: folder} do
      {:ok, history} = History.new(write_and_read(1))
      assert {:error, sentence} = History.write(history, Path.join(folder, "h.txt"))
      assert sentence =~ "h.txt: its extension must say the format, .edn or .jsonl"
      assert {:error, sentence} = History.write(history, Path.join(folder, "no/h.edn"))
      assert sentence =~ "no/h.edn: No such file or directory"
      assert {:error, sentence} = History.write(history, Path.join(folder, "h\0.edn"))
      assert sentence =~ "h"
      assert File.ls!(folder) == []
    end
  end

  describe "the guide" do
    # Its Elixir is a test module that a project could have; the paths in it start at the root.
    test "has a test that passes", %{folder: folder} do
      guide = File.read!(Path.expand("../../doc/checking.md", __DIR__))
      [block] = Regex.run(~r/```elixir\n(.*?)```/s, guide, capture: :all_but_first)
      path = Path.join(folder, "guide_test.exs")
      File.write!(path, "ExUnit.start()\n" <> block)
      ebin = Application.app_dir(:fuzz_dist, "ebin")
      options = [cd: Path.expand("../..", __DIR__), stderr_to_stdout: true]
      {text, status} = System.cmd("elixir", ["-pa", ebin, path], options)
      assert {status, text} |> inspect() =~ "0 failures", text
      assert status == 0
      assert text =~ "2 tests"
    end
  end

  # In a VM of its own, since a library that is loaded stays.
  describe "without a library" do
    defp in_another_vm(library, code) do
      ebin = Application.app_dir(:fuzz_dist, "ebin")
      env = [{"FUZZ_DIST_NIF", library}]
      System.cmd("elixir", ["-pa", ebin, "-e", code], env: env, stderr_to_stdout: true)
    end

    @code "with {:error, sentence} <- FuzzDist.check([], :stats), do: IO.puts(sentence)"

    test "the sentence says how to build it" do
      {text, 0} = in_another_vm("", @code)
      assert text =~ "the checkers are not built"
      assert text =~ "cargo build -p fuzz_dist_nif"
    end

    test "a wrong one is named", %{folder: folder} do
      {text, 0} = in_another_vm("/nowhere/lib.so", @code)
      assert text =~ "FUZZ_DIST_NIF names /nowhere/lib.so, which is not a file"
      wrong = Path.join(folder, "wrong.so")
      File.write!(wrong, "no library")
      {text, 0} = in_another_vm(wrong, @code)
      assert text =~ "cannot load #{wrong}"
    end
  end

  # Every order of these writes and swaps is possible, and no read tells which it was.
  defp long_search do
    open =
      for i <- 0..63 do
        case rem(i, 2) do
          0 -> %{process: i, type: :invoke, f: :write, value: rem(i, 7)}
          1 -> %{process: i, type: :invoke, f: :cas, value: {rem(i, 7), rem(i * 3, 7)}}
        end
      end

    reads =
      for i <- 0..3_999, type <- [:invoke, :ok] do
        %{process: 99, type: type, f: :read, value: if(type == :ok, do: rem(i, 7))}
      end

    open ++ reads
  end

  defp eventually(condition, left \\ 3000) do
    cond do
      condition.() -> :ok
      left == 0 -> flunk("it did not happen")
      true -> Process.sleep(10) && eventually(condition, left - 1)
    end
  end
end
