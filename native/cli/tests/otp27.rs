//! `bin/otp27` on machines that cannot, and when making its system goes wrong, played by stand-ins in PATH.
//!
//! The stand-in for debootstrap counts its calls and makes a folder; that for chroot says which Elixir it has.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use common::{Ended, Scene, finish, root};

const VERSIONS: &str = "Erlang/OTP 27 [erts-15.2.7]\n\nElixir 1.18.3 (compiled with Erlang/OTP 27)";

/// What a debootstrap makes that ends well.
const WHOLE: &str = "mkdir -p \"$to/usr\" && echo whole > \"$to/usr/whole\"";

struct Machine {
    scene: Scene,
}

impl Machine {
    /// One that can.
    fn new() -> Machine {
        let machine = Machine { scene: Scene::new() };
        for folder in ["bin", "cache"] {
            fs::create_dir(machine.scene.path(folder)).unwrap();
        }
        machine.has("id", "echo 0");
        machine.has("unshare", "while [[ $1 == -* ]]; do shift; done\nexec \"$@\"");
        machine.has("pivot_root", "exit 1");
        machine.has("chroot", &format!("printf '{VERSIONS}\\n'"));
        machine.bootstraps(WHOLE);
        machine
    }

    fn has(&self, program: &str, script: &str) {
        let name = format!("bin/{program}");
        self.scene.write(&name, format!("#!/bin/bash\n{script}\n"));
        let path = self.scene.path(&name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What its debootstrap does in the folder `$to`.
    fn bootstraps(&self, script: &str) {
        let calls = self.scene.path("calls");
        let find = "for word; do [[ $word == */new.* ]] && to=$word; done";
        self.has(
            "debootstrap",
            &format!(
                "echo \"$*\" >> {}\necho words of debootstrap\n{find}\n{script}",
                calls.display()
            ),
        );
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(root().join("bin/otp27"));
        command
            .args(arguments)
            .env("PATH", format!("{}:{path}", self.scene.path("bin").display()))
            .env("XDG_CACHE_HOME", self.scene.path("cache"))
            .env("FUZZ_DIST_DEBIAN_MIRROR", "http://mirror.invalid/debian")
            .env_remove("CI");
        command
    }

    fn otp27(&self, arguments: &[&str]) -> Ended {
        finish(&mut self.command(arguments), b"")
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.scene.path("calls")).unwrap_or_default()
    }

    /// Folders in the cache: systems, whole or not.
    fn systems(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.scene.path("cache/fuzz_dist/otp27")) else {
            return Vec::new();
        };
        let mut all: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        all.retain(|path| path.is_dir());
        all
    }

    /// There is one system, and it is whole.
    fn assert_whole(&self) {
        let systems = self.systems();
        assert_eq!(systems.len(), 1, "{systems:?}");
        assert!(systems[0].join("usr/whole").exists(), "{systems:?}");
    }
}

#[test]
fn a_machine_that_cannot_skips_with_the_reason_and_fails_in_ci() {
    for (program, script, reason) in [
        ("id", "echo 1000", "it needs root"),
        ("unshare", "exit 1", "mount namespaces"),
        ("uname", "echo Darwin", "it needs Linux"),
    ] {
        let machine = Machine::new();
        machine.has(program, script);
        let ended = machine.otp27(&["true"]);
        assert_eq!(ended.code, Some(77), "{ended:?}");
        assert!(ended.stderr.contains("skipped: "), "{}", ended.stderr);
        assert!(ended.stderr.contains(reason), "{reason}: {}", ended.stderr);

        let ended = finish(machine.command(&["true"]).env("CI", "true"), b"");
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("CI=true forbids to skip"), "{}", ended.stderr);
        assert!(ended.stderr.contains(reason), "{reason}: {}", ended.stderr);
        assert_eq!((machine.calls(), machine.systems()), (String::new(), Vec::new()));
    }
}

#[test]
fn a_wrong_command_line_is_told() {
    let machine = Machine::new();
    for arguments in [&[][..], &["--bogus"], &["--make", "more"], &["--check", "more"]] {
        assert_eq!(machine.otp27(arguments).code, Some(254), "{arguments:?}");
    }
    assert_eq!(machine.calls(), "");
}

#[test]
fn the_system_is_made_once_from_the_mirror_that_is_named() {
    let machine = Machine::new();
    for _ in 0..2 {
        let ended = machine.otp27(&["--make"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    machine.assert_whole();
    let calls = machine.calls();
    assert_eq!(calls.lines().count(), 1, "{calls}");
    assert!(calls.trim_end().ends_with(" http://mirror.invalid/debian"), "{calls}");
}

#[test]
fn callers_at_once_make_one_system() {
    let machine = Machine::new();
    machine.bootstraps(&format!("sleep 1; {WHOLE}"));
    let callers: Vec<_> = (0..3).map(|_| machine.command(&["--make"]).spawn().unwrap()).collect();
    for mut caller in callers {
        assert!(caller.wait().unwrap().success());
    }
    machine.assert_whole();
    assert_eq!(machine.calls().lines().count(), 1);
}

#[test]
fn a_creation_that_fails_leaves_nothing_and_says_why() {
    let machine = Machine::new();
    machine.bootstraps("mkdir \"$to/half\"; exit 1");
    let ended = machine.otp27(&["--make"]);
    assert_eq!(ended.code, Some(255), "{ended:?}");
    assert!(ended.stderr.contains("words of debootstrap"), "{}", ended.stderr);
    assert_eq!(machine.systems(), Vec::<PathBuf>::new());
}

#[test]
fn a_system_with_other_releases_is_not_kept() {
    let machine = Machine::new();
    machine.has("chroot", "echo 'Erlang/OTP 28 [x]'; echo 'Elixir 1.18.3 (x)'");
    let ended = machine.otp27(&["--make"]);
    assert_eq!(ended.code, Some(255), "{ended:?}");
    assert!(ended.stderr.contains("has not Erlang/OTP 27"), "{}", ended.stderr);
    assert_eq!(machine.systems(), Vec::<PathBuf>::new());
}

#[test]
fn what_a_killed_creation_left_is_not_taken_for_a_system() {
    let machine = Machine::new();
    let pid_file = machine.scene.path("pid");
    let pid_file = pid_file.display();
    machine.bootstraps(&format!("mkdir \"$to/half\"; echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 1000"));
    let mut caller = machine.command(&["--make"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let pid = loop {
        if let Ok(pid) = fs::read_to_string(machine.scene.path("pid")) {
            break pid.trim().parse().unwrap();
        }
        assert!(Instant::now() < deadline, "debootstrap was not called");
        thread::sleep(Duration::from_millis(10));
    };
    caller.kill().unwrap();
    caller.wait().unwrap();
    assert_eq!(machine.systems().len(), 1, "half of one is left");
    // Its debootstrap lives on and keeps the lock; others wait for its end.
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();

    machine.bootstraps(WHOLE);
    let ended = machine.otp27(&["--make"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    machine.assert_whole();
}
