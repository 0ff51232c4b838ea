defmodule DemoApp.MixProject do
  use Mix.Project

  def project do
    [
      app: :demo_app,
      version: "0.1.0",
      elixir: "~> 1.14",
      deps: [{:fuzz_dist, path: "../../../elixir_client"}]
    ]
  end

  def application, do: [mod: {DemoApp.Application, []}, extra_applications: [:logger]]
end
