//! Where the compiled code of fuzz_dist itself is: the node agent, the worker, their boot module.
//!
//! `FUZZ_DIST_EBIN` names the folder. Otherwise it is looked for from the folder of the running program
//! upwards: in a checkout (`elixir_client/_build/ENV/lib/fuzz_dist/ebin`) and in a build of a project that
//! depends on it (`…/lib/fuzz_dist/priv/native/fuzz_dist` next to `…/lib/fuzz_dist/ebin`).

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::bootstrap::AGENT_MODULE;
use crate::request::RunError;

/// Names the folder of the compiled code.
pub const EBIN_VARIABLE: &str = "FUZZ_DIST_EBIN";

/// The `ebin` folder of fuzz_dist, absolute; it contains the node agent.
pub fn find_ebin() -> Result<PathBuf, RunError> {
    let set = std::env::var_os(EBIN_VARIABLE).filter(|value| !value.is_empty());
    let exe = std::env::current_exe()
        .map_err(|e| RunError::Internal(format!("cannot find my own program: {e}")))?;
    find(set.map(PathBuf::from).as_deref(), &exe)
}

/// The folders that code paths name, absolute. In a path a `*` stands for any name of a folder, as in
/// `_build/dev/lib/*/ebin`; folders that do not exist stay out then.
pub fn expand(paths: &[String]) -> Vec<PathBuf> {
    let absolute =
        |path: &String| std::path::absolute(path).unwrap_or_else(|_| Path::new(path).to_owned());
    paths.iter().flat_map(|path| expand_one(&absolute(path))).collect()
}

fn expand_one(path: &Path) -> Vec<PathBuf> {
    if !path.components().any(|part| part.as_os_str() == "*") {
        return vec![path.to_owned()];
    }
    let mut found = vec![PathBuf::new()];
    for part in path.components() {
        if part.as_os_str() != "*" {
            found.iter_mut().for_each(|folder| folder.push(part));
            continue;
        }
        let inside = |folder: &PathBuf| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        };
        found = found.iter().flat_map(inside).collect();
    }
    found.retain(|folder| folder.is_dir());
    found.sort();
    found
}

/// The code of the node agent.
pub fn read_agent(ebin: &Path) -> Result<Vec<u8>, RunError> {
    let file = agent_file(ebin);
    std::fs::read(&file).map_err(|e| RunError::Input(format!("{}: {e}", file.display())))
}

fn agent_file(ebin: &Path) -> PathBuf {
    ebin.join(format!("{AGENT_MODULE}.beam"))
}

fn find(set: Option<&Path>, exe: &Path) -> Result<PathBuf, RunError> {
    if let Some(folder) = set {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        if agent_file(&folder).is_file() {
            return Ok(folder);
        }
        return Err(RunError::Input(format!(
            "{EBIN_VARIABLE} is {}, which does not contain {AGENT_MODULE}.beam; set it to the ebin folder \
             of fuzz_dist's compiled Elixir application, or unset it",
            folder.display()
        )));
    }
    exe.ancestors().skip(1).find_map(beside).ok_or_else(|| {
        RunError::Input(format!(
            "the compiled Elixir part of fuzz_dist ({AGENT_MODULE}.beam) was not found from {} upwards: \
             build it with `mix compile` in the folder elixir_client, or set {EBIN_VARIABLE} to its ebin folder",
            exe.display()
        ))
    })
}

fn beside(folder: &Path) -> Option<PathBuf> {
    let own = folder.join("ebin");
    if agent_file(&own).is_file() {
        return Some(own);
    }
    // One folder for each MIX_ENV; what was compiled last is what is being worked with.
    let builds = std::fs::read_dir(folder.join("elixir_client/_build")).ok()?;
    builds
        .filter_map(|build| {
            let ebin = build.ok()?.path().join("lib/fuzz_dist/ebin");
            let modified = agent_file(&ebin).metadata().and_then(|data| data.modified()).ok()?;
            Some((modified, ebin))
        })
        .max_by_key(|(modified, _): &(SystemTime, PathBuf)| *modified)
        .map(|(_, ebin)| ebin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(ebin: &Path) {
        std::fs::create_dir_all(ebin).unwrap();
        std::fs::write(agent_file(ebin), "beam").unwrap();
    }

    #[test]
    fn a_checkout_and_a_build_are_found_from_the_program_upwards() {
        let root = tempfile::tempdir().unwrap();
        let ebin = root.path().join("elixir_client/_build/dev/lib/fuzz_dist/ebin");
        compiled(&ebin);
        assert_eq!(find(None, &root.path().join("target/release/fuzz_dist")).unwrap(), ebin);

        let lib = root.path().join("app/_build/test/lib/fuzz_dist");
        compiled(&lib.join("ebin"));
        assert_eq!(find(None, &lib.join("priv/native/fuzz_dist")).unwrap(), lib.join("ebin"));
        assert_eq!(read_agent(&ebin).unwrap(), b"beam");
    }

    #[test]
    fn a_star_in_a_code_path_is_every_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| root.path().join(name);
        for name in ["lib/b/ebin", "lib/a/ebin", "lib/c/src"] {
            std::fs::create_dir_all(folder(name)).unwrap();
        }
        let paths = ["lib/*/ebin", "none/*/ebin", "plain"].map(|p| folder(p).display().to_string());
        let wanted = ["lib/a/ebin", "lib/b/ebin", "plain"].map(folder);
        assert_eq!(expand(&paths), wanted);
    }

    #[test]
    fn what_is_missing_is_told_with_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let exe = root.path().join("bin/fuzz_dist");
        let missing = find(None, &exe).unwrap_err();
        assert_eq!(missing.exit_code(), 254);
        assert!(missing.to_string().contains("mix compile"), "{missing}");
        let wrong = find(Some(root.path()), &exe).unwrap_err().to_string();
        assert!(
            wrong.contains("FUZZ_DIST_EBIN is") && wrong.contains("does not contain"),
            "{wrong}"
        );
    }
}
