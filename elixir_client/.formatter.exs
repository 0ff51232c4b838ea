[
  inputs: ["{mix,.formatter}.exs", "{lib,test}/**/*.{ex,exs}", "../test/systems/**/*.{ex,exs}"],
  export: [locals_without_parens: []]
]
