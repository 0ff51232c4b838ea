//! `bin/setup` on systems that lack things, played by a PATH of stand-ins.
//!
//! The stand-ins are scripts: an `apt-get` that writes down how it was called and "installs" by putting
//! the other stand-ins in place, an `erl` and an `elixir` that answer as the real ones.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use common::{Ended, Scene, finish, root};

/// Real programs that the script may use.
const TOOLS: [&str; 12] = [
    "bash", "env", "awk", "grep", "cat", "dirname", "readlink", "printf", "cp", "rm", "mkdir",
    "chmod",
];

/// A system with the tools of every Debian, to which programs are added.
struct System {
    scene: Scene,
}

impl System {
    fn new() -> System {
        let system = System { scene: Scene::new() };
        for folder in ["bin", "packages", "home"] {
            fs::create_dir(system.scene.path(folder)).unwrap();
        }
        for tool in TOOLS {
            let real = ["/usr/bin", "/bin"].iter().map(|dir| Path::new(dir).join(tool));
            let real = real.into_iter().find(|path| path.exists()).unwrap();
            symlink(real, system.scene.path(&format!("bin/{tool}"))).unwrap();
        }
        system.has("id", "echo 0");
        system.has("cargo", "echo 'cargo 1.95.0 (abc 2026-01-01)'");
        system
    }

    /// With everything that is needed.
    fn complete() -> System {
        let system = System::new();
        system.has("cc", "exit 0");
        system.has("escript", "exit 0");
        system.has("erl", "printf 25");
        system.has("mix", "exit 0");
        system.has("elixir", "printf 'Erlang/OTP 25\\n\\nElixir 1.14.0 (compiled with OTP 25)\\n'");
        system
    }

    fn has(&self, program: &str, script: &str) {
        self.program(&format!("bin/{program}"), script);
    }

    fn program(&self, path: &str, script: &str) {
        self.scene.write(path, format!("#!/bin/bash\n{script}\n"));
        let path = self.scene.path(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn lacks(&self, program: &str) {
        fs::remove_file(self.scene.path(&format!("bin/{program}"))).unwrap();
    }

    /// An apt-get that writes down its calls and installs stand-ins.
    fn has_apt(&self, known: bool) {
        for (program, script) in [
            ("cc", "exit 0"),
            ("escript", "exit 0"),
            ("erl", "printf 25"),
            ("mix", "exit 0"),
            ("elixir", "echo 'Elixir 1.14.0 (compiled)'"),
        ] {
            self.program(&format!("packages/{program}"), script);
        }
        let root = self.scene.path("");
        let root = root.display();
        self.has(
            "apt-get",
            &format!(
                "echo \"$DEBIAN_FRONTEND $*\" >> {root}calls\n\
                 if [[ \" $* \" == *' update '* || \"$*\" == *' update' ]]; then\n\
                   echo known > {root}known\nelse\n\
                   [[ -e {root}known ]] || exit 100\n  cp {root}packages/* {root}bin/\nfi"
            ),
        );
        self.has(
            "apt-cache",
            &format!(
                "[[ -e {root}known ]] && echo '  Candidate: 1.2' || echo '  Candidate: (none)'"
            ),
        );
        if known {
            self.scene.write("known", "known");
        }
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.scene.path("calls")).unwrap_or_default()
    }

    fn setup(&self) -> Ended {
        let mut command = Command::new("/bin/bash");
        command
            .arg(root().join("bin/setup"))
            .env_clear()
            .env("PATH", self.scene.path("bin"))
            .env("HOME", self.scene.path("home"));
        finish(&mut command, b"")
    }
}

#[test]
fn with_nothing_missing_it_is_silent() {
    let system = System::complete();
    system.has_apt(true);
    let ended = system.setup();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    assert_eq!(system.calls(), "");
}

#[test]
fn a_bare_debian_gets_all_packages_after_one_update() {
    let system = System::new();
    system.has_apt(false);
    let ended = system.setup();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let calls = system.calls();
    let calls: Vec<&str> = calls.lines().collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[0].ends_with(" update"), "{calls:?}");
    assert!(calls.iter().all(|call| call.starts_with("noninteractive ")), "{calls:?}");
    assert!(
        calls[1].ends_with(
            "install --no-install-recommends gcc libc6-dev erlang-nox erlang-dev elixir"
        ),
        "{calls:?}"
    );
    assert_eq!(system.setup().code, Some(0));
    assert_eq!(system.calls().lines().count(), 2, "the second time nothing is missing");
}

#[test]
fn only_what_is_missing_is_installed_and_lists_are_not_fetched_for_nothing() {
    let system = System::complete();
    system.lacks("elixir");
    system.has_apt(true);
    assert_eq!(system.setup().code, Some(0));
    assert!(system.calls().ends_with("install --no-install-recommends elixir\n"));
    assert_eq!(system.calls().lines().count(), 1, "{}", system.calls());
}

#[test]
fn an_old_release_counts_as_missing() {
    let system = System::complete();
    system.has("erl", "printf 24");
    let ended = system.setup();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("erlang-nox"), "{}", ended.stderr);
}

#[test]
fn without_apt_it_lists_what_is_needed_and_fails() {
    let system = System::new();
    let ended = system.setup();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for name in ["no apt-get", "gcc", "erlang-nox", "elixir", "Erlang/OTP 25", "Elixir 1.14"] {
        assert!(ended.stderr.contains(name), "{name} in {}", ended.stderr);
    }
}

#[test]
fn who_is_neither_root_nor_has_sudo_is_told_the_command() {
    let system = System::new();
    system.has_apt(true);
    system.has("id", "echo 1000");
    let ended = system.setup();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("apt-get install gcc libc6-dev"), "{}", ended.stderr);
    assert_eq!(system.calls(), "");
}

#[test]
fn others_install_through_sudo_without_waiting_for_a_password() {
    let system = System::new();
    system.has_apt(true);
    system.has("id", "echo 1000");
    let root = system.scene.path("");
    system.has("sudo", &format!("echo \"sudo $*\" >> {}calls; shift; exec \"$@\"", root.display()));
    let ended = system.setup();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(system.calls().starts_with("sudo -n env DEBIAN_FRONTEND="), "{}", system.calls());
}

#[test]
fn an_installation_that_fails_is_told() {
    let system = System::new();
    system.has_apt(true);
    system.has("apt-get", "echo 'E: no space left' >&2; exit 100");
    let ended = system.setup();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("E: no space left"), "{}", ended.stderr);
    assert!(ended.stderr.contains("could not install gcc"), "{}", ended.stderr);
}

#[test]
fn cargo_is_checked_and_never_installed() {
    for (script, wanted) in [
        (None, "cargo 1.91 or newer is missing: https://rustup.rs"),
        (Some("echo 'cargo 1.90.9 (abc)'"), "cargo 1.90.9 is too old, 1.91 is needed"),
        (Some("exit 1"), "does not run"),
    ] {
        let system = System::complete();
        system.has_apt(true);
        match script {
            Some(script) => system.has("cargo", script),
            None => system.lacks("cargo"),
        }
        let ended = system.setup();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(wanted), "{wanted} in {}", ended.stderr);
        assert_eq!(system.calls(), "");
    }
    let system = System::complete();
    system.has("cargo", "echo 'cargo 2.0.0-nightly (abc)'");
    assert_eq!(system.setup().code, Some(0));
}
