ExUnit.start(assert_receive_timeout: 15_000)
