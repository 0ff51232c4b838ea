defmodule FuzzDist.InputError do
  @moduledoc """
  What was asked for cannot be done: an unknown option, a module that does not exist, a project that
  does not compile. The mix tasks print its message and exit with 254.
  """
  defexception [:message]
end
