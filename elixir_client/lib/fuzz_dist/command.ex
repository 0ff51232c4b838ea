defmodule FuzzDist.Command do
  @moduledoc false
  # What the mix tasks share: strict options with did-you-mean, and exit codes.
  #
  #   0 valid · 1 invalid · 2 unknown · 254 bad arguments or input · 255 our own failure
  #   141 the reader of the output is gone, as of a program that SIGPIPE ends

  alias FuzzDist.{InputError, Suggest}

  @bad_input 254
  @ours 255
  @broken_pipe 141

  @doc false
  # Runs `fun`, which gives an exit status, and ends the task with it.
  def exit_with(fun) do
    status =
      try do
        fun.()
      rescue
        error in [InputError, Mix.NoProjectError] ->
          complain(Exception.message(error), @bad_input)

        error ->
          unexpected(error, __STACKTRACE__)
      catch
        kind, reason -> complain(ours(Exception.format(kind, reason, __STACKTRACE__)), @ours)
      end

    # A task that succeeds returns, so that it can be part of an alias.
    if status == 0, do: :ok, else: exit({:shutdown, status})
  end

  # The reader of our output is gone (`| head`). The verdict may be lost with it: this is no success.
  defp unexpected(%ErlangError{original: :terminated}, _stacktrace), do: @broken_pipe

  defp unexpected(error, stacktrace),
    do: complain(ours(Exception.format(:error, error, stacktrace)), @ours)

  defp complain(message, status) do
    Mix.shell().error("fuzz_dist: " <> message)
    status
  end

  defp ours(text), do: "this is a failure of fuzz_dist itself, please report it:\n" <> text

  @doc false
  # {options, arguments}; raises InputError that names what is wrong.
  def parse!(arguments, switches, aliases \\ []) do
    case OptionParser.parse(arguments, strict: switches, aliases: aliases) do
      {options, rest, []} -> {options, rest}
      {_, _, [invalid | _]} -> raise InputError, invalid(invalid, switches)
    end
  end

  defp invalid({flag, nil}, switches) do
    known = for {name, _} <- switches, do: "--" <> dashed(name)

    if flag in known,
      do: "#{flag} needs a value",
      else: "unknown flag #{flag}#{Suggest.hint(flag, known)}"
  end

  defp invalid({flag, value}, switches) do
    type = for {name, type} <- switches, "--" <> dashed(name) == flag, do: type

    case type do
      [type] -> "#{flag} takes #{describe(type)}, not `#{value}`"
      _ -> "unknown flag #{flag}"
    end
  end

  defp describe(:integer), do: "a whole number"
  defp describe(:float), do: "a number"
  defp describe(:boolean), do: "no value"
  defp describe(_), do: "a text"

  @doc false
  # Options as flags of the core.
  def flags(options) do
    Enum.flat_map(options, fn
      {name, true} -> ["--" <> dashed(name)]
      {_, false} -> []
      {name, value} -> ["--" <> dashed(name), to_string(value)]
    end)
  end

  defp dashed(name), do: name |> Atom.to_string() |> String.replace("_", "-")
end
