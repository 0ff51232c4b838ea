defmodule FuzzDist.ModelTest do
  # Models written in Elixir, through the native library, against those written in Rust.
  #
  # Not async: a test counts the checks that run in this VM.
  use ExUnit.Case

  alias FuzzDist.Native

  defmodule Register do
    @behaviour FuzzDist.Model

    @impl true
    def init(initial) when initial == [], do: nil
    def init(initial), do: initial

    @impl true
    def step(_, %{f: :write, value: value}), do: {:ok, value}
    def step(state, %{f: :read, type: :info}), do: {:ok, state}
    def step(state, %{f: :read, value: state}), do: {:ok, state}
    def step(state, %{f: :cas, argument: {state, new}}), do: {:ok, new}
    def step(state, operation), do: {:error, {state, operation}}
  end

  defmodule Queue do
    @behaviour FuzzDist.Model

    @impl true
    def init(_), do: []

    @impl true
    def step(queue, %{f: :enqueue, value: value}), do: {:ok, queue ++ [value]}
    def step([_ | rest], %{f: :dequeue, type: :info}), do: {:ok, rest}
    def step([value | rest], %{f: :dequeue, value: value}), do: {:ok, rest}
    def step([], %{f: :dequeue, type: :ok, value: nil}), do: {:ok, []}
    def step(_, _), do: {:error, :no}
  end

  defmodule Broken do
    @behaviour FuzzDist.Model

    @impl true
    def init(:raises), do: raise("no state")
    def init(how), do: how

    @impl true
    def step(:raise, _), do: raise("no step")
    def step(:throw, _), do: throw(:ball)
    def step(:answers, _), do: :sure
    def step(:hangs, _), do: Process.sleep(:infinity)
    def step(:ends, _), do: Process.exit(self(), :kill)
  end

  setup_all do
    built = for mode <- ~w(debug release), do: "../target/#{mode}/libfuzz_dist_nif.so"

    if System.get_env("FUZZ_DIST_NIF") in [nil, ""] do
      library = Enum.find(built, &File.regular?/1)
      library || flunk("these tests need the library: `cargo build -p fuzz_dist_nif` makes it")
      System.put_env("FUZZ_DIST_NIF", Path.expand(library))
      on_exit(fn -> System.delete_env("FUZZ_DIST_NIF") end)
    end

    :ok
  end

  defp operation(process, f, argument, result) do
    [
      %{process: process, type: :invoke, f: f, value: argument},
      %{process: process, type: :ok, f: f, value: result}
    ]
  end

  # Calls with random moments and results, seldom those of a correct object.
  defp random_history(draw) do
    Enum.reduce(1..12, {[], %{}, 0}, fn _, {records, open, next} ->
      process = :rand.uniform(3) - 1

      case {Map.pop(open, process), :rand.uniform(10)} do
        {{nil, open}, _} ->
          {f, argument, result} = draw.()
          name = process + 3 * next
          record = %{process: name, type: :invoke, f: f, value: argument}
          {[record | records], Map.put(open, process, {name, f, argument, result}), next + 1}

        {{{name, f, argument, _}, open}, 1} ->
          {[%{process: name, type: :info, f: f, value: argument} | records], open, next}

        {{{name, f, _, result}, open}, _} ->
          {[%{process: name, type: :ok, f: f, value: result} | records], open, next}
      end
    end)
    |> elem(0)
    |> Enum.reverse()
  end

  defp register_call do
    n = :rand.uniform(2)

    case :rand.uniform(3) do
      1 -> {:write, n, n}
      2 -> {:read, nil, n}
      3 -> {:cas, {n, 3 - n}, {n, 3 - n}}
    end
  end

  defp queue_call do
    n = :rand.uniform(3)

    if :rand.uniform(2) == 1,
      do: {:enqueue, n, n},
      else: {:dequeue, nil, Enum.random([nil, 1, 2, 3])}
  end

  defp compare(model, name, draw) do
    :rand.seed(:exsss, {1, 2, 3})

    verdicts =
      for case_number <- 1..300 do
        history = random_history(draw)
        {:ok, expected} = FuzzDist.check(history, {:linearizable, model: name})
        {:ok, result} = FuzzDist.check(history, :linearizable, model: model)
        assert result.verdict == expected.verdict, "case #{case_number}: #{inspect(history)}"
        result.verdict
      end

    frequencies = Enum.frequencies(verdicts)
    assert frequencies[:valid] > 20 and frequencies[:invalid] > 20, inspect(frequencies)
  end

  test "a register agrees with the one that is built in" do
    compare(Register, "cas-register", &register_call/0)
  end

  test "a queue agrees with the one that is built in" do
    compare(Queue, "fifo-queue", &queue_call/0)
  end

  test "evidence shows states and operations" do
    history = operation(0, :write, 1, 1) ++ operation(1, :read, nil, 2)
    {:ok, result} = FuzzDist.check(history, :linearizable, model: {Register, 7})
    assert %{verdict: :invalid, anomalies: [anomaly], details: %{"model" => name}} = result
    assert name == inspect(Register)
    assert anomaly.text =~ "read 2"
    assert anomaly.text =~ "value 1"
    assert [2, 3 | _] = anomaly.ops
    # The argument is what it starts with.
    assert {:ok, %{verdict: :valid}} =
             FuzzDist.check(operation(0, :read, nil, 7), "linearizable", model: {Register, 7})
  end

  test "each key starts from the beginning" do
    keyed = fn key, value ->
      operation(key, :write, {key, value}, {key, value}) ++
        operation(key, :read, {key, nil}, {key, value})
    end

    history = keyed.(1, :a) ++ keyed.(2, :b) ++ operation(3, :read, {3, nil}, {3, nil})
    checker = {:linearizable, independent: true}
    assert {:ok, %{verdict: :valid}} = FuzzDist.check(history, checker, model: Register)
    history = history ++ operation(1, :read, {2, nil}, {2, :a})

    assert {:ok, %{verdict: :invalid} = result} =
             FuzzDist.check(history, checker, model: Register)

    assert [%{key: "2"}] = result.anomalies
  end

  test "a model that fails is an error and never a verdict" do
    history = operation(0, :read, nil, 1)
    check = &FuzzDist.check(history, :linearizable, model: {Broken, &1})

    for {how, expected} <- [
          raises: "init/1 of FuzzDist.ModelTest.Broken failed: ** (RuntimeError) no state",
          raise: "step/2 of FuzzDist.ModelTest.Broken failed: ** (RuntimeError) no step",
          throw: "ball",
          answers: "gave :sure"
        ] do
      assert {:error, text} = check.(how)
      assert text =~ expected
    end

    Process.flag(:trap_exit, true)
    assert {:error, "the process of the model has ended"} = check.(:ends)
  end

  test "a step that does not end is unknown in time" do
    history = operation(0, :read, nil, 1)
    options = [model: {Broken, :hangs}, timeout: 100]

    assert {:ok, %{verdict: :unknown, reason: reason}} =
             FuzzDist.check(history, :linearizable, options)

    assert reason =~ "time"
  end

  test "a check ends with the process that asked for it" do
    history = operation(0, :read, nil, 1)
    options = [model: {Broken, :hangs}, timeout: :infinity]
    caller = spawn(fn -> FuzzDist.check(history, :linearizable, options) end)
    await(fn -> Native.checks_running() == 1 end)
    Process.exit(caller, :kill)
    await(fn -> Native.checks_running() == 0 end)
  end

  test "what is no model is an error" do
    for {model, checker, expected} <- [
          {NoSuchModule, :linearizable, "no module NoSuchModule"},
          {Enum, :linearizable, "Enum has no init/1 and no step/2"},
          {7, :linearizable, "not 7"},
          {Register, :stats, "only for the checker linearizable"},
          {Register, {:linearizable, model: :register}, "only the option independent"},
          {Register, {:linearizable, independent: 3}, "true or false"}
        ] do
      assert {:error, text} = FuzzDist.check(operation(0, :read, nil, 1), checker, model: model)
      assert text =~ expected
    end
  end

  defp await(condition, left \\ 500) do
    cond do
      condition.() -> :ok
      left == 0 -> flunk("it did not come about")
      true -> Process.sleep(10) && await(condition, left - 1)
    end
  end
end
