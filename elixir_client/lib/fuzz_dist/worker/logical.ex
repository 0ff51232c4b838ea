defmodule FuzzDist.Worker.Logical do
  @moduledoc false
  # One logical process: opens a client, performs its operations one after the other, closes it.
  #
  # Nothing but the user's callbacks runs here. Messages that are not ours stay in the mailbox: they
  # are the client's (deliveries of a broker, say).

  alias FuzzDist.{Outcome, Telemetry}
  alias FuzzDist.Worker.{Bounds, Callbacks}

  def run(connection, module, context), do: loop(connection, module, context, :unopened)

  defp loop(connection, module, context, client) do
    receive do
      {:"$fuzz_dist_op", id, f, value} ->
        {completion, client} = perform(module, context, client, id, f, value)
        completion = Bounds.keep(completion, value)
        send(connection, {:"$fuzz_dist_done", context.process, self(), completion})
        loop(connection, module, context, client)

      :"$fuzz_dist_close" ->
        with {:open, state} <- client, do: module.close(state, context)
    end
  end

  defp perform(module, context, :unopened, id, f, value) do
    case open(module, context) do
      {:ok, state} -> perform(module, context, {:open, state}, id, f, value)
      {:error, reason} -> {{id, :fail, value, {:no_client, reason}}, :unopened}
    end
  end

  defp perform(module, context, {:open, state}, id, f, value) do
    {completion, state} =
      if Telemetry.observed?(),
        do: observed(module, context, state, id, f, value),
        else:
          module |> invoke(context, state, f, value) |> completion(module, state, id, f, value)

    {completion, {:open, state}}
  end

  defp open(module, context) do
    case module.open(context.node, context) do
      {:ok, state} -> {:ok, state}
      {:error, reason} -> {:error, Outcome.tidy(reason)}
      other -> {:error, {:bad_return, Outcome.tidy(other)}}
    end
  catch
    kind, reason -> {:error, elem(Outcome.classify({kind, reason}, true), 1)}
  end

  defp invoke(module, context, state, f, value) do
    module.invoke({f, value}, state, context)
  catch
    kind, reason -> {:"$fuzz_dist_caught", kind, reason, __STACKTRACE__}
  end

  defp completion(outcome, module, state, id, f, value) do
    case outcome do
      {:ok, result} -> {{id, :ok, result}, state}
      {:ok, result, state} -> {{id, :ok, result}, state}
      {:fail, reason} -> {{id, :fail, value, Outcome.tidy(reason)}, state}
      {:fail, reason, state} -> {{id, :fail, value, Outcome.tidy(reason)}, state}
      {:info, reason} -> {{id, :info, value, Outcome.tidy(reason)}, state}
      {:info, reason, state} -> {{id, :info, value, Outcome.tidy(reason)}, state}
      caught_or_bad -> {classified(caught_or_bad, module, id, f, value), state}
    end
  end

  defp classified({:"$fuzz_dist_caught", kind, reason, stack}, module, id, f, value) do
    {type, reason} = Outcome.classify({kind, reason}, Callbacks.read_only?(module, f), stack)
    {id, type, value, reason}
  end

  # A mistake in the client, not an error of the system: reported even for reads.
  defp classified(other, _module, id, _f, value),
    do: {id, :info, value, {:bad_return, Outcome.tidy(other)}}

  defp observed(module, context, state, id, f, value) do
    metadata = %{
      test: context.test,
      process: context.process,
      node: context.short,
      f: f,
      value: value,
      telemetry_span_context: make_ref()
    }

    started = Telemetry.op_start(metadata)
    outcome = invoke(module, context, state, f, value)
    {completion, _} = done = completion(outcome, module, state, id, f, value)
    metadata = Map.put(metadata, :type, elem(completion, 1))

    case outcome do
      {:"$fuzz_dist_caught", kind, reason, stacktrace} ->
        caught = %{kind: kind, reason: reason, stacktrace: stacktrace}
        Telemetry.op_exception(started, Map.merge(metadata, caught))

      _ ->
        ended = %{result: elem(completion, 2), error: error(completion)}
        Telemetry.op_stop(started, Map.merge(metadata, ended))
    end

    done
  end

  defp error({_id, _type, _value, reason}), do: reason
  defp error({_id, :ok, _value}), do: nil
end
