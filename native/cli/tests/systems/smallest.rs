//! The smallest spec of `doc/spec.md` as it is written there, for a module in Elixir and for one in Erlang; and a mix
//! release, which knows nothing of fuzz_dist and loads nothing on demand.

use std::process::Command;

use fuzz_dist_core::OpType;

use super::common::{finish, root};
use super::stage::{Run, Stage};

/// The blocks of TOML in `doc/spec.md`, in order.
fn written_in_the_docs() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("doc/spec.md")).unwrap();
    let blocks = text.split("```toml\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap().to_owned()).collect()
}

fn with_module(module: &str) -> String {
    let line = format!("module = \"{module}\"");
    let found = written_in_the_docs().into_iter().find(|block| block.contains(&line));
    found.unwrap_or_else(|| panic!("no spec of {module} in doc/spec.md"))
}

/// A register on the first node, which all others call. Its only fault is that it is not replicated.
const ERLANG: &str = r#"
-module(my_register).
-export([setup/2, open/2, invoke/3, close/2, loop/1]).
setup(_, #{nodes := [{First, _} | _], short := First}) ->
    register(?MODULE, spawn(?MODULE, loop, [#{}])), ok;
setup(_, _) -> ok.
open(_, #{nodes := [{_, First} | _]}) -> {ok, First}.
close(_, _) -> ok.
invoke({read, {Key, nil}}, First, _) -> {ok, {Key, call(First, {get, Key})}};
invoke({write, {Key, Value}}, First, _) -> ok = call(First, {put, Key, Value}), {ok, {Key, Value}};
invoke({cas, {Key, [Old, New]}}, First, _) ->
    case call(First, {cas, Key, Old, New}) of
        ok -> {ok, {Key, [Old, New]}};
        no -> {fail, mismatch}
    end.
call(Node, Request) ->
    Monitor = monitor(process, {?MODULE, Node}),
    {?MODULE, Node} ! {self(), Monitor, Request},
    receive
        {Monitor, Answer} -> demonitor(Monitor, [flush]), Answer;
        {'DOWN', Monitor, _, _, Reason} -> exit(Reason)
    after 2000 -> exit(timeout)
    end.
loop(State) ->
    receive {From, Ref, Request} ->
        {Answer, Next} = answer(Request, State),
        From ! {Ref, Answer},
        loop(Next)
    end.
answer({get, Key}, State) -> {maps:get(Key, State, nil), State};
answer({put, Key, Value}, State) -> {ok, State#{Key => Value}};
answer({cas, Key, Old, New}, State) ->
    case maps:get(Key, State, nil) of
        Old -> {ok, State#{Key => New}};
        _ -> {no, State}
    end.
"#;

/// The same in Elixir, by way of the first.
const ELIXIR: &str = r"
defmodule MyApp.RegisterTest do
  @behaviour FuzzDist.Client
  defdelegate setup(node, context), to: :my_register
  defdelegate open(node, context), to: :my_register
  defdelegate close(state, context), to: :my_register
  defdelegate invoke(op, state, context), to: :my_register
end
";

fn compiled(folder: &str) -> Stage {
    let stage = Stage::set(&[]);
    stage.scene.write("my_register.erl", ERLANG);
    stage.scene.write("register_test.ex", ELIXIR);
    std::fs::create_dir_all(stage.scene.path(folder)).unwrap();
    for (compiler, source) in [("erlc", "my_register.erl"), ("elixirc", "register_test.ex")] {
        let mut command = Command::new(compiler);
        command.arg("-pa").arg(super::common::live::client_library());
        command.arg("-o").arg(folder).arg(source).current_dir(stage.scene.path("."));
        let ended = finish(&mut command, b"");
        assert_eq!(ended.code, Some(0), "{source}: {ended:?}");
    }
    stage
}

/// Only its length and its faults are given: those of the default take longer than a test.
fn run(stage: &Stage) -> Run {
    let short = ["run", "t.toml", "--time-limit", "2", "--nemesis", "none"];
    let ended = stage.fuzz_dist(&short);
    stage.read(ended)
}

fn assert_operations_on_every_node(run: &Run) {
    run.assert_verdict("valid");
    for node in ["n1", "n2", "n3"] {
        let of_node = |op: &&fuzz_dist_core::Op| {
            op.op_type == OpType::Ok && op.node.is_some_and(|name| name.as_str() == node)
        };
        assert!(run.history.client_ops().filter(of_node).count() > 10, "{node}");
    }
}

#[test]
fn the_smallest_spec_runs_for_a_module_in_elixir() {
    let stage = compiled("_build/dev/lib/my_app/ebin");
    stage.spec(&with_module("MyApp.RegisterTest"));
    let run = run(&stage);
    assert_operations_on_every_node(&run);
    // What was tested is told by the code that the nodes have.
    let nodes = run.results["run"]["tested"]["nodes"].as_object().unwrap();
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    assert!(nodes.values().all(|code| code == &nodes["n1"]), "{nodes:?}");
    assert!(nodes["n1"]["applications"]["my_app"].is_string(), "{nodes:?}");
}

#[test]
fn the_smallest_spec_runs_for_a_module_in_erlang() {
    let stage = compiled("ebin");
    stage.spec(&with_module("my_register"));
    assert_operations_on_every_node(&run(&stage));
}

#[test]
fn a_module_that_is_not_there_is_named() {
    let stage = Stage::set(&[]);
    stage.spec(&with_module("my_register"));
    let ended = stage.fuzz_dist(&["run", "t.toml", "--time-limit", "2", "--nemesis", "none"]);
    assert_eq!(ended.code, Some(254), "{ended:?}");
    assert!(ended.stderr.contains("my_register"), "{ended:?}");
}

/// Runs mix in a folder below the stage.
fn mix(stage: &Stage, folder: &str, arguments: &[&str]) {
    let mut command = Command::new("mix");
    command.args(arguments).env("MIX_ENV", "prod").current_dir(stage.scene.path(folder));
    let ended = finish(&mut command, b"");
    assert_eq!(ended.code, Some(0), "mix {arguments:?}: {ended:?}");
}

/// The spec of a release in the documents, with a real mix release in embedded mode.
#[test]
fn a_mix_release_runs_as_documented() {
    let stage = compiled("client/ebin");
    mix(&stage, ".", &["new", "my_app", "--sup"]);
    let store = "defmodule MyApp.Store do\n  def name, do: :my_app\nend\n";
    stage.scene.write("my_app/lib/store.ex", store);
    mix(&stage, "my_app", &["release", "--quiet"]);
    let client = r"
defmodule MyAppClient do
  @behaviour FuzzDist.Client
  # The worker comes when the applications of the release are up.
  def setup(node, context) do
    true = List.keymember?(Application.started_applications(), :my_app, 0)
    :embedded = :code.get_mode()
    :my_app = MyApp.Store.name()
    :my_register.setup(node, context)
  end

  defdelegate open(node, context), to: :my_register
  defdelegate close(state, context), to: :my_register
  defdelegate invoke(op, state, context), to: :my_register
end
";
    stage.scene.write("client.ex", client);
    let mut compiler = Command::new("elixirc");
    compiler.arg("-pa").arg(super::common::live::client_library());
    compiler.args(["-o", "client/ebin", "client.ex"]).current_dir(stage.scene.path("."));
    assert_eq!(finish(&mut compiler, b"").code, Some(0));
    let spec = with_module("MyAppClient").replace("./_build", "./my_app/_build");
    stage.spec(&spec);
    let run = run(&stage);
    assert_operations_on_every_node(&run);
    let tested = &run.results["run"]["tested"]["nodes"]["n1"]["applications"];
    assert!(tested["my_app"].is_string(), "{tested}");
}
