defmodule FuzzDist.StandIn do
  @moduledoc false
  # The core's side of doc/protocol.md for tests: a small websocket server. The process that starts it
  # accepts connections and gets what agents say as `{:agent, connection, message}`.

  import Bitwise

  defstruct [:listener, :port, :token, :run]

  def start(token \\ "secret", run \\ "run-1") do
    {:ok, listener} =
      :gen_tcp.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}, nodelay: true, backlog: 16])

    {:ok, port} = :inet.port(listener)
    %__MODULE__{listener: listener, port: port, token: token, run: run}
  end

  def stop(server), do: :gen_tcp.close(server.listener)

  # What an agent needs to dial this server.
  def config(server, node \\ "n1") do
    %{core: "127.0.0.1:#{server.port}", token: server.token, run: server.run, node: node}
  end

  # Accepts one agent up to its hello and welcomes it: {connection, hello}. `glue: true` sends the
  # welcome in one packet with the answer to the upgrade, `messages` with the welcome.
  def accept(server, options \\ []) do
    owner = self()
    {pid, monitor} = spawn_monitor(fn -> serve(server, owner, options) end)

    receive do
      {:accepted, ^pid, hello} -> {pid, hello}
      {:DOWN, ^monitor, :process, ^pid, reason} -> raise "no agent came: #{inspect(reason)}"
    after
      15_000 -> raise "no agent came"
    end
  end

  def send_messages(connection, messages), do: send(connection, {:send, frame(messages)})
  def send_raw(connection, bytes), do: send(connection, {:send, bytes})

  def close(connection) do
    monitor = Process.monitor(connection)
    send(connection, :close)

    receive do
      {:DOWN, ^monitor, _, _, _} -> :ok
    end
  end

  # The next message of this connection for which `pattern?` holds; others stay.
  def await(connection, timeout_ms \\ 15_000) do
    receive do
      {:agent, ^connection, message} -> message
    after
      timeout_ms -> raise "the agent said nothing within #{timeout_ms} ms"
    end
  end

  # Sends a request and gives the answer with its id.
  def ask(connection, request) do
    send_messages(connection, [request])
    await(connection)
  end

  def frame(messages), do: frame(2, 1, :erlang.term_to_binary(messages))

  def frame(opcode, fin, payload) do
    [<<fin::1, 0::3, opcode::4>>, length_field(byte_size(payload)), payload]
    |> IO.iodata_to_binary()
  end

  defp length_field(size) when size < 126, do: <<0::1, size::7>>
  defp length_field(size) when size < 65_536, do: <<0::1, 126::7, size::16>>
  defp length_field(size), do: <<0::1, 127::7, size::64>>

  defp serve(server, owner, options) do
    {:ok, socket} = :gen_tcp.accept(server.listener, 15_000)
    {request, rest} = read_request(socket, "")

    if request =~ "authorization: Bearer #{server.token}\r\n" and request =~ "GET /agent " do
      upgrade(server, socket, request, rest, owner, options)
    else
      :ok = :gen_tcp.send(socket, "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")
      :gen_tcp.close(socket)
      send(owner, {:accepted, self(), :unauthorized})
    end
  end

  defp upgrade(server, socket, request, rest, owner, options) do
    [_, key] = Regex.run(~r/sec-websocket-key: (\S+)/, request)
    magic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = Base.encode64(:crypto.hash(:sha, key <> magic))

    head =
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" <>
        "Sec-WebSocket-Accept: #{options[:accept] || accept}\r\n\r\n"

    run = options[:run] || server.run
    welcome = frame([{:welcome, %{run: run}} | options[:messages] || []])
    glue = Keyword.get(options, :glue, false)
    :ok = :gen_tcp.send(socket, if(glue, do: head <> welcome, else: head))
    {hello, rest} = first(socket, rest)
    unless glue, do: :ok = :gen_tcp.send(socket, welcome)
    send(owner, {:accepted, self(), hello})
    :ok = :inet.setopts(socket, active: true, buffer: 262_144)
    loop(socket, rest, owner)
  end

  defp read_request(socket, seen) do
    case String.split(seen, "\r\n\r\n", parts: 2) do
      [head, rest] ->
        {head <> "\r\n", rest}

      [_] ->
        {:ok, more} = :gen_tcp.recv(socket, 0, 15_000)
        read_request(socket, seen <> more)
    end
  end

  defp first(socket, buffer) do
    case take(buffer) do
      {2, payload, rest} ->
        [{:hello, hello}] = :erlang.binary_to_term(payload)
        {hello, rest}

      :more ->
        case :gen_tcp.recv(socket, 0, 15_000) do
          {:ok, more} -> first(socket, buffer <> more)
          {:error, reason} -> exit({:shutdown, reason})
        end
    end
  end

  defp loop(socket, buffer, owner) do
    buffer = tell(buffer, owner)

    receive do
      {:tcp, ^socket, bytes} ->
        loop(socket, buffer <> bytes, owner)

      {:tcp_closed, ^socket} ->
        send(owner, {:agent, self(), :closed})

      {:send, bytes} ->
        :gen_tcp.send(socket, bytes)
        loop(socket, buffer, owner)

      :close ->
        :gen_tcp.close(socket)
    end
  end

  defp tell(buffer, owner) do
    case take(buffer) do
      {2, payload, rest} ->
        for message <- :erlang.binary_to_term(payload), do: send(owner, {:agent, self(), message})
        tell(rest, owner)

      {opcode, payload, rest} ->
        send(owner, {:agent, self(), {:control, opcode, payload}})
        tell(rest, owner)

      :more ->
        buffer
    end
  end

  # Clients must mask (RFC 6455 5.1): the mask bit is required, whatever the key.
  defp take(
         <<1::1, 0::3, opcode::4, 1::1, 127::7, n::64, key::4-binary, p::binary-size(n),
           r::binary>>
       ),
       do: {opcode, unmask(p, key), r}

  defp take(
         <<1::1, 0::3, opcode::4, 1::1, 126::7, n::16, key::4-binary, p::binary-size(n),
           r::binary>>
       ),
       do: {opcode, unmask(p, key), r}

  defp take(<<1::1, 0::3, opcode::4, 1::1, n::7, key::4-binary, p::binary-size(n), r::binary>>)
       when n < 126,
       do: {opcode, unmask(p, key), r}

  defp take(_), do: :more

  defp unmask(payload, <<0::32>>), do: payload

  defp unmask(payload, key) do
    mask = key |> :binary.bin_to_list() |> Stream.cycle()
    payload |> :binary.bin_to_list() |> Enum.zip_with(mask, &bxor/2) |> :binary.list_to_bin()
  end
end
