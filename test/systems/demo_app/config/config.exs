import Config

# Read by the nodes of a test through the sys.config that mix fuzz_dist.run writes.
config :demo_app, replication_timeout_ms: 1_000
