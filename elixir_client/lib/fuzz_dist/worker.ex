defmodule FuzzDist.Worker do
  @moduledoc """
  Performs the operations that the core asks for: one connection, one process for each logical process.

  Runs in a node under test (placement `:node`) or in a client VM; `:fuzz_dist_boot` starts it there,
  nobody needs to call it. It speaks the worker's part of `doc/protocol.md`.

  The connection's process hands each operation to its logical process and gathers completions: whatever
  waits in its mailbox goes out as one frame, so a busy worker pays for few system calls and few
  encodings. It never runs the user's code. A logical process (`FuzzDist.Worker.Logical`) runs nothing
  else, so that one that hangs can be killed at any moment.

  When the connection ends, all logical processes are killed, and it is dialled again for as long as
  the life line allows (one second).
  """

  alias FuzzDist.{Context, Outcome, Telemetry}
  alias FuzzDist.Worker.{Bounds, Callbacks, Logical}

  @agent :fuzz_dist_agent
  @first_connect_ms 10_000
  @life_line_ms 1_000
  @back_off_ms 20
  @batch_max 2_000
  @close_ms 5_000
  @frame_bytes_max 32 * 1024 * 1024
  @classify_ms 1_000

  # `slots`: logical process => {pid, node, operation in flight}; pid is nil before the first operation
  # and after a crash, the operation is nil when there is none.
  defstruct [:ws, :telemetry, :frame_bytes_max, module: nil, context: nil, slots: %{}]

  @doc "Starts the worker with what the core put into the environment."
  @spec start_from_env() :: {:ok, pid()} | {:error, term()}
  def start_from_env do
    with {:ok, config} <- @agent.config_from_env(), do: start(config)
  end

  @doc """
  Starts a worker with the address of the core (`core`, `"127.0.0.1:port"`), the `token` and the
  id (`run`) of the run, and the short name of this node or client VM (`node`). It dials in the
  background.
  """
  @spec start(%{core: iodata(), token: iodata(), node: iodata(), run: iodata()}) :: {:ok, pid()}
  def start(config), do: {:ok, spawn(fn -> dial(config, now_ms() + @first_connect_ms) end)}

  defp dial(config, deadline) do
    case @agent.ws_open(config, :worker, max(1, deadline - now_ms())) do
      {:ok, ws, messages} ->
        limit = Map.get(config, :frame_bytes_max, @frame_bytes_max)
        state = %__MODULE__{ws: ws, telemetry: spawn(&execute_events/0), frame_bytes_max: limit}
        serve(state, messages)
        dial(config, now_ms() + @life_line_ms)

      {:error, _} ->
        if now_ms() + @back_off_ms < deadline do
          Process.sleep(@back_off_ms)
          dial(config, deadline)
        end
    end
  end

  defp serve(state, messages) do
    {state, out, done} = requests(messages, {state, [], []})
    ended = flush(state, out, done)
    send(ended.telemetry, :ended)

    for {_process, {pid, _node, _op}} <- ended.slots, is_pid(pid), do: Process.exit(pid, :kill)
    :ok
  end

  defp loop(state) do
    receive do
      message -> batch(message, {state, [], []}, @batch_max)
    end
  end

  # `done` gathers completions, `out` other answers; both newest first.
  defp batch(message, acc, left) do
    case handle(message, acc) do
      {:lost, state} ->
        state

      {state, out, done} when left == 0 ->
        flush(state, out, done)

      {state, out, done} = acc ->
        receive do
          next -> batch(next, acc, left - 1)
        after
          0 -> flush(state, out, done)
        end
    end
  end

  defp flush(state, [], []), do: loop(state)

  defp flush(state, out, done) do
    messages = if done == [], do: out, else: [done_message(done) | out]

    case send_bounded(state, Enum.reverse(messages)) do
      :ok ->
        loop(state)

      {:error, _} ->
        @agent.ws_close(state.ws)
        state
    end
  end

  # Each completion and answer is bounded, but many together may be more than the core takes at once.
  defp send_bounded(state, messages) do
    if :erlang.external_size(messages) <= state.frame_bytes_max do
      @agent.ws_send(state.ws, messages)
    else
      messages |> Enum.flat_map(&parts/1) |> send_each(state.ws)
    end
  end

  defp send_each([], _ws), do: :ok

  defp send_each([message | rest], ws) do
    with :ok <- @agent.ws_send(ws, [message]), do: send_each(rest, ws)
  end

  defp parts({:done, completions, mono_ns, wall_ns}),
    do: for(completion <- completions, do: {:done, [completion], mono_ns, wall_ns})

  defp parts(message), do: [message]

  # With the clocks of the VM, which may be off: what was completed now was completed by these.
  defp done_message(done) do
    {mono_ns, wall_ns} = @agent.clocks()
    {:done, Enum.reverse(done), mono_ns, wall_ns}
  end

  # The hot path first. A completion of a process that was killed or closed meanwhile is dropped.
  defp handle({:"$fuzz_dist_done", process, pid, completion}, {state, out, done}) do
    case state.slots do
      %{^process => {^pid, node, _op}} = slots ->
        {%{state | slots: %{slots | process => {pid, node, nil}}}, out, [completion | done]}

      _ ->
        {state, out, done}
    end
  end

  defp handle({:"$fuzz_dist_crashed", completion}, {state, out, done}),
    do: {state, out, [completion | done]}

  defp handle({:"$fuzz_dist_answer", answer}, {state, out, done}),
    do: {state, [answer | out], done}

  defp handle({{:"$fuzz_dist_down", process}, _, :process, pid, reason}, {state, out, done}) do
    case state.slots do
      %{^process => {^pid, node, op}} = slots ->
        if op, do: classify_crash(state.module, op, reason)
        {%{state | slots: %{slots | process => {nil, node, nil}}}, out, done}

      _ ->
        {state, out, done}
    end
  end

  defp handle({:"$fuzz_dist_initialised", id, result}, {state, out, done}) do
    case result do
      {:ok, module, context} ->
        {%{state | module: module, context: context}, [reply(id, {:ok, :ok}) | out], done}

      {:error, text} ->
        {state, [reply(id, {:error, text}) | out], done}
    end
  end

  defp handle({:"$fuzz_dist_close_deadline", pid}, acc) do
    Process.exit(pid, :kill)
    acc
  end

  defp handle(message, {state, out, done}) do
    case @agent.ws_receive(state.ws, message) do
      {:ok, messages, ws} -> requests(messages, {%{state | ws: ws}, out, done})
      {:closed, _reason} -> {:lost, state}
      :ignored -> {state, out, done}
    end
  end

  defp requests(messages, acc), do: Enum.reduce(messages, acc, &request/2)

  defp request({:ops, ops}, {state, out, done}) do
    {slots, done} = dispatch(ops, state.slots, done, state)
    {%{state | slots: slots}, out, done}
  end

  defp request({:open, process, node}, {state, out, done}) do
    slots = ended(state.slots, process)
    {%{state | slots: Map.put(slots, process, {nil, to_string(node), nil})}, out, done}
  end

  defp request({:close, process}, {state, out, done}),
    do: {%{state | slots: ended(state.slots, process)}, out, done}

  defp request({:kill, process}, {state, out, done}) do
    {slot, slots} = Map.pop(state.slots, process)
    with {pid, _node, _op} when is_pid(pid) <- slot, do: Process.exit(pid, :kill)
    {%{state | slots: slots}, out, done}
  end

  # Checking the module loads code and may take a while; callbacks and telemetry handlers are the
  # user's. None of them runs in this process.
  defp request({:init, id, map}, acc) do
    connection = self()
    spawn(fn -> send(connection, {:"$fuzz_dist_initialised", id, Callbacks.init(map)}) end)
    acc
  end

  defp request({:callback, id, _name, _node, _ms}, {%{module: nil} = state, out, done}),
    do: {state, [reply(id, {:error, "the worker is not initialised"}) | out], done}

  defp request({:callback, id, name, node, timeout_ms}, {state, _, _} = acc) do
    connection = self()
    %{module: module, context: context} = state

    spawn(fn ->
      result = Callbacks.call(module, name, Context.at(context, node), timeout_ms)
      send(connection, {:"$fuzz_dist_answer", reply(id, bounded(result))})
    end)

    acc
  end

  # By one process, so that handlers hear of things in the order in which they happened.
  defp request({:telemetry, event, measurements, metadata}, {state, _, _} = acc) do
    send(state.telemetry, {:execute, event, on_our_clock(measurements), metadata})
    acc
  end

  defp request({:flush_telemetry, id}, {state, _, _} = acc) do
    send(state.telemetry, {:flush, self(), reply(id, {:ok, :ok})})
    acc
  end

  defp request({:echo, term}, {state, out, done}), do: {state, [{:echo, term} | out], done}

  defp request(unknown, {state, out, done}) when tuple_size(unknown) >= 2 do
    text = "this worker does not know the request #{inspect(elem(unknown, 0))}"
    {state, [reply(elem(unknown, 1), {:error, text}) | out], done}
  end

  defp request(_, acc), do: acc

  # The core stamps with the monotonic clock of the machine, of which the VM's own begins elsewhere.
  defp on_our_clock(%{monotonic_time: stamp} = measurements) do
    ago = System.convert_time_unit(:os.perf_counter(:nanosecond) - stamp, :nanosecond, :native)
    %{measurements | monotonic_time: System.monotonic_time() - ago}
  end

  defp on_our_clock(measurements), do: measurements

  defp execute_events do
    receive do
      {:execute, event, measurements, metadata} ->
        Telemetry.execute(event, measurements, metadata)
        execute_events()

      {:flush, connection, answer} ->
        send(connection, {:"$fuzz_dist_answer", answer})
        execute_events()

      :ended ->
        :ok
    end
  end

  defp dispatch([{id, process, f, value} = op | ops], slots, done, state) do
    case slots do
      %{^process => {pid, node, _}} when is_pid(pid) ->
        send(pid, {:"$fuzz_dist_op", id, f, value})
        dispatch(ops, %{slots | process => {pid, node, op}}, done, state)

      %{^process => {nil, node, _}} when state.module != nil ->
        pid = start_process(process, Context.at(state.context, node), state.module)
        send(pid, {:"$fuzz_dist_op", id, f, value})
        dispatch(ops, %{slots | process => {pid, node, op}}, done, state)

      _ ->
        reason = if state.module, do: :not_open, else: :not_initialised
        dispatch(ops, slots, [{id, :fail, value, {:no_client, reason}} | done], state)
    end
  end

  defp dispatch([], slots, done, _state), do: {slots, done}

  defp start_process(process, context, module) do
    pid = spawn(Logical, :run, [self(), module, %{context | process: process}])
    :erlang.monitor(:process, pid, tag: {:"$fuzz_dist_down", process})
    pid
  end

  defp ended(slots, process) do
    {slot, slots} = Map.pop(slots, process)

    with {pid, _node, _op} when is_pid(pid) <- slot do
      send(pid, :"$fuzz_dist_close")
      Process.send_after(self(), {:"$fuzz_dist_close_deadline", pid}, @close_ms)
    end

    slots
  end

  # The reason of a crash may be that of any process linked to the logical one: it proves nothing, but
  # an operation that only reads is a `fail` all the same. Whether it does, the user's own callback
  # says, in a process of its own: one that blocks must not stop the operations of other processes.
  defp classify_crash(module, {id, _process, f, value}, reason) do
    connection = self()

    spawn(fn ->
      {asked, monitor} =
        spawn_monitor(fn -> exit({:read_only, Callbacks.read_only?(module, f)}) end)

      type =
        receive do
          {:DOWN, ^monitor, :process, _, {:read_only, true}} -> :fail
          {:DOWN, ^monitor, :process, _, _} -> :info
        after
          @classify_ms ->
            Process.exit(asked, :kill)
            :info
        end

      completion = {id, type, value, {:crashed, Outcome.tidy(reason)}}
      send(connection, {:"$fuzz_dist_crashed", completion})
    end)
  end

  defp reply(id, result), do: {:reply, id, result}

  defp bounded(result) do
    case Bounds.excess(result) do
      nil -> result
      {what, limit} -> {:error, "the callback returned a term that is #{what} (#{limit})"}
    end
  end

  defp now_ms, do: System.monotonic_time(:millisecond)
end
