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
