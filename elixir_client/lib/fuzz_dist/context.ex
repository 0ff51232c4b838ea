defmodule FuzzDist.Context do
  @moduledoc """
  What a callback of a test knows about where it is.

  | field | type | what |
  |---|---|---|
  | `test` | `String.t()` | name of the test |
  | `workload` | `String.t()` | name of the workload, `""` with a generator of one's own |
  | `placement` | `:node \\| :client` | whether callbacks run in the nodes under test or in client VMs |
  | `short` | `String.t()` | short name (`"n1"`) of the node that the callback is about |
  | `node` | `node()` | its full name (`:"n1@127.0.0.1"`); with placement `:node` the same as `node()` |
  | `nodes` | `[{String.t(), node()}]` | all nodes of the test, short and full names |
  | `process` | `integer() \\| nil` | logical process; `nil` in `setup`, `ready`, `primary`, `teardown` |
  | `options` | `map()` | the client's options of the test |
  | `op_timeout_ms` | `pos_integer()` | after this long an operation counts as indeterminate and its process is killed |
  | `seed` | `integer() \\| nil` | seed of the run |
  """

  @type t :: %__MODULE__{
          test: String.t(),
          workload: String.t(),
          placement: :node | :client,
          short: String.t(),
          node: node(),
          nodes: [{String.t(), node()}],
          process: integer() | nil,
          options: map(),
          op_timeout_ms: pos_integer(),
          seed: integer() | nil
        }

  defstruct test: "test",
            workload: "",
            placement: :node,
            short: "n1",
            node: :nonode@nohost,
            nodes: [],
            process: nil,
            options: %{},
            op_timeout_ms: 5_000,
            seed: nil

  @doc "The same context about another node, given by its short or full name."
  @spec at(t(), String.t() | node()) :: t()
  def at(%__MODULE__{nodes: nodes} = context, name) do
    text = to_string(name)

    case Enum.find(nodes, fn {short, node} -> short == text or Atom.to_string(node) == text end) do
      {short, node} -> %{context | short: short, node: node}
      nil -> %{context | short: text, node: String.to_atom(text)}
    end
  end

  @doc "The full names of all nodes of the test."
  @spec node_names(t()) :: [node()]
  def node_names(%__MODULE__{nodes: nodes}), do: Enum.map(nodes, &elem(&1, 1))
end
