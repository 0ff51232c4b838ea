defmodule FuzzDist do
  @moduledoc """
  Tests real clusters of your application under real faults, and checks what they did against a model:
  what Jepsen is for databases, made for the BEAM.

      # mix.exs
      {:fuzz_dist, path: "…/fuzz_dist/elixir_client", only: [:dev, :test], runtime: false}

      $ mix fuzz_dist.new      # writes fuzz_dist/register.exs, which runs as it is
      $ mix fuzz_dist.run      # three nodes of your application, partitions, a verdict

  | you write | see |
  |---|---|
  | a test: one module, what is done and under which faults | `FuzzDist.Test` |
  | its operations, for the usual shapes | `FuzzDist.Workload` |
  | its operations, freely | `FuzzDist.Client`, `FuzzDist.Generator` |

  | you want to know | see |
  |---|---|
  | what `fail` and `info` mean, and how errors become one of them | `FuzzDist.Outcome` |
  | what a callback gets | `FuzzDist.Context` |
  | how to observe a run from inside | `FuzzDist.Telemetry` |
  | how to read, write and check histories from Elixir | `FuzzDist.History`, `check/3` |
  | all options of a run, exit codes | `mix help fuzz_dist.run` |

  The application starts no processes. Nodes of a test start the worker (`FuzzDist.Worker`) and the node
  agent (`:fuzz_dist_agent`) by themselves, and nothing of it runs anywhere else.

  ## In ExUnit

  (`doc/checking.md` of the project has a whole test module, and what every checker takes.)

  A failure once found is worth keeping. Write its history among the tests, once:

      iex> FuzzDist.History.write("store/register/latest", "test/failures/split_brain.edn")
      :ok

  and hold on to what it showed, so that no change of the checker's options makes you blind to it:

      test "a split brain is not linearizable" do
        assert {:ok, %{verdict: :invalid, anomalies: [anomaly | _]}} =
                 FuzzDist.check("test/failures/split_brain.edn", {:linearizable, independent: true})

        assert anomaly.key == "3"
      end

  The run itself is repeated by `mix fuzz_dist.replay`, and its verdict is the one that has to change.

  Histories need no cluster. What concurrent processes of a test did to anything that lives in one VM can be
  recorded as a list, and checked:

      test "the cache is a register" do
        history = record_concurrent_calls(MyApp.Cache)   # [%{process: 0, type: :invoke, f: :read, value: nil}, ...]
        assert {:ok, %{verdict: :valid}} = FuzzDist.check(history, :linearizable)
      end
  """

  alias FuzzDist.{History, Model, Native, Suggest}

  @typedoc "A checker by its name, `:pn_counter` or `\"pn-counter\"`, with its options; several are composed."
  @type checker :: name | {name, keyword | map} | [name | {name, keyword | map}]
  @type name :: atom | String.t()

  @typedoc """
  What a check found.

  | key | what |
  |---|---|
  | `:verdict` | `:valid`, `:invalid`, or `:unknown` where it could not be decided, or there was too little to decide from |
  | `:reason` | why, in a line |
  | `:anomalies` | the violations, the most telling first: `:name`, `:key` (text, or `nil`), `:text` (what happened, drawn), `:ops` (indices of the records that show it), `:edges` (of a cycle or a chain: `:from` and `:to`, indices, `:kind`, `:why`), `:longest_order` (where an order was sought: indices of invocations) |
  | `:counts` | what was counted, by name (text) |
  | `:details` | whatever else the checker tells, keys are text |
  | `:parts` | the same for each checker, or for keys that are not valid |
  | `:elapsed_ms` | how long it took, a float |
  | `:checker` | its name; `"all"` where several are composed |
  | `:notices` | what is worth knowing about how the history was read; only at the top |
  """
  @type result :: %{
          verdict: :valid | :invalid | :unknown,
          reason: String.t(),
          anomalies: [map],
          counts: %{optional(String.t()) => non_neg_integer},
          details: term,
          parts: [map],
          elapsed_ms: float,
          checker: String.t(),
          notices: [String.t()]
        }

  # A check in a test should end before the test does (ExUnit: a minute).
  @options [timeout: 50_000, memory_mib_max: 4096, model: nil]

  @doc """
  Checks a history.

      FuzzDist.check("store/register/latest", :linearizable)
      FuzzDist.check("history.edn", {:linearizable, model: :register, independent: true}, timeout: :infinity)
      FuzzDist.check(ops, [:stats, {"set-full", linearizable: true}])

  `history` is a path (a file in any format that fuzz_dist reads, or the folder of a run), a list of records, or what
  `FuzzDist.History.load/1` gave. Names and options of checkers are those of `fuzz_dist check --list`, all of them; a
  dash may be an underscore, and lists are lists (`anomalies: ["G0", "G1a"]`).

  | option | default | what |
  |---|---|---|
  | `:timeout` | #{@options[:timeout]} | milliseconds that each checker may take, or `:infinity`; past it the verdict is `:unknown`, with how far it got. Evidence for a verdict that stands may take some seconds more |
  | `:memory_mib_max` | #{@options[:memory_mib_max]} | MiB that the library may hold in this VM, the history included; past it likewise |
  | `:model` | none | for `linearizable`, a model of your own: a module or `{module, argument}`, see `FuzzDist.Model` |

  An error is a sentence: about the history (with file, line and column), the checker, an option, or how to build the
  library that does the work. No input of any kind raises.

  It runs on a dirty scheduler of this VM, on as many threads as there are processors, and stops when the calling
  process ends: a task that is shut down leaves nothing behind.
  """
  @spec check(History.source(), checker, keyword) :: {:ok, result} | {:error, String.t()}
  def check(history, checker, options \\ []) do
    with {:ok, options} <- options(options),
         {:ok, checkers} <- checkers(checker),
         {:ok, history} <- History.get(history),
         {:ok, answer} <- answer(history.ref, checkers, options),
         do: {:ok, answer |> :erlang.binary_to_term() |> Map.put(:notices, history.notices)}
  end

  defp answer(history, checkers, options) do
    limits = [options[:timeout], options[:memory_mib_max]]

    case options[:model] do
      nil -> Native.call(:check, [history, :erlang.term_to_binary(checkers) | limits])
      model -> Model.check(model, history, checkers, limits)
    end
  end

  defp options(options) do
    if Keyword.keyword?(options),
      do: Enum.reduce_while(options, {:ok, @options}, &option/2),
      else: {:error, "options are a keyword list, not #{shown(options)}"}
  end

  defp option({:timeout, :infinity}, {:ok, options}),
    do: {:cont, {:ok, Keyword.put(options, :timeout, nil)}}

  defp option({:model, model}, {:ok, options}) do
    case Model.get(model) do
      {:ok, model} -> {:cont, {:ok, Keyword.put(options, :model, model)}}
      error -> {:halt, error}
    end
  end

  # What Rust takes: 64 bits.
  defp option({name, value}, {:ok, options})
       when name in [:timeout, :memory_mib_max] and value in 0..0xFFFF_FFFF,
       do: {:cont, {:ok, Keyword.put(options, name, value)}}

  defp option({:timeout, value}, _),
    do: {:halt, {:error, "timeout: is milliseconds or :infinity, not #{shown(value)}"}}

  defp option({:memory_mib_max, value}, _),
    do: {:halt, {:error, "memory_mib_max: is a number of MiB, not #{shown(value)}"}}

  defp option({name, _}, _) do
    known = Keyword.keys(@options)
    {:halt, {:error, "there is no option #{inspect(name)}#{Suggest.hint(name, known)}"}}
  end

  # As a term for the library: [{name, %{option => value}}], names with dashes.
  defp checkers([]), do: {:error, "there is no checker in the list"}

  defp checkers(several) when is_list(several) do
    if List.improper?(several),
      do: no_checker(several),
      else: several |> Enum.map(&checker/1) |> together()
  end

  defp checkers(one), do: together([checker(one)])

  defp together(checkers) do
    case Enum.find(checkers, &match?({:error, _}, &1)) do
      nil -> {:ok, Enum.map(checkers, &elem(&1, 1))}
      error -> error
    end
  end

  defp checker(name) when (is_atom(name) and name not in [nil, true, false]) or is_binary(name),
    do: {:ok, {dashed(name), %{}}}

  defp checker({name, options}) when is_map(options) and not is_struct(options),
    do: checker({name, Map.to_list(options)})

  defp checker({name, options} = given) when is_list(options) do
    with {:ok, {name, _}} <- checker(name) do
      if not List.improper?(options) and Enum.all?(options, &option?/1),
        do: {:ok, {name, Map.new(options, fn {key, value} -> {dashed(key), value} end)}},
        else: no_checker(given)
    end
  end

  defp checker(other), do: no_checker(other)

  defp option?({key, _}), do: is_atom(key) or is_binary(key)
  defp option?(_), do: false

  defp no_checker(given),
    do: {:error, "a checker is a name or {name, options}, not #{shown(given)}"}

  defp dashed(name), do: name |> to_string() |> String.replace("_", "-")

  defp shown(term), do: inspect(term, limit: 5, printable_limit: 50)
end
