//! Systems under test that cannot be tested: the message says what is wrong with which node or module, the exit
//! code is 254, and no process is left.
//!
//! These start real nodes and need the compiled client library (`mix compile` in `elixir_client`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{Ended, Scene, assert_refused};

/// A node that holds the worker, as `mix fuzz_dist.run` starts them.
const ELIXIR: &str =
    r#"["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]"#;

/// How long after the end of a run its processes may still be found. The promise is two seconds; a machine that
/// is busy with other tests gets more.
const GONE_DEADLINE: Duration = Duration::from_secs(10);

fn run(scene: &Scene, command: &str, module: &str) -> Ended {
    scene.write(
        "t.toml",
        format!(
            "name = \"t\"\nnodes = 2\ntime_limit_s = 1\nwarm_up_s = 0\nrecovery_s = 0\n\
             [cluster]\ncommand = {command}\nready_timeout_ms = 20000\n\
             [client]\nmodule = \"{module}\"\n[workload]\nname = \"register\"\n"
        ),
    );
    let ended = scene.run(&["run", "t.toml"]);
    assert_nothing_left(scene);
    ended
}

/// No process has an id of a run of this scene in its environment.
fn assert_nothing_left(scene: &Scene) {
    let Ok(runs) = fs::read_dir(scene.path("store/t")) else { return };
    let ids: Vec<String> =
        runs.map(|run| run.unwrap().file_name().into_string().unwrap()).collect();
    let started = Instant::now();
    loop {
        let left: Vec<PathBuf> = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|process| {
                let environment = fs::read(process.join("environ")).unwrap_or_default();
                let text = String::from_utf8_lossy(&environment).into_owned();
                ids.iter().any(|id| text.split('\0').any(|v| v == format!("FUZZ_DIST_RUN={id}")))
            })
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(started.elapsed() < GONE_DEADLINE, "left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_module_that_does_not_exist() {
    let scene = Scene::new();
    let ended = run(&scene, ELIXIR, "NoSuchModule");
    assert_refused(&ended, &["NoSuchModule"]);
}

#[test]
fn a_module_without_the_callbacks() {
    let scene = Scene::new();
    let ended = run(&scene, ELIXIR, "Enum");
    assert_refused(&ended, &["Enum", "open", "invoke"]);
}

#[test]
fn a_program_that_does_not_exist() {
    let scene = Scene::new();
    let ended = run(&scene, r#"["no_such_program"]"#, "M");
    assert_refused(&ended, &["no_such_program"]);
}

#[test]
fn a_node_that_ends_at_once() {
    let scene = Scene::new();
    let ended = run(&scene, r#"["sh", "-c", "echo my last words; exit 3"]"#, "M");
    assert_refused(&ended, &["error: n", "output.log", "my last words", "exit status 3"]);
}

#[test]
fn a_node_that_never_becomes_ready() {
    let scene = Scene::new();
    scene.write(
        "t.toml",
        "name = \"t\"\nnodes = 2\n[cluster]\ncommand = [\"sleep\", \"600\"]\n\
         ready_timeout_ms = 1000\n[client]\nmodule = \"M\"\n[workload]\nname = \"register\"\n",
    );
    let ended = scene.run(&["run", "t.toml"]);
    assert_refused(&ended, &["error: n", "was not ready", "cluster.ready_timeout_ms = 1000"]);
    assert_nothing_left(&scene);
}

#[test]
fn a_port_that_is_in_use() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let listen = format!(
        "{{ok, _}} = gen_tcp:listen({port}, [{{ip, {{127, 0, 0, 1}}}}]), timer:sleep(infinity)."
    );
    let scene = Scene::new();
    let ended = run(&scene, &format!(r#"["erl", "-noinput", "-eval", "{listen}"]"#), "M");
    assert_refused(&ended, &["error: n", "eaddrinuse", "in use"]);
}

/// An application whose start ends in the way that its callback module says.
fn application(scene: &Scene, start: &str) -> String {
    let name = "brittle";
    scene.write(
        &format!("{name}.app"),
        format!(
            "{{application, {name}, [{{vsn, \"1\"}}, {{modules, [{name}]}}, {{applications, [kernel, stdlib]}}, \
             {{mod, {{{name}, []}}}}]}}."
        ),
    );
    scene.write(
        &format!("{name}.erl"),
        format!(
            "-module({name}).\n-export([start/2, stop/1, open/2, close/2, invoke/3, setup/2]).\n\
             start(_, _) -> {start}.\nstop(_) -> ok.\n\
             open(_, _) -> {{ok, none}}.\nclose(_, _) -> ok.\ninvoke(_, _, _) -> {{info, none}}.\n\
             setup(_, #{{short := <<\"n1\">>}}) -> timer:sleep(infinity);\n\
             setup(_, _) -> ok.\n"
        ),
    );
    let compiled = std::process::Command::new("erlc")
        .arg(format!("{name}.erl"))
        .current_dir(scene.path("."))
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    name.to_owned()
}

/// Runs the application in three nodes whose agents come before it is started. The whole time for the nodes is far
/// longer than a test may take: whoever waits for it does not pass.
fn run_application(scene: &Scene, name: &str) -> Ended {
    scene.write(
        "t.toml",
        format!(
            "name = \"t\"\nnodes = 3\ntime_limit_s = 1\nwarm_up_s = 0\nrecovery_s = 0\n\
             [cluster]\ncommand = [\"erl\", \"-noinput\", \"-s\", \"fuzz_dist_boot\"]\ncode_paths = [\".\"]\n\
             env = {{ FUZZ_DIST_APP = \"{name}\" }}\nready_timeout_ms = 600000\n\
             [client]\nmodule = \"{name}\"\n[workload]\nname = \"register\"\n[nemesis]\npackages = \"none\"\n"
        ),
    );
    let ended = scene.run(&["run", "t.toml"]);
    assert_nothing_left(scene);
    ended
}

#[test]
fn an_application_that_does_not_start() {
    let scene = Scene::new();
    // Long enough for the agents to have come, and for the core to wait for the mesh.
    let name = application(&scene, "timer:sleep(700), error(no_database)");
    let ended = run_application(&scene, &name);
    let cause = "Likely cause: the application brittle could not be started";
    assert_refused(&ended, &["error: n", "ended ", "after its start", "no_database", cause]);
}

#[test]
fn one_application_of_three_that_does_not_start() {
    let scene = Scene::new();
    let start = "case os:getenv(\"FUZZ_DIST_NODE\") of \"n2\" -> timer:sleep(2000), error(no_database); \
                 _ -> {ok, self()} end";
    let name = application(&scene, start);
    let ended = run_application(&scene, &name);
    assert_refused(&ended, &["error: n2 ended ", "after its start", "no_database"]);
}

#[test]
fn a_node_that_ends_while_another_is_set_up() {
    let scene = Scene::new();
    let start = "case os:getenv(\"FUZZ_DIST_NODE\") of \"n3\" -> spawn(fun() -> timer:sleep(3000), \
                 io:put_chars(\"farewell\\n\"), halt(7) end); _ -> ok end, {ok, self()}";
    let name = application(&scene, start);
    let ended = run_application(&scene, &name);
    assert_refused(&ended, &["error: n3 ended ", "exit status 7", "farewell"]);
}

#[test]
fn a_fixed_port_of_an_application() {
    let scene = Scene::new();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let start = format!("{{ok, _}} = gen_tcp:listen({port}, []), {{ok, self()}}");
    let name = application(&scene, &start);
    let ended = run_application(&scene, &name);
    assert_refused(&ended, &["error: n", "eaddrinuse", "{port:http}", "cluster.ports"]);
}
