[
  inputs: ["{mix,.formatter}.exs", "{lib,test}/**/*.{ex,exs}", "../test/systems/**/*.{ex,exs}"],
  import_deps: []
]
