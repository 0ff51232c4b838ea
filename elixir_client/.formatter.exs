[
  inputs: [
    "{mix,.formatter}.exs",
    "{lib,test,bench}/**/*.{ex,exs}",
    "../test/systems/**/*.{ex,exs}"
  ],
  export: [locals_without_parens: []]
]
