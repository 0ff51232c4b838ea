defmodule FuzzDist.TasksTest do
  # The mix tasks in a real project of their own, with a script in place of the core.
  use ExUnit.Case

  # `bin/check` leaves out what starts a mix for each test.
  @moduletag :slow
  @moduletag timeout: 300_000

  setup_all do
    root =
      Path.join(
        System.tmp_dir!(),
        "fuzz_dist-tasks-#{System.unique_integer([:positive])}-#{System.pid()}"
      )

    File.mkdir_p!(Path.join(root, "lib"))
    on_exit(fn -> File.rm_rf!(root) end)

    File.write!(Path.join(root, "mix.exs"), """
    defmodule UserApp.MixProject do
      use Mix.Project
      def project, do: [app: :user_app, version: "0.1.0", deps: [{:fuzz_dist, path: #{inspect(File.cwd!())}}]]
      def application, do: [extra_applications: [:logger], env: [answer: 42]]
    end
    """)

    File.write!(Path.join(root, "lib/user_app.ex"), "defmodule UserApp do\nend\n")

    # Says what it was called with, then ends as FAKE_STATUS says, or waits for the end of its life line.
    core = Path.join(root, "core")

    File.write!(core, """
    #!/bin/sh
    printf '%s\\n' "$@" > "$FAKE_OUT"
    for last; do :; done
    [ "$2" != --print-spec ] || { cat "$FAKE_SPEC" && exit "$FAKE_STATUS"; }
    [ ! -f "$last" ] || cp "$last" "$FAKE_OUT.input"
    echo "core says hello"
    if [ "$FAKE_STATUS" = wait ]; then
      echo $$ > "$FAKE_OUT.pid"
      cat <&3 > /dev/null
      touch "$FAKE_OUT.eof"
      exit 0
    fi
    exit "$FAKE_STATUS"
    """)

    File.chmod!(core, 0o755)
    {:ok, root: root, core: core, out: Path.join(root, "called")}
  end

  setup %{out: out, root: root} do
    for path <- [out, out <> ".pid", out <> ".eof"], do: File.rm(path)
    File.rm_rf!(Path.join(root, "fuzz_dist"))
    :ok
  end

  defp env(context, status) do
    [
      {"FUZZ_DIST_BIN", context.core},
      {"FAKE_OUT", context.out},
      {"FAKE_STATUS", to_string(status)},
      {"FAKE_SPEC", context[:stored] || "/dev/null"},
      {"MIX_ENV", "dev"}
    ]
  end

  defp mix(context, arguments, status \\ 0) do
    System.cmd("mix", arguments,
      cd: context.root,
      env: env(context, status),
      stderr_to_stdout: true
    )
  end

  defp called(context), do: context.out |> File.read!() |> String.split("\n", trim: true)

  test "new writes a test that run finds; the core gets its spec", context do
    assert {text, 0} = mix(context, ["fuzz_dist.new"])
    assert text =~ "Wrote fuzz_dist/register.exs with UserApp.RegisterTest"
    assert {text, 254} = mix(context, ["fuzz_dist.new"])
    assert text =~ "fuzz_dist/register.exs exists already"
    assert {text, 254} = mix(context, ["fuzz_dist.new", "Big-Name"])
    assert text =~ "`Big-Name`"

    assert {text, 0} =
             mix(context, ~w(fuzz_dist.run --seed 7 --time-limit 3.5 --concurrency 2n --json))

    assert text =~ "core says hello"
    assert ["run", spec | flags] = called(context)
    assert flags == ~w(--seed 7 --time-limit 3.5 --concurrency 2n --json --life-line-fd 3)

    toml = File.read!(Path.join(context.root, spec))
    assert toml =~ ~s(module = "UserApp.RegisterTest")
    assert toml =~ ~s(FUZZ_DIST_APP = "user_app")
    assert toml =~ "_build/dev/lib/user_app/ebin"
    assert toml =~ "fuzz_dist_boot"

    config = Path.join([context.root, Path.dirname(spec), "sys.config"])
    assert {:ok, [settings]} = :file.consult(config)
    assert settings[:user_app] == [answer: 42]

    # What is only in a file must be where nodes can load it.
    beam = Path.join(context.root, "_build/dev/fuzz_dist/ebin/Elixir.UserApp.RegisterTest.beam")
    assert File.regular?(beam)
    assert {same, 0} = mix(context, ~w(fuzz_dist.run UserApp.RegisterTest --print-spec))
    assert same =~ ~s(module = "UserApp.RegisterTest")
  end

  test "the exit status is the core's", context do
    mix(context, ["fuzz_dist.new"])

    for status <- [0, 1, 2, 254, 255] do
      assert {_, ^status} = mix(context, ["fuzz_dist.run"], status)
    end

    assert {_, 2} = mix(context, ~w(fuzz_dist.check --checker stats history.edn), 2)
    assert called(context) == ~w(check --checker stats history.edn)
  end

  test "a replay runs the project and the test as they are now", context do
    mix(context, ["fuzz_dist.new"])
    assert {toml, 0} = mix(context, ~w(fuzz_dist.run UserApp.RegisterTest --print-spec))
    stored = Path.join(context.root, "stored.toml")
    File.write!(stored, toml)
    context = Map.put(context, :stored, stored)
    lib = Path.join(context.root, "lib/user_app.ex")
    config = Path.join(context.root, "config/config.exs")
    test = Path.join(context.root, "fuzz_dist/register.exs")
    on_exit(fn -> File.rm_rf!(Path.dirname(config)) end)

    File.write!(lib, "defmodule UserApp do\n  def new_code, do: :in_lib\nend\n")
    File.mkdir_p!(Path.dirname(config))
    File.write!(config, "import Config\nconfig :user_app, answer: 43\n")
    text = File.read!(test)

    File.write!(
      test,
      String.replace(text, "do: is_pid(", "do: Process.get(:in_test) == 1 or is_pid(")
    )

    assert {said, 0} = mix(context, ~w(fuzz_dist.replay latest))
    assert called(context) == ~w(replay latest --life-line-fd 3), said
    build = Path.join(context.root, "_build/dev")
    assert File.read!(Path.join(build, "lib/user_app/ebin/Elixir.UserApp.beam")) =~ "new_code"
    beam = File.read!(Path.join(build, "fuzz_dist/ebin/Elixir.UserApp.RegisterTest.beam"))
    assert beam =~ "in_test"

    assert {:ok, [settings]} =
             :file.consult(Path.join(build, "fuzz_dist/UserApp.RegisterTest/sys.config"))

    assert settings[:user_app] == [answer: 43]

    # What does not compile is not run with the code of yesterday.
    File.write!(lib, "defmodule UserApp do\n  def\nend\n")
    File.rm!(context.out)
    assert {_, 254} = mix(context, ~w(fuzz_dist.replay latest))
    refute called(context) == ~w(replay latest --life-line-fd 3)
    File.write!(lib, "defmodule UserApp do\nend\n")
    File.rm!(test)
    File.rm_rf!(Path.join(build, "fuzz_dist/ebin"))
    assert {said, 254} = mix(context, ~w(fuzz_dist.replay latest))
    assert said =~ "the test UserApp.RegisterTest, which is not in the project"

    # A run that no mix task made, another build, and what the core refuses.
    File.write!(stored, "name = \"t\"\n")
    assert {_, 0} = mix(context, ~w(fuzz_dist.replay latest))
    assert called(context) == ~w(replay latest --life-line-fd 3)
    File.write!(stored, String.replace(toml, "/dev/fuzz_dist/", "/test/fuzz_dist/"))
    assert {said, 254} = mix(context, ~w(fuzz_dist.replay latest))
    assert said =~ "set MIX_ENV=test"
    assert {_, 254} = mix(context, ~w(fuzz_dist.replay lates), 254)
    assert called(context) == ~w(replay --print-spec lates)
  end

  test "what config/runtime.exs raises names the file and the line, with 254", context do
    mix(context, ["fuzz_dist.new"])
    path = Path.join(context.root, "config/runtime.exs")
    File.mkdir_p!(Path.dirname(path))
    on_exit(fn -> File.rm_rf!(Path.dirname(path)) end)

    for {code, message} <- [
          {~s|System.fetch_env!("NO_SUCH_VARIABLE")|, "NO_SUCH_VARIABLE"},
          {~s|raise "no database"|, "no database"},
          {~s|String.to_integer("x")|, "ArgumentError"},
          {~s|throw :ball|, ":ball"}
        ] do
      File.write!(path, "import Config\nconfig :user_app, x: #{code}\n")
      assert {text, 254} = mix(context, ["fuzz_dist.run"])
      assert text =~ message
      assert text =~ "config/runtime.exs:"
      refute text =~ "report it"
    end
  end

  test "a client that lacks a callback is refused before anything starts", context do
    File.mkdir_p!(Path.join(context.root, "fuzz_dist"))

    for {body, message} <- [
          {"def write(_, _, _), do: :ok",
           "lacks the callback read/2 of FuzzDist.Workload.Register"},
          {"def read(_), do: {:ok, 1}\ndef write(_, _, _), do: :ok",
           "has read/1, but the callback of FuzzDist.Workload.Register is read/2"},
          {"def read(_, _), do: {:ok, 1}\ndef write(_, _, _), do: :ok\ndef cas(_, _, _), do: :ok",
           "has cas/3, but the callback of FuzzDist.Workload.Register is cas/4"}
        ] do
      write_test(context, "workload: :register", body)
      assert {text, 254} = mix(context, ["fuzz_dist.run"])
      assert text =~ "UserApp.OneTest #{message}"
      refute File.exists?(context.out)
    end

    write_test(context, "generator: %{f: :get}", "def go(_), do: :ok")
    assert {text, 254} = mix(context, ["fuzz_dist.run"])
    assert text =~ "UserApp.OneTest lacks the callback invoke/3 of FuzzDist.Client"

    # open/2 and close/2 have defaults, and without cas/4 nothing is compared and set.
    write_test(context, "generator: %{f: :get}", "def invoke(_, _, _), do: {:ok, 1}")
    assert {_, 0} = mix(context, ["fuzz_dist.run"])

    write_test(
      context,
      "workload: :register",
      "def read(_, _), do: {:ok, 1}\ndef write(_, _, _), do: :ok"
    )

    assert {toml, 0} = mix(context, ["fuzz_dist.run", "--print-spec"])
    assert toml =~ "cas = false"
    # The name that runs print names the test too.
    assert {_, 0} = mix(context, ["fuzz_dist.run", "user_app-one_test"])
    assert {text, 254} = mix(context, ["fuzz_dist.run", "user_app-one_tset"])
    assert text =~ "did you mean `user_app-one_test`?"
  end

  defp write_test(context, options, body) do
    File.write!(Path.join(context.root, "fuzz_dist/one.exs"), """
    defmodule UserApp.OneTest do
      use FuzzDist.Test, #{options}
      #{body}
    end
    """)
  end

  test "standard input reaches a check byte for byte, and nothing is left", context do
    input = :binary.list_to_bin(for i <- 0..99_999, do: rem(i * i, 256))
    File.write!(Path.join(context.root, "input.gz"), input)
    command = "mix fuzz_dist.check --checker stats - < input.gz"
    options = [cd: context.root, env: env(context, 0), stderr_to_stdout: true]
    assert {_, 0} = System.cmd("sh", ["-c", command], options)
    assert ["check", "--checker", "stats", path] = called(context)
    assert File.read!(context.out <> ".input") == input
    refute File.exists?(Path.dirname(path))
  end

  test "wrong arguments are named, with 254, and nothing runs", context do
    File.mkdir_p!(Path.join(context.root, "fuzz_dist"))
    File.write!(Path.join(context.root, "fuzz_dist/broken.exs"), "defmodule X do def")
    File.write!(Path.join(context.root, "fuzz_dist/none.exs"), "defmodule Nothing do end")

    for {arguments, message} <- [
          {~w(--sed 7), "unknown flag --sed (did you mean `--seed`?)"},
          {~w(--seed many), "--seed takes a whole number, not `many`"},
          {~w(--seed), "--seed needs a value"},
          {~w(fuzz_dist/nothing.exs), "there is no file fuzz_dist/nothing.exs"},
          {~w(fuzz_dist/none.exs),
           "fuzz_dist/none.exs defines no module with `use FuzzDist.Test`"},
          {~w(fuzz_dist/broken.exs), "fuzz_dist/broken.exs does not compile"},
          {~w(UserApp), "UserApp is not a test"}
        ] do
      assert {text, 254} = mix(context, ["fuzz_dist.run" | arguments])
      assert text =~ message
    end

    File.rm_rf!(Path.join(context.root, "fuzz_dist"))
    assert {text, 254} = mix(context, ["fuzz_dist.run"])
    assert text =~ "there is no test"
    assert text =~ "mix fuzz_dist.new"
    mix(context, ["fuzz_dist.new"])
    assert {text, 254} = mix(context, ["fuzz_dist.run", "UserApp.RegisterTst"])
    assert text =~ "there is no test UserApp.RegisterTst (did you mean `UserApp.RegisterTest`?)"
    refute File.exists?(context.out)
  end

  test "a binary that is not there is named", context do
    mix(context, ["fuzz_dist.new"])
    context = %{context | core: "/nowhere/fuzz_dist"}
    assert {text, status} = mix(context, ["fuzz_dist.run"])
    assert status in [1, 254]
    assert text =~ "FUZZ_DIST_BIN names /nowhere/fuzz_dist, which is not a file"
  end

  test "the core's life line ends when this VM is killed", context do
    mix(context, ["fuzz_dist.new"])

    port =
      Port.open({:spawn_executable, System.find_executable("mix")}, [
        :binary,
        :exit_status,
        args: ["fuzz_dist.run"],
        cd: context.root,
        env: for({k, v} <- env(context, "wait"), do: {to_charlist(k), to_charlist(v)})
      ])

    {:os_pid, os_pid} = Port.info(port, :os_pid)
    eventually(fn -> File.exists?(context.out <> ".pid") end)
    refute File.exists?(context.out <> ".eof")
    {_, 0} = System.cmd("kill", ["-9", to_string(os_pid)])
    eventually(fn -> File.exists?(context.out <> ".eof") end)
  end

  defp eventually(condition, left \\ 600) do
    cond do
      condition.() -> :ok
      left == 0 -> flunk("it did not happen")
      true -> Process.sleep(100) && eventually(condition, left - 1)
    end
  end
end
