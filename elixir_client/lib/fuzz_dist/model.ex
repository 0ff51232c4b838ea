defmodule FuzzDist.Model do
  @moduledoc """
  An object of your own for `linearizable`: what it holds at the start, and what an operation makes of it.

      defmodule Counter do
        @behaviour FuzzDist.Model

        @impl true
        def init(_), do: 0

        @impl true
        def step(n, %{f: :increase}), do: {:ok, n + 1}
        # A read without an answer saw what nobody knows.
        def step(n, %{f: :read, type: :info}), do: {:ok, n}
        def step(n, %{f: :read, value: n}), do: {:ok, n}
        def step(n, %{f: :read, value: other}), do: {:error, "read \#{other}, but it is \#{n}"}
      end

      FuzzDist.check(history, :linearizable, model: Counter)
      FuzzDist.check(history, {:linearizable, independent: true}, model: {Counter, []})

  A state is any term. Steps must be functions of state and operation and of nothing else: each pair is asked for
  once and then remembered. Two states are one if they are equal (`===`), so keep them canonical where the order
  in which something happened does not matter.

  An operation is a map:

  | key | what |
  |---|---|
  | `:f` | the function, an atom |
  | `:type` | `:ok`, or `:info` when it may have taken place and nothing is known of its result |
  | `:value` | the value of the completion if `:ok`, else that of the invocation |
  | `:argument` | the value of the invocation |

  Operations that failed never reach a model: they did not take place. With `independent: true` values are
  without their keys, and each key starts from `c:init/1`.

  The search runs in the native library, which asks a process of its own, linked to the caller, for the steps that
  it does not know yet: some thousands to some tens of thousands a second. The models of `fuzz_dist check --list`
  are faster by far; this is for objects that they do not know. If a callback raises or answers something else,
  the check is an error with its text. A step that does not end makes the verdict `:unknown` at the `:timeout`.
  """

  alias FuzzDist.Native

  @typedoc "What the object holds."
  @type state :: term

  @typedoc "See the module."
  @type operation :: %{f: atom, type: :ok | :info, value: term, argument: term}

  @doc "The state at the start. The argument is that of `model: {module, argument}`, `[]` if there is none."
  @callback init(argument :: term) :: state

  @doc "The state after an operation, or an error (for people who read your model) if it cannot take place in this state."
  @callback step(state, operation) :: {:ok, state} | {:error, reason :: term}

  @doc false
  # `{module, argument}` of what was given, or a sentence.
  @spec get(term) :: {:ok, {module, term}} | {:error, String.t()}
  def get(module) when is_atom(module) and module not in [nil, true, false], do: get({module, []})

  def get({module, argument}) when is_atom(module) do
    with {:module, _} <- Code.ensure_loaded(module),
         [] <-
           for(
             {f, arity} <- [init: 1, step: 2],
             not function_exported?(module, f, arity),
             do: "#{f}/#{arity}"
           ) do
      {:ok, {module, argument}}
    else
      {:error, _} ->
        {:error, "model: there is no module #{inspect(module)}"}

      missing ->
        {:error,
         "model: #{inspect(module)} has no #{Enum.join(missing, " and no ")}, see FuzzDist.Model"}
    end
  end

  def get(other),
    do:
      {:error,
       "model: is a module or {module, argument}, not #{inspect(other, limit: 5, printable_limit: 50)}"}

  @doc false
  # Checks a stored history: what `check` of the library answers, `checkers` as it takes them.
  @spec check({module, term}, reference, [{String.t(), map}], [non_neg_integer | nil]) ::
          {:ok, binary} | {:error, String.t()}
  def check({module, _} = model, history, checkers, limits) do
    with {:ok, independent} <- independent(checkers),
         {:ok, server} <- start(model) do
      answer = Native.call(:check_model, [history, server, independent | limits])
      stop(server)
      with {:ok, answer} <- answer, do: {:ok, named(answer, module)}
    end
  end

  defp named(answer, module) do
    result = :erlang.binary_to_term(answer)
    details = if is_map(result.details), do: result.details, else: %{}
    :erlang.term_to_binary(%{result | details: Map.put(details, "model", inspect(module))})
  end

  defp independent([{"linearizable", options}]) do
    case Map.pop(options, "independent", false) do
      {independent, rest} when is_boolean(independent) and rest == %{} ->
        {:ok, independent}

      {other, rest} when rest == %{} ->
        {:error, "independent: of linearizable is true or false, not #{shown(other)}"}

      {_, rest} ->
        {:error,
         "with a model of your own, linearizable has only the option independent, not #{rest |> Map.keys() |> Enum.join(", ")}"}
    end
  end

  defp independent(_), do: {:error, "model: is only for the checker linearizable, alone"}

  # A caller that traps exits must not find one in its mailbox.
  defp stop(server) do
    monitor = Process.monitor(server)
    Process.unlink(server)
    Process.exit(server, :kill)

    receive do
      {:DOWN, ^monitor, :process, ^server, _} -> :ok
    end

    receive do
      {:EXIT, ^server, _} -> :ok
    after
      0 -> :ok
    end
  end

  # The process that is asked.
  defp start({module, argument}) do
    with {:ok, initial} <- guarded(module, "init/1", fn -> {:ok, module.init(argument)} end) do
      {:ok, spawn_link(fn -> serve(module, %{initial => 0}, %{0 => initial}) end)}
    end
  end

  # `numbers` has the number of each state seen, `states` the reverse.
  defp serve(module, numbers, states) do
    receive do
      {:fuzz_dist_model, answers, question} ->
        {answer, numbers, states} =
          respond(:erlang.binary_to_term(question), module, numbers, states)

        Native.answer_of_model(answers, :erlang.term_to_binary(answer))
        serve(module, numbers, states)
    end
  end

  defp respond({:show, number}, _, numbers, states) do
    text = inspect(states[number], limit: 50, printable_limit: 200)
    {{:ok, text}, numbers, states}
  end

  defp respond({:step, number, operation}, module, numbers, states) do
    case step(module, states[number], operation(operation)) do
      {:ok, {:some, state}} ->
        number = Map.get(numbers, state, map_size(numbers))
        {{:ok, number}, Map.put(numbers, state, number), Map.put(states, number, state)}

      {:ok, :none} ->
        {{:ok, nil}, numbers, states}

      {:error, text} ->
        {{:error, text}, numbers, states}
    end
  end

  defp operation({f, argument, :info}),
    do: %{f: f, type: :info, value: argument, argument: argument}

  defp operation({f, argument, {:ok, value}}),
    do: %{f: f, type: :ok, value: value, argument: argument}

  defp step(module, state, operation) do
    guarded(module, "step/2", fn ->
      case module.step(state, operation) do
        {:ok, state} ->
          {:ok, {:some, state}}

        {:error, _} ->
          {:ok, :none}

        other ->
          {:error,
           "step/2 of #{inspect(module)} must give {:ok, state} or {:error, reason}, but for #{shown(operation)} gave #{shown(other)}"}
      end
    end)
  end

  defp guarded(module, callback, work) do
    work.()
  catch
    kind, reason ->
      text = Exception.format_banner(kind, reason, __STACKTRACE__)
      {:error, "#{callback} of #{inspect(module)} failed: #{text}"}
  end

  defp shown(term), do: inspect(term, limit: 10, printable_limit: 100)
end
