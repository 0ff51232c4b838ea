defmodule FuzzDist.History do
  @moduledoc """
  A history: what clients did and what came of it, in order.

      {:ok, history} = FuzzDist.History.load("store/register/latest")
      history.count                                 #=> 48213
      {:ok, ops} = FuzzDist.History.to_list(history)
      hd(ops)                                       #=> %{index: 0, time: 1203, process: 0, type: :invoke, f: :read, ...}
      :ok = FuzzDist.History.write(history, "test/failures/split_brain.edn")

  The records stay outside the heap of the process, in one place however often the history is passed on, until
  nothing refers to it. They are freed on a thread of their own.

  ## Records

  | key | what |
  |---|---|
  | `:index` | its place, from 0 |
  | `:time` | nanoseconds since the start of the run; -1 when the history has no times |
  | `:process` | an integer for clients, single-threaded each; `:nemesis`, `:observer` for everything else |
  | `:type` | `:invoke`, then `:ok`, `:fail` or `:info` |
  | `:f` | the function |
  | `:value` | its argument (invocation) or result (completion) |
  | `:error` | why it failed or is indeterminate; only where there is one |
  | `:node` | the short name of its node, a text; only where there is one |

  and whatever else a record of a file has. A list of such maps is a history as well; `:index` is not needed there,
  `:time` and `:f` may be missing. What `:fail` and `:info` mean: `FuzzDist.Outcome`.

  A process begins nothing before what it began is completed, and each completion has its invocation. A list or file
  of which that is not true is refused, with the record.
  """

  alias FuzzDist.Native

  @enforce_keys [:ref, :count]
  defstruct [:ref, :count, notices: []]

  @typedoc """
  `count` records. `notices` are sentences for people about how the file was read: that its end was torn off, that
  records were numbered anew.
  """
  @opaque ref :: reference
  @type t :: %__MODULE__{ref: ref, count: non_neg_integer, notices: [String.t()]}

  @typedoc "One record. See the table above."
  @type op :: %{
          required(:process) => integer | atom,
          required(:type) => type,
          optional(atom) => term
        }
  @type type :: :invoke | :ok | :fail | :info

  @typedoc "What may stand where a history is wanted: itself, the path of a file or of a run's folder, a list of records."
  @type source :: t | Path.t() | [op]

  # Records of one term that crosses: some hundred kilobytes.
  @chunk_count 4096

  @doc """
  Reads the history at `path`: a file in any format that fuzz_dist knows by its content (`history.fdh`, Jepsen's EDN,
  JSON lines), or the folder of a run.

  An error is a sentence that names the file, the line and the column.
  """
  @spec load(Path.t()) :: {:ok, t} | {:error, String.t()}
  def load(path) when is_binary(path) do
    # Where the file system ends a path, and so would the message about it.
    if String.contains?(path, "\0"),
      do: {:error, "a path cannot contain a zero byte: #{inspect(path)}"},
      else: Native.call(:load_history, [path]) |> made()
  end

  @doc "Makes a history of a list of records."
  @spec new([op]) :: {:ok, t} | {:error, String.t()}
  def new(records) when is_list(records),
    do: Native.call(:new_history, [:erlang.term_to_binary(records)]) |> made()

  defp made({:ok, {ref, count, notices}}),
    do: {:ok, %__MODULE__{ref: ref, count: count, notices: notices}}

  defp made({:error, _} = error), do: error

  @doc false
  # The history that a source means.
  def get(%__MODULE__{} = history), do: {:ok, history}
  def get(path) when is_binary(path), do: load(path)
  def get(records) when is_list(records), do: new(records)

  def get(other) do
    {:error,
     "a history is a path, a list of records or what FuzzDist.History.load/1 gives, not #{inspect(other, limit: 5)}"}
  end

  @doc """
  The records as a list of maps.

  Names in the history become atoms, which a VM never frees: a history of more names than half of the atoms that this
  VM has room for is refused.
  """
  @spec to_list(t) :: {:ok, [op]} | {:error, String.t()}
  def to_list(%__MODULE__{ref: ref, count: count}) do
    with :ok <- room_for_atoms(ref),
         {:ok, chunks} <- chunks(ref, 0, count, []),
         do: {:ok, chunks |> Enum.reverse() |> Enum.concat()}
  end

  defp room_for_atoms(ref) do
    room = div(:erlang.system_info(:atom_limit) - :erlang.system_info(:atom_count), 2)

    case Native.call(:atom_count_max, [ref]) do
      {:ok, count} when count <= room ->
        :ok

      {:ok, count} ->
        {:error,
         "the history may have #{count} different names, and this VM should take no more than #{room} " <>
           "as atoms (`erl +t` allows more)"}

      {:error, _} = error ->
        error
    end
  end

  defp chunks(_ref, first, count, chunks) when first >= count, do: {:ok, chunks}

  defp chunks(ref, first, count, chunks) do
    with {:ok, binary} <- Native.call(:records, [ref, first, @chunk_count]),
         {:ok, records} <- decode(binary, first),
         do: chunks(ref, first + @chunk_count, count, [records | chunks])
  end

  # A file can say more than the BEAM: atoms of more than 255 characters, NaN.
  defp decode(binary, first) do
    {:ok, :erlang.binary_to_term(binary)}
  rescue
    ArgumentError ->
      {:error,
       "among the #{@chunk_count} records from #{first} on is a value that is no term of the BEAM, such as a name " <>
         "of more than 255 characters"}
  end

  @doc """
  Writes a history to `path`, as Jepsen's EDN (`.edn`) or as JSON lines (`.jsonl`). The file is there whole, or as it
  was before. Both formats are read by `load/1` and are fit for version control.
  """
  @spec write(source, Path.t()) :: :ok | {:error, String.t()}
  def write(source, path) when is_binary(path) do
    with {:ok, history} <- get(source),
         {:ok, true} <- Native.call(:write_history, [history.ref, path]),
         do: :ok
  end

  defimpl Inspect do
    def inspect(history, _options), do: "#FuzzDist.History<#{history.count} records>"
  end
end
