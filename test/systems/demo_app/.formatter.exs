[inputs: ["mix.exs", "{config,lib,fuzz_dist}/**/*.{ex,exs}"]]
