defmodule FuzzDist.Worker.Callbacks do
  @moduledoc false
  # The callbacks of a test that are not operations, and the check of its module, each with its
  # answer in the form of doc/protocol.md.

  alias FuzzDist.{Client, Context}

  @names [:setup, :ready, :primary, :teardown]
  @reads [:read, :whereis]

  # {:ok, module, context} or {:error, sentence}.
  def init(map) do
    with {:ok, module} <- resolve(map[:module]),
         :ok <- Client.validate(module) do
      {:ok, module,
       %Context{
         test: text(map[:test], "test"),
         workload: text(map[:workload], ""),
         placement: map[:placement] || :node,
         nodes: for({short, node} <- map[:nodes] || [], do: {to_string(short), node}),
         options: map[:options] || %{},
         op_timeout_ms: map[:op_timeout_ms] || 5_000,
         seed: map[:seed]
       }}
    end
  end

  defp text(nil, default), do: default
  defp text(value, _), do: to_string(value)

  defp resolve(name) when name in [nil, "", :undefined],
    do: {:error, "the test names no client module (client.module in its spec)"}

  defp resolve(name) when is_atom(name) or is_binary(name), do: {:ok, Client.module(name)}

  defp resolve(other), do: {:error, "client.module is #{inspect(other)}, which names no module"}

  # {:ok, value}, {:ok, :undefined} when the module has none, or {:error, sentence}.
  def call(module, name, context, timeout_ms) do
    cond do
      name not in @names ->
        {:error,
         "there is no callback #{inspect(name)}#{FuzzDist.Suggest.hint(name, @names)}; " <>
           "there are #{Enum.join(@names, ", ")}"}

      not function_exported?(module, name, 2) ->
        {:ok, :undefined}

      true ->
        within(timeout_ms, module, name, context)
    end
  end

  defp within(timeout_ms, module, name, context) do
    caller = self()

    # It ends normally, so that what the callback linked to itself lives on.
    {pid, monitor} = spawn_monitor(fn -> send(caller, {self(), run(module, name, context)}) end)

    where = "#{inspect(module)}.#{name}(#{inspect(context.node)}, context)"

    receive do
      {^pid, result} ->
        Process.demonitor(monitor, [:flush])
        result

      {:DOWN, ^monitor, :process, ^pid, reason} ->
        {:error, "#{where} in #{node()} died: #{Exception.format_exit(reason)}"}
    after
      timeout_ms ->
        Process.exit(pid, :kill)
        {:error, "#{where} in #{node()} did not return within #{timeout_ms} ms"}
    end
  end

  defp run(module, name, context) do
    normalise(name, apply(module, name, [context.node, context]), context)
  catch
    # A server that is not up yet: the most usual way of not being ready.
    :exit, _reason when name == :ready ->
      {:ok, false}

    kind, reason ->
      text = Exception.format(kind, reason, __STACKTRACE__)
      {:error, "#{inspect(module)}.#{name}/2 in #{node()} failed: #{text}"}
  end

  defp normalise(:ready, {:error, _}, _), do: {:ok, false}
  defp normalise(name, :error, _), do: {:error, "#{name}/2 returned :error"}
  defp normalise(_, {:error, reason}, _) when is_binary(reason), do: {:error, reason}
  defp normalise(_, {:error, reason}, _), do: {:error, inspect(reason)}
  defp normalise(:ready, ready, _) when ready in [true, :ok], do: {:ok, true}
  defp normalise(:ready, false, _), do: {:ok, false}

  defp normalise(:ready, other, _),
    do:
      {:error,
       "ready/2 returned #{inspect(other)} instead of true, :ok, false or {:error, reason}"}

  defp normalise(:primary, true, context), do: {:ok, [context.short]}
  defp normalise(:primary, nobody, _) when nobody in [nil, false], do: {:ok, []}

  defp normalise(:primary, nodes, context),
    do: {:ok, nodes |> List.wrap() |> Enum.map(&Context.at(context, &1).short)}

  defp normalise(_, _value, _), do: {:ok, :ok}

  # Runs in a logical process, or in one of its own: the callback may block. It must not raise.
  def read_only?(module, f) do
    if function_exported?(module, :read_only?, 1),
      do: module.read_only?(f) == true,
      else: f in @reads
  rescue
    _ -> false
  catch
    _, _ -> false
  end
end
