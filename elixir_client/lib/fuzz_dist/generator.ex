defmodule FuzzDist.Generator do
  @moduledoc """
  Generators of one's own, as plain data: what the core runs, `doc/generators.md` describes in full.

      import FuzzDist.Generator

      use FuzzDist.Test,
        generator:
          stagger(0.01, mix([
            op(:read),
            op(:write, int(0, 9)),
            op(:cas, [int(0, 9), int(0, 9)])
          ])),
        checkers: [[name: :linearizable, options: [model: "cas-register"]]]

  The functions here only build the expression; it is checked by the core before anything starts. A
  generator is the result of `op/2` or of a combinator, or a list of generators, run one after the other.

  Values are Elixir terms, kept as they are: atoms, numbers, strings, lists, tuples, maps with atom
  keys; anywhere in them may stand a draw (`int/2`, `choose/1`, `unique/1` …), drawn for each operation.
  """

  defmodule Draw do
    @moduledoc "A part of a value that is drawn for each operation; made by `FuzzDist.Generator`."
    defstruct [:data]
    @type t :: %__MODULE__{data: map()}
  end

  @typedoc "A generator expression."
  @type t :: map() | [t()]

  @typedoc "A value, perhaps with draws in it."
  @type template :: term()

  @doc "The operation `f` with `value`, again and again; `extra` are further keys of its record."
  @spec op(atom(), template(), keyword()) :: t()
  def op(f, value \\ nil, extra \\ []) do
    operation = %{f: Atom.to_string(f), value: template(value)}

    case extra do
      [] -> operation
      _ -> Map.put(operation, :extra, Map.new(extra, fn {k, v} -> {k, template(v)} end))
    end
  end

  # Draws

  @doc "A whole number, `low` and `high` included."
  @spec int(integer(), integer()) :: Draw.t()
  def int(low, high), do: draw("int", [low, high])

  @doc "A number from `low` (included) to `high`."
  @spec float(number(), number()) :: Draw.t()
  def float(low, high), do: draw("float", [low, high])

  @doc "One of `templates`, each as often."
  @spec choose([template()]) :: Draw.t()
  def choose(templates), do: draw("choose", Enum.map(templates, &template/1))

  @doc "One of `templates`, given as `[{weight, template}]`."
  @spec weighted([{pos_integer(), template()}]) :: Draw.t()
  def weighted(pairs), do: draw("weighted", Enum.map(pairs, fn {w, t} -> [w, template(t)] end))

  @doc "A rank from 0 to `count - 1` by Zipf's law."
  @spec zipf(pos_integer(), number()) :: Draw.t()
  def zipf(count, skew \\ 1.0), do: draw("zipf", [count, skew])

  @doc "Failures before the first success of probability `p`."
  @spec geometric(float()) :: Draw.t()
  def geometric(p), do: draw("geometric", p)

  @doc "`from`, `from + 1` …, each once in the whole run. Options: `:name` (shared by name), `:step`."
  @spec unique(integer(), keyword()) :: Draw.t()
  def unique(from \\ 0, options \\ []) do
    draw("unique", options |> Map.new() |> Map.put(:from, from))
  end

  @doc "Unique numbers in an order that looks random, in bands of `size`."
  @spec sparse(pos_integer()) :: Draw.t()
  def sparse(size), do: draw("sparse", size)

  @doc "Something of the operation itself: `:thread`, `:process`, `:node`; within `map/2` also `:value`, `:f`."
  @spec the(:thread | :process | :node | :value | :f) :: Draw.t()
  def the(part), do: draw("the", Atom.to_string(part))

  defp draw(name, argument), do: %Draw{data: %{name => argument}}

  # Combinators

  @doc "One of `generators` by chance; with `weights`, a whole number for each."
  @spec mix([t()], keyword()) :: t()
  def mix(generators, options \\ []) do
    case options[:weights] do
      nil -> %{"mix" => generators}
      weights -> %{"mix" => generators, "weights" => weights}
    end
  end

  @doc "At most `count` operations."
  @spec limit(non_neg_integer(), t()) :: t()
  def limit(count, generator), do: %{"limit" => [count, generator]}

  @doc "One operation."
  @spec once(t()) :: t()
  def once(generator), do: %{"once" => generator}

  @doc "Ends after `seconds` from its first operation."
  @spec time_limit(number(), t()) :: t()
  def time_limit(seconds, generator), do: %{"time-limit" => [seconds, generator]}

  @doc "An operation every `seconds` on average, at random times."
  @spec stagger(number(), t()) :: t()
  def stagger(seconds, generator), do: %{"stagger" => [seconds, generator]}

  @doc "An operation every `seconds`, at even times."
  @spec delay(number(), t()) :: t()
  def delay(seconds, generator), do: %{"delay" => [seconds, generator]}

  @doc "The first operation of `generator`, for ever."
  @spec repeat(t()) :: t()
  def repeat(generator), do: %{"repeat" => generator}

  @doc "The first operation of `generator`, `count` times."
  @spec repeat(pos_integer(), t()) :: t()
  def repeat(count, generator), do: %{"repeat" => [count, generator]}

  @doc "The whole of `generator`, for ever."
  @spec cycle(t()) :: t()
  def cycle(generator), do: %{"cycle" => generator}

  @doc "The whole of `generator`, `count` times."
  @spec cycle(pos_integer(), t()) :: t()
  def cycle(count, generator), do: %{"cycle" => [count, generator]}

  @doc "Only operations that pass `test`: `%{f: [..]}`, `%{value: v}`, `%{threads: …}`, `%{all: […]}`, `%{some: […]}`, `%{not: …}`."
  @spec filter(map(), t()) :: t()
  def filter(test, generator), do: %{"filter" => [test, generator]}

  @doc "Changes `:f`, `:value` or `:extra` of each operation; draws may use `the(:value)` and `the(:f)`."
  @spec map(keyword(), t()) :: t()
  def map(changes, generator) do
    changed =
      Map.new(changes, fn
        {:f, f} -> {:f, Atom.to_string(f)}
        {:value, value} -> {:value, template(value)}
        {:extra, extra} -> {:extra, Map.new(extra, fn {k, v} -> {k, template(v)} end)}
      end)

    %{"map" => [changed, generator]}
  end

  @doc "Renames functions: `%{old: :new}`."
  @spec f_map(%{atom() => atom()}, t()) :: t()
  def f_map(names, generator),
    do: %{"f-map" => [Map.new(names, fn {k, v} -> {k, Atom.to_string(v)} end), generator]}

  @doc "One after the other, each beginning when all threads are free."
  @spec phases([t()]) :: t()
  def phases(generators), do: %{"phases" => generators}

  @doc "Begins when all threads are free."
  @spec synchronize(t()) :: t()
  def synchronize(generator), do: %{"synchronize" => generator}

  @doc "`first`, then, when all threads are free, `second` (`then` of the language; Kernel has that name)."
  @spec and_then(t(), t()) :: t()
  def and_then(first, second), do: %{"then" => [first, second]}

  @doc "A copy of its own for each thread."
  @spec each_thread(t()) :: t()
  def each_thread(generator), do: %{"each-thread" => generator}

  @doc "A copy of its own for each process."
  @spec each_process(t()) :: t()
  def each_process(generator), do: %{"each-process" => generator}

  @doc """
  Only on these threads: a number, a list, `:even`, `:odd`, `:one_per_node`, `%{range: [a, b]}`,
  `%{node: "n1"}`, `%{not: …}`.
  """
  @spec on_threads(term(), t()) :: t()
  def on_threads(threads, generator), do: %{"on-threads" => [threads, generator]}

  @doc "Reserves threads: `reserve([{5, reads}, {2, writes}], rest)`."
  @spec reserve([{pos_integer(), t()}], t() | nil) :: t()
  def reserve(ranges, rest \\ nil) do
    pairs = Enum.flat_map(ranges, fn {threads, generator} -> [threads, generator] end)
    %{"reserve" => if(rest, do: pairs ++ [rest], else: pairs)}
  end

  @doc "Until an operation of it succeeded."
  @spec until_ok(t()) :: t()
  def until_ok(generator), do: %{"until-ok" => generator}

  @doc "One operation of each in turn."
  @spec flip_flop([t()]) :: t()
  def flip_flop(generators), do: %{"flip-flop" => generators}

  @doc "Whichever is ready first."
  @spec any([t()]) :: t()
  def any(generators), do: %{"any" => generators}

  @doc "At most `count` processes (a process ends with an `info`)."
  @spec process_limit(pos_integer(), t()) :: t()
  def process_limit(count, generator), do: %{"process-limit" => [count, generator]}

  @doc "At most `count` operations at a time."
  @spec concurrency_limit(pos_integer(), t()) :: t()
  def concurrency_limit(count, generator), do: %{"concurrency-limit" => [count, generator]}

  @doc "Each for its seconds, in turn, for ever: `[{10, a}, {5, b}]`."
  @spec cycle_times([{number(), t()}]) :: t()
  def cycle_times(windows),
    do: %{"cycle-times" => Enum.flat_map(windows, fn {s, generator} -> [s, generator] end)}

  @doc """
  A copy of `generator` for each key, on groups of threads of its own; values become `{key, value}`.

  Options: `:keys` (a number or a list; unbounded if absent), `:threads_per_key` (1), `:ops_per_key`,
  `:key_time` (seconds).
  """
  @spec independent(t(), keyword()) :: t()
  def independent(generator, options \\ []) do
    fields =
      for {name, value} <- options, into: %{} do
        value = if name == :keys and is_list(value), do: Enum.map(value, &template/1), else: value
        {name, value}
      end

    %{"independent" => Map.put(fields, :generator, generator)}
  end

  @doc "Nothing for `seconds`."
  @spec sleep(number()) :: t()
  def sleep(seconds), do: %{"sleep" => seconds}

  @doc "Writes a line to the log of the run."
  @spec log(String.t()) :: t()
  def log(text), do: %{"log" => text}

  @doc false
  # Terms as doc/generators.md writes them: a name has a leading colon, tuples and maps are tagged.
  def template(%Draw{data: data}), do: data
  def template(value) when is_boolean(value) or is_number(value), do: value
  def template(value) when is_atom(value), do: ":" <> Atom.to_string(value)
  def template(":" <> _ = text), do: ":" <> text
  def template(text) when is_binary(text), do: text
  def template(list) when is_list(list), do: Enum.map(list, &template/1)
  def template(tuple) when is_tuple(tuple), do: %{"tuple" => template(Tuple.to_list(tuple))}

  def template(%{__struct__: module}),
    do: raise(ArgumentError, "a value of an operation cannot be a #{inspect(module)}")

  def template(map) when is_map(map) do
    %{"map" => Map.new(map, fn {key, value} when is_atom(key) -> {key, template(value)} end)}
  end

  def template(other),
    do: raise(ArgumentError, "a value of an operation cannot be #{inspect(other)}")
end
