defmodule FuzzDist.Spec.Nemesis do
  @moduledoc false
  # `nemesis:` of a test as the core reads it: names are atoms here (`:half_open`) and have dashes there,
  # places in the system under test may be modules and terms. Names of options are checked, values by the core.

  alias FuzzDist.{InputError, Suggest}

  @nemesis ~w(faults packages era_s interval_s overlap membership boundaries schedule capture)a
  @fault ~w(kind plane targets one_way scope port boundary zones duration_ms pattern after weight optional)a
  @event ~w(event of process seen_by delay_ms)a
  # Of faults of one kind or another; which kind has which is for the core to say.
  @parameters ~w(allow_unsafe bytes_per_s cookie corrupt_percent direction distribution drop_bytes
                 duplicate_percent every_ms file files flush heal_lag host jitter_ms latency_ms loss_percent lost
                 megabytes messages_per_s module offset_ms operations period_ms ppm probability process reason
                 reorder_percent tcp_port)a

  @doc false
  # The options that there are, by place; the core's own tests compare them with its keys.
  @spec known() :: %{atom() => [atom()]}
  def known, do: %{nemesis: @nemesis, fault: @fault, parameters: @parameters, after: @event}

  @doc false
  @spec build!(keyword() | :none, String.t()) :: keyword()
  def build!(:none, _where), do: [packages: []]

  def build!(nemesis, where) do
    known!(nemesis, @nemesis, "#{where}, nemesis:")

    nemesis
    |> Keyword.replace_lazy(:packages, &packages/1)
    |> Keyword.replace_lazy(:membership, &module/1)
    |> Keyword.replace_lazy(:boundaries, &boundaries/1)
    |> Keyword.replace_lazy(:faults, fn faults -> Enum.map(faults, &fault!(&1, where)) end)
    |> chosen()
  end

  # An empty list of faults would not be written, and so choose nothing.
  defp chosen(nemesis) do
    if nemesis[:faults] == [], do: Keyword.put_new(nemesis, :packages, []), else: nemesis
  end

  defp packages(:none), do: []
  defp packages(packages), do: packages |> List.wrap() |> Enum.map(&package/1)

  defp package({name, scope}), do: "#{dashed(name)}:#{scope(scope)}"
  defp package(name), do: dashed(name)

  defp boundaries(:mined), do: "mined"
  defp boundaries(boundaries), do: boundaries

  # A kind alone, or a keyword list.
  defp fault!(kind, _where) when is_atom(kind), do: [kind: dashed(kind)]

  defp fault!(fault, where) do
    known!(fault, @fault ++ @parameters, "#{where}, nemesis: faults:")
    Enum.map(fault, fn {name, value} -> {name, value(name, value, where)} end)
  end

  defp value(:targets, targets, _), do: targets |> List.wrap() |> Enum.map(&target/1)
  defp value(:zones, zones, _), do: zones |> List.wrap() |> Enum.map(&dashed/1)
  defp value(:scope, scope, _), do: scope(scope)
  defp value(:process, process, _), do: process(process)
  defp value(:module, module, _), do: module(module)
  defp value(:files, files, _), do: files |> List.wrap() |> Enum.map(&to_string/1)
  defp value(:operations, operations, _), do: operations |> List.wrap() |> Enum.map(&dashed/1)
  defp value(:after, event, where), do: event!(event, "#{where}, nemesis: faults: after:")
  defp value(name, text, _) when name in [:port, :cookie, :reason, :host, :file], do: text(text)
  defp value(_, value, _), do: dashed(value)

  defp event!(event, where) do
    known!(event, @event, where)

    event
    |> Keyword.replace_lazy(:event, &dashed/1)
    |> Keyword.replace_lazy(:of, &of(&1, event[:event]))
    |> Keyword.replace_lazy(:process, &process/1)
    |> Keyword.replace_lazy(:seen_by, &text/1)
  end

  # A telemetry event, a node, or the kind of a fault.
  defp of(event, _) when is_list(event), do: Enum.map_join(event, ".", &Atom.to_string/1)
  defp of(node, event) when event in [:nodedown, :nodeup], do: text(node)
  defp of(kind, _), do: dashed(kind)

  defp target({name, argument}), do: %{dashed(name) => links(argument)}
  defp target(name), do: dashed(name)

  defp links(arguments) do
    Enum.map(arguments, fn
      {from, to} -> [to_string(from), to_string(to)]
      name -> to_string(name)
    end)
  end

  # `{:global, :leader}`, `[global: :leader]`, `{:child, [MyApp.Supervisor, :id]}`: a name is one of a process or module, and
  # a term is written as Elixir writes it; text stays as it is.
  defp process([{way, place}]), do: process({way, place})
  defp process({way, name}) when way in [:registered, :below], do: %{way => name(name)}
  defp process({:global, term}), do: %{global: term(term)}

  defp process({way, [first | rest]}) when way in [:via, :child],
    do: %{way => [name(first) | Enum.map(rest, &term/1)]}

  defp process({:position, [root | steps]}),
    do: %{position: [name(root) | Enum.map(steps, &to_string/1)]}

  defp process({:resolver, [resolver | rest]}),
    do: %{resolver: [dashed(resolver) | Enum.map(rest, &term/1)]}

  # What is none of them is for the core to refuse.
  defp process(other), do: other

  defp term(text) when is_binary(text), do: text
  defp term(term), do: inspect(term, limit: :infinity, printable_limit: :infinity)

  defp module(module), do: name(module)

  defp name(name) when is_atom(name) and not is_nil(name) do
    case Atom.to_string(name) do
      "Elixir." <> rest -> rest
      text -> text
    end
  end

  defp name(name), do: name

  defp scope({from, to}), do: "#{from}-#{to}"
  defp scope(scope), do: text(scope)

  defp text(atom) when is_atom(atom) and not is_nil(atom), do: Atom.to_string(atom)
  defp text(text), do: text

  @doc false
  # Names of the core have dashes.
  @spec dashed(term()) :: term()
  def dashed(name) when is_atom(name) and name not in [nil, true, false],
    do: name |> Atom.to_string() |> String.replace("_", "-")

  def dashed(name), do: name

  @doc false
  # Refuses options that there are not.
  @spec known!(term(), [atom()], String.t()) :: :ok
  def known!(options, known, where) do
    unless Keyword.keyword?(options) do
      raise InputError, "#{where}: expected a keyword list, found #{inspect(options)}"
    end

    for {name, _} <- options, name not in known do
      raise InputError, "#{where}: unknown option `#{name}`#{Suggest.hint(name, known)}"
    end

    :ok
  end
end
