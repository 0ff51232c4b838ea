# Completions a second of the worker, alone: a server that answers each batch of completions with as many
# invocations, a client that returns at once. One VM each, so that they compete as core and node do.
#
#   MIX_ENV=test mix run --no-start bench/worker.exs [IN_FLIGHT] [SECONDS]
defmodule Bench.Worker do
  alias FuzzDist.StandIn

  def run(in_flight, seconds) do
    server = StandIn.start()
    start_worker(server)
    {connection, _} = StandIn.accept(server)

    init = %{
      module: "Bench.Null",
      nodes: [{"n1", :n1@h}],
      options: %{},
      op_timeout_ms: 5000,
      placement: :node,
      seed: 1
    }

    {:reply, 1, {:ok, :ok}} = StandIn.ask(connection, {:init, 1, init})
    StandIn.send_messages(connection, for(p <- 1..in_flight, do: {:open, p, "n1"}))

    StandIn.send_messages(connection, [{:ops, for(p <- 1..in_flight, do: {p, p, :write, {p, 5}})}])

    started = now_ms()
    count = loop(connection, started + seconds * 1000, 0)
    rate = round(count * 1000 / (now_ms() - started))
    IO.puts("#{in_flight} in flight: #{rate} completions/s")
  end

  defp loop(connection, deadline, count) do
    {:done, done} = StandIn.await(connection)

    StandIn.send_messages(connection, [
      {:ops, for({id, :ok, value} <- done, do: {id, id, :write, value})}
    ])

    count = count + length(done)
    if now_ms() < deadline, do: loop(connection, deadline, count), else: count
  end

  defp start_worker(server) do
    null = """
    defmodule Bench.Null do
      def open(_, context), do: {:ok, context}
      def invoke({_f, value}, _, _), do: {:ok, value}
      def close(_, _), do: :ok
    end
    {:ok, pid} = FuzzDist.Worker.start(#{inspect(StandIn.config(server))})
    monitor = Process.monitor(pid)
    receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
    """

    ebin = Application.app_dir(:fuzz_dist, "ebin")
    spawn_link(fn -> System.cmd("elixir", ["-pa", ebin, "-e", null]) end)
  end

  defp now_ms, do: System.monotonic_time(:millisecond)
end

{in_flight, seconds} =
  case Enum.map(System.argv(), &String.to_integer/1) do
    [] -> {100, 5}
    [in_flight] -> {in_flight, 5}
    [in_flight, seconds] -> {in_flight, seconds}
  end

Bench.Worker.run(in_flight, seconds)
