defmodule FuzzDist.Clients do
  @moduledoc false
  # Clients for tests of the worker.

  defmodule Blocking do
    @moduledoc false
    use FuzzDist.Client

    @impl true
    def invoke({:write, value}, _state, _context), do: {:ok, value}

    def invoke({:crash, _}, _state, _context) do
      spawn_link(fn -> exit(:boom) end)
      Process.sleep(:infinity)
    end

    @impl true
    def read_only?(_f), do: Process.sleep(:infinity)
  end

  defmodule Echo do
    @moduledoc false
    @behaviour FuzzDist.Client

    @impl true
    def open(node, context), do: {:ok, {node, context.process, 0}}

    @impl true
    def invoke({:write, value}, _state, _context), do: {:ok, value}
    def invoke({:count, _}, {n, p, count}, _context), do: {:ok, count, {n, p, count + 1}}
    def invoke({:state, _}, {node, process, _} = state, _), do: {:ok, {node, process}, state}
    def invoke({:fail, reason}, _state, _context), do: {:fail, reason}
    def invoke({:info, reason}, state, _context), do: {:info, reason, state}
    def invoke({:raise, text}, _state, _context), do: raise(ArgumentError, text)
    def invoke({:throw, term}, _state, _context), do: throw(term)
    def invoke({:bad, term}, _state, _context), do: term
    def invoke({:deep, levels}, _, _), do: {:ok, Enum.reduce(1..levels, 0, fn _, t -> [t] end)}
    def invoke({:large, bytes}, _, _), do: {:ok, <<0::size(bytes)-unit(8)>>}
    def invoke({:deep_reason, n}, _, _), do: {:fail, Enum.reduce(1..n, 0, fn _, t -> {t} end)}
    def invoke({:hang, _}, _state, _context), do: Process.sleep(:infinity)
    def invoke({:read, :raise}, _state, _context), do: raise("no answer")

    def invoke({:linked, _}, _state, _context) do
      spawn_link(fn -> exit(:boom) end)
      Process.sleep(:infinity)
    end

    def invoke({:tell, text}, _state, context) do
      send(:erlang.list_to_pid(String.to_charlist(text)), {:told, context.short, self()})
      {:ok, text}
    end

    @impl true
    def close(state, context) do
      with %{closed: name} <- context.options,
           do: send(String.to_existing_atom(name), {:closed, state})
    end

    @impl true
    def setup(node, context), do: if(context.short == "n9", do: {:error, "no #{node}"}, else: :ok)

    @impl true
    def ready(_node, context) do
      case context.short do
        "n1" -> true
        "n2" -> exit({:noproc, :not_up_yet})
        _ -> raise "broken"
      end
    end

    @impl true
    def primary(_node, context), do: context |> FuzzDist.Context.node_names() |> hd()
  end

  defmodule CannotOpen do
    @moduledoc false
    @behaviour FuzzDist.Client

    @impl true
    def open(_node, context) do
      if :persistent_term.get({__MODULE__, :open}, false),
        do: {:ok, context},
        else: {:error, :econnrefused}
    end

    @impl true
    def invoke({_f, value}, _state, _context), do: {:ok, value}

    @impl true
    def close(_state, _context), do: :ok
  end

  defmodule Incomplete do
    @moduledoc false
    def open(_node, _context), do: {:ok, nil}
    def invoke(_operation, _state), do: :ok
    def clse(_state, _context), do: :ok
  end
end
