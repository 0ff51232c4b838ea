//! What other users of the machine see of a run: no secret on a command line, no file that they may read.
//! The store is relative, as it is by default, and nodes find their folders all the same.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::stage::Stage;

/// What a look at the processes of the machine has found.
#[derive(Default)]
struct Seen {
    tokens: BTreeSet<String>,
    command_lines: BTreeSet<String>,
}

impl Seen {
    fn look(&mut self, scene: &Path) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let read = |file: &str| {
                String::from_utf8_lossy(&fs::read(entry.path().join(file)).unwrap_or_default())
                    .into_owned()
            };
            let environment = read("environ");
            if !environment.contains(scene.to_str().unwrap()) {
                continue;
            }
            let token = environment.split('\0').find_map(|e| e.strip_prefix("FUZZ_DIST_TOKEN="));
            self.tokens.extend(token.map(str::to_owned));
            self.command_lines.insert(read("cmdline").replace('\0', " "));
        }
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files_below(&path, found);
        }
        found.push(path);
    }
}

#[test]
fn a_run_keeps_its_secrets_and_files_to_itself() {
    let stage = Stage::set(&["stock_erlang/stock_register.erl"]);
    stage.compile(&["stock_erlang/stock_client.erl"], "client");
    stage.spec(
        r#"
name = "private"
nodes = 2
concurrency = 2
rate = 50.0
time_limit_s = 3
warm_up_s = 0.3
recovery_s = 2.0
placement = "client"

[cluster]
command = ["erl", "-noinput", "-s", "stock_register"]
env = { STATE = "{data_dir}/state", COOKIE = "{cookie}" }
code_paths = ["code"]
ready_timeout_ms = 60000

[client]
module = "stock_client"
code_paths = ["client"]

[workload]
name = "register"

[nemesis]
packages = "none"
capture = true
"#,
    );
    let over = AtomicBool::new(false);
    let mut seen = Seen::default();
    let scene = stage.scene.path(".").canonicalize().unwrap();
    let run = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                seen.look(&scene);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let run = stage.run(None);
        over.store(true, Ordering::Relaxed);
        looking.join().unwrap();
        run
    });
    run.assert_verdict("valid");

    let mut secrets = seen.tokens.clone();
    for vm in ["n1", "n2", "c1"] {
        let cookie = run.folder.join("nodes").join(vm).join("home/.erlang.cookie");
        secrets.insert(fs::read_to_string(cookie).unwrap());
    }
    assert_eq!(secrets.len(), 2, "the token and the cookie: {secrets:?}");
    assert!(seen.command_lines.iter().any(|line| line.contains("beam.smp")));
    assert!(seen.command_lines.iter().any(|line| line.contains(" -hidden")));
    for line in &seen.command_lines {
        let shown = secrets.iter().find(|secret| line.contains(*secret));
        assert_eq!(shown, None, "{line}");
    }

    let mut files = vec![stage.scene.path("store")];
    files_below(&stage.scene.path("store"), &mut files);
    for name in ["spec.toml", "history.fdh", "plane.log", "core.log", "output.log", "report.html"] {
        assert!(files.iter().any(|file| file.ends_with(name)), "{name}: {files:?}");
    }
    for file in files {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o} {}", file.display());
    }
}
