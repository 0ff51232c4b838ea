//! The private home folder of each VM, which holds the cookie.
//!
//! A command line can be read by every user of the machine, so the cookie never stands in one. Each VM
//! gets a home folder of its own, `nodes/<short>/home`, with `.erlang.cookie` in it, as nodes on
//! different machines have: the kernel application reads it before the node listens. `erl` gives no
//! file precedence over a `-setcookie`, but with two of them it reads the file. So the flags of a run
//! hold a worthless value twice, which also overrides the one that start scripts of releases add.
//!
//! A command whose environment sets `HOME` itself finds the cookie through `XDG_CONFIG_HOME`, provided
//! that its home folder holds no cookie file.
//!
//! Version managers and build tools look for their own files in `HOME`. Variables say where these are, if
//! nothing else says it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::launch::Place;
use crate::request::RunError;

/// The file that the kernel application reads.
const COOKIE_FILE: &str = ".erlang.cookie";

/// The real home folder, for commands that need it.
const USER_HOME_VARIABLE: &str = "FUZZ_DIST_USER_HOME";

/// Variables of tools that would otherwise look into `HOME`, and their folders there.
const TOOLS: &[(&str, &str)] = &[
    ("ASDF_DATA_DIR", ".asdf"),
    ("HEX_HOME", ".hex"),
    ("MISE_CONFIG_DIR", ".config/mise"),
    ("MISE_DATA_DIR", ".local/share/mise"),
    ("MIX_HOME", ".mix"),
    ("REBAR_CACHE_DIR", ".cache/rebar3"),
    ("REBAR_GLOBAL_CONFIG_DIR", ".config/rebar3"),
];

impl Place {
    pub fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Where the VM reads its cookie.
    pub fn cookie_file(&self) -> PathBuf {
        self.home().join(COOKIE_FILE)
    }
}

/// What a VM is told about its home folder and those of tools. `own` is the environment that the spec gives.
pub(super) fn variables(place: &Place, own: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut variables = vec![("HOME".to_owned(), place.home().display().to_string())];
    if own.contains_key("HOME") {
        let config = place.home().join(".config").display().to_string();
        variables.push(("XDG_CONFIG_HOME".to_owned(), config));
    }
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else { return variables };
    variables.push((USER_HOME_VARIABLE.to_owned(), home.display().to_string()));
    let unset = TOOLS.iter().filter(|(variable, _)| std::env::var_os(variable).is_none());
    for (variable, folder) in unset {
        let folder = home.join(folder);
        if folder.is_dir() {
            variables.push(((*variable).to_owned(), folder.display().to_string()));
        }
    }
    variables
}

/// Writes the cookie where the VM reads it, for its user alone.
pub(super) fn write_cookie(place: &Place, cookie: &str) -> Result<(), RunError> {
    for file in [place.cookie_file(), place.home().join(".config/erlang").join(COOKIE_FILE)] {
        write_private(&file, cookie.as_bytes()).map_err(|error| {
            RunError::Internal(format!("cannot write the cookie to {}: {error}", file.display()))
        })?;
    }
    Ok(())
}

/// A new file in place of the one that is there: the node may have done anything to it.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}
