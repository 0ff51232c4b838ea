defmodule FuzzDist.Outcome do
  @moduledoc """
  Decides what an error says about an operation: that it certainly did not take place (`:fail`), or
  that nobody knows (`:info`).

  `:fail` needs proof; whatever is not in this table is `:info`. An operation that only reads is always
  `:fail`: an answer that is lost has no effect.

  | error | of a write | why |
  |---|---|---|
  | exit `{:noproc, {m, :call, [target \\| _]}}`, `m` one of `GenServer`, `:gen_server`, `:gen_statem`, `:gen_event`, `Agent`; target a pid, a local name, `{:global, _}` or `{:via, _, _}` | fail | the name or pid had no process when the call began, and a dead pid never lives again: the request was received by nobody |
  | the same with target `{name, other_node}` | info | the monitor found nobody, but the request travels behind it, and the name may have been registered in between |
  | a bare `:noproc` | info | it does not tell whose |
  | exit `{:calling_self, _}` | fail | refused before anything was sent |
  | exit `{:timeout, _}`, `:timeout` | info | the request may be in the mailbox still |
  | exit `{{:nodedown, node}, _}`, `{:nodedown, _}` | info | the connection went down before or after the request passed, or after it was performed |
  | exit `{:noconnection, _}`, `:noconnection` | info | the same |
  | exit `{:shutdown, _}`, `{{:shutdown, _}, _}`, `{:normal, _}`, `{:killed, _}` and any other reason of a called process | info | it died at some point of handling requests |
  | error `{:erpc, :noconnection}`, `{:erpc, :timeout}` | info | the function may run, or have run |
  | error `{:erpc, :badarg}`, `{:erpc, :notsup}`, `{:erpc, :system_limit}` | fail | `:erpc` raises them only when no process was spawned |
  | `{:exception, …}`, `{:signal, …}` of `:erpc` | info | raised by the function, perhaps after it did its work; also `:undef`, which may come from deep inside |
  | `{:badrpc, _}` | info | `:rpc` does not tell before from after |
  | Mnesia `{:aborted, {:no_exists, _}}`, `{:no_exists, _, _}`, `{:bad_type, …}` | fail | raised while the transaction's function runs, before a commit begins |
  | any other `{:aborted, _}` | info | a commit may have begun |
  | `:econnrefused`, alone or in `{:error, _}` | fail | no connection came to be |
  | `:closed`, `:econnreset`, `:etimedout`, `:epipe`, … | info | the request may have passed |
  | any exception, also `UndefinedFunctionError` and `FunctionClauseError` | info | it may be raised after the effect |
  | anything thrown | info | the same |

  Two assumptions stand behind the rows that say fail, and a client for which they do not hold catches
  the error and says `{:info, reason}` itself:

  1. The call that failed is the only thing with an effect that the operation did. After a first call
     that succeeded, a second one that fails proves nothing about the first.
  2. A server does not exit with the bare reason `:noproc` while it handles a request (it can, by
     stopping another process that is dead already, from within a callback, without catching).

  A workload or client refines the table by catching what it knows in `invoke` and returning
  `{:fail, reason}` or `{:info, reason}`.
  """

  @typedoc "What was caught, with its kind, or a bare reason."
  @type error :: {:error | :exit | :throw, term()} | term()

  @callers [GenServer, :gen_server, :gen_statem, :gen_event, Agent]
  @not_spawned [:badarg, :notsup, :system_limit]
  @before_commit [:no_exists, :bad_type]

  @depth_max 5
  @items_max 20
  @text_max 500

  @doc """
  What `error` says about an operation; `read_only?` tells whether it only reads.

  Gives the type, and the reason in a form for histories (see `tidy/1`).

      iex> FuzzDist.Outcome.classify({:exit, {:timeout, {GenServer, :call, [Cache, :x, 5000]}}}, false)
      {:info, {:timeout, "GenServer.call Cache"}}

      iex> FuzzDist.Outcome.classify({:exit, {:noproc, {GenServer, :call, [Cache, :x, 5000]}}}, false)
      {:fail, {:noproc, "GenServer.call Cache"}}
  """
  @spec classify(error(), boolean()) :: {:fail | :info, reason :: term()}
  def classify(error, read_only?), do: classify(error, read_only?, [])

  @doc """
  The same with the stack trace of what was caught, which says where it was raised.

  A raised error keeps its module, its message and its place, `{:exception, "RuntimeError", "boom",
  "lib/kv.ex:12: Kv.put/2"}`. An error of the VM without a message, such as `:undef`, becomes the
  exception that Elixir makes of it, which names the function.
  """
  @spec classify(error(), boolean(), Exception.stacktrace()) :: {:fail | :info, reason :: term()}
  def classify(error, read_only?, stacktrace) do
    reason = reason(error)
    type = if read_only? or certain?(reason), do: :fail, else: :info
    {type, error |> named(reason, stacktrace) |> tidy() |> placed(stacktrace)}
  end

  # Atoms and small tuples are all that the VM says of these; the rest stands in the stack trace.
  defp named({:error, _}, reason, [_ | _] = stacktrace)
       when reason in [:undef, :function_clause, :badarg, :badarith],
       do: Exception.normalize(:error, reason, stacktrace)

  defp named({:error, _}, {name, _} = reason, [_ | _] = stacktrace)
       when name in [:badmatch, :case_clause, :try_clause, :badfun, :badarity, :badmap, :badkey],
       do: Exception.normalize(:error, reason, stacktrace)

  defp named(_, reason, _), do: reason

  defp placed({:exception, module, message}, stacktrace) do
    # Built-in functions have no file; those of the user's own do.
    case Enum.find(stacktrace, &in_a_file?/1) do
      nil -> {:exception, module, message}
      entry -> {:exception, module, message, cut(place(entry))}
    end
  end

  defp placed(reason, _stacktrace), do: reason

  # The first place that is neither in this library nor in Erlang's or Elixir's own.
  defp in_a_file?({module, _function, _arity, location}) do
    Keyword.has_key?(location, :file) and not of_a_library?(:code.which(module))
  end

  defp of_a_library?(path) when is_list(path) and path != [] do
    own = :code.which(__MODULE__) |> Path.dirname() |> String.to_charlist()
    Enum.any?([own, :code.lib_dir(), elixir_lib()], &List.starts_with?(path, &1))
  end

  defp of_a_library?(_built_in_or_in_memory), do: false

  # The folder with the libraries of Elixir; without one, the folder of Erlang's.
  defp elixir_lib do
    case :code.lib_dir(:elixir) do
      {:error, _} -> :code.lib_dir()
      path -> path |> Path.dirname() |> String.to_charlist()
    end
  end

  defp place({module, function, arity, location}) do
    arity = if is_list(arity), do: length(arity), else: arity
    file = Path.relative_to_cwd(to_string(location[:file]))
    line = if location[:line], do: ":#{location[:line]}", else: ""
    "#{file}#{line}: #{Exception.format_mfa(module, function, arity)}"
  end

  defp reason({:error, %ErlangError{original: original}}), do: original
  defp reason({:error, %{__exception__: true} = exception}), do: exception
  defp reason({kind, reason}) when kind in [:error, :exit], do: reason
  defp reason({:throw, thrown}), do: {:thrown, thrown}
  defp reason(reason), do: reason

  # Whether the reason proves that nothing took place.
  defp certain?({:noproc, {module, :call, [target | _]}}) when module in @callers,
    do: never_received?(target)

  defp certain?({:calling_self, {module, :call, _}}) when module in @callers, do: true
  defp certain?({:erpc, reason}), do: reason in @not_spawned

  defp certain?({:aborted, reason}) when is_tuple(reason) and tuple_size(reason) > 0,
    do: elem(reason, 0) in @before_commit

  defp certain?(:econnrefused), do: true
  defp certain?({:error, :econnrefused}), do: true
  defp certain?(_), do: false

  defp never_received?({:global, _}), do: true
  defp never_received?({:via, _, _}), do: true
  defp never_received?({_name, node}), do: node == node()
  defp never_received?(target), do: is_pid(target) or is_atom(target)

  @doc """
  A reason in a form for histories: small, comparable between operations, readable without the VM.

  Exceptions become `{:exception, "Module", "message"}`, the call of an exit `"Module.function target"`,
  pids, references, ports and functions their text; deep and long terms are cut.
  """
  @spec tidy(term()) :: term()
  def tidy(reason), do: tidy(reason, @depth_max)

  defp tidy(%{__exception__: true, __struct__: module} = exception, _depth) do
    {:exception, inspect(module), cut(message(exception))}
  end

  defp tidy({reason, {module, function, arguments}}, depth)
       when is_atom(module) and is_atom(function) and is_list(arguments) do
    {tidy(reason, depth - 1), call_text(module, function, arguments)}
  end

  defp tidy(term, _) when is_atom(term) or is_number(term), do: term

  defp tidy(term, _) when is_binary(term) do
    if String.valid?(term), do: cut(term), else: cut(inspect(term))
  end

  defp tidy(term, 0), do: cut(inspect(term, limit: 5))

  defp tidy(term, depth) when is_tuple(term) and tuple_size(term) <= @items_max do
    term |> Tuple.to_list() |> Enum.map(&tidy(&1, depth - 1)) |> List.to_tuple()
  end

  defp tidy([], _), do: []

  defp tidy(term, depth) when is_list(term) do
    if List.improper?(term) or length(term) > @items_max or stacktrace?(term),
      do: cut(inspect(term, limit: 5)),
      else: Enum.map(term, &tidy(&1, depth - 1))
  end

  defp tidy(term, _), do: cut(inspect(term, limit: 5))

  defp stacktrace?([{module, function, arity, location} | _])
       when is_atom(module) and is_atom(function) and is_list(location),
       do: is_integer(arity) or is_list(arity)

  defp stacktrace?(_), do: false

  defp call_text(module, function, [target | _])
       when module in @callers and (is_atom(target) or is_tuple(target)) do
    cut("#{inspect(module)}.#{function} #{inspect(target)}")
  end

  defp call_text(module, function, _), do: "#{inspect(module)}.#{function}"

  # A message/1 of the user's own may raise.
  defp message(exception) do
    Exception.message(exception)
  rescue
    _ -> inspect(exception, limit: 5)
  end

  defp cut(text) when byte_size(text) <= @text_max, do: text
  defp cut(text), do: String.slice(text, 0, @text_max) <> " …"
end
