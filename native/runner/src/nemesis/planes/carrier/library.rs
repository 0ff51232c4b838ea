//! Where the port driver is, and whether nodes of a spec can load it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use fuzz_dist_core::spec::Spec;

use crate::cluster::code_path::find_ebin;

/// Names the library of the driver.
pub const LIBRARY_VARIABLE: &str = "FUZZ_DIST_CARRIER_LIBRARY";

/// The compiled Erlang module of the carrier.
pub const MODULE_FILE: &str = "fuzz_dist.beam";

const LIBRARY_FILE: &str = "libfuzz_dist_driver.so";

/// `erl_driver` of releases before this lacks what the driver uses.
const OTP_MINIMUM: u32 = 25;

/// Says which distribution a VM uses.
const PROTOCOL_FLAG: &str = "-proto_dist";

/// What nodes need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The library of the driver.
    pub library: PathBuf,
    /// The compiled module.
    pub module: PathBuf,
}

/// The library and the module; or what is missing and what helps.
pub fn find() -> Result<Found, String> {
    let module = find_ebin().map_err(|error| error.to_string())?.join(MODULE_FILE);
    if !module.is_file() {
        return Err(format!(
            "{} does not exist: run `mix compile` in elixir_client",
            module.display()
        ));
    }
    let exe = std::env::current_exe().map_err(|e| format!("cannot find my own program: {e}"))?;
    let library = find_library(std::env::var_os(LIBRARY_VARIABLE), &exe, &module)?;
    otp_release().map_or(Ok(()), |release| {
        if release < OTP_MINIMUM {
            return Err(format!("OTP {release} is too old: it needs OTP {OTP_MINIMUM} or newer"));
        }
        Ok(())
    })?;
    Ok(Found { library, module })
}

fn find_library(named: Option<OsString>, exe: &Path, module: &Path) -> Result<PathBuf, String> {
    if let Some(path) = named.filter(|path| !path.is_empty()).map(PathBuf::from) {
        return if path.is_file() {
            Ok(std::path::absolute(&path).unwrap_or(path))
        } else {
            Err(format!("{LIBRARY_VARIABLE} names {}, which is not a file", path.display()))
        };
    }
    // Beside the program, which for a test is one folder up; then where the mix compiler puts it.
    let beside = exe.ancestors().skip(1).take(2).map(|folder| folder.join(LIBRARY_FILE));
    let installed = module.ancestors().nth(2).map(|app| app.join("priv").join(LIBRARY_FILE));
    let mut candidates = beside.chain(installed);
    candidates.find(|path| path.is_file()).ok_or_else(|| {
        format!(
            "{LIBRARY_FILE} is neither beside {} nor in the priv folder of the client: run `cargo build \
             --release -p fuzz_dist_driver`, or set {LIBRARY_VARIABLE} to its path",
            exe.display()
        )
    })
}

/// The release of the `erl` in `PATH`, if its files tell; a node may bring another.
fn otp_release() -> Option<u32> {
    let path = std::env::var_os("PATH")?;
    let erl =
        std::env::split_paths(&path).map(|folder| folder.join("erl")).find(|p| p.is_file())?;
    let root = erl.canonicalize().ok()?.ancestors().nth(2)?.to_owned();
    let text = std::fs::read_to_string(root.join("releases/start_erl.data")).ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

/// Why nodes of this spec cannot be given another distribution.
pub fn conflict(spec: &Spec) -> Option<String> {
    let cluster = &spec.cluster;
    let has_flag = |text: &str| text.split_whitespace().any(|word| word == PROTOCOL_FLAG);
    let place = if cluster.command.iter().any(|argument| has_flag(argument)) {
        "cluster.command".to_owned()
    } else if let Some((name, _)) = cluster.env.iter().find(|(_, text)| has_flag(text)) {
        format!("cluster.env.{name}")
    } else {
        let flags = ["ERL_AFLAGS", "ERL_FLAGS", "ERL_ZFLAGS"];
        let named = |name: &&&str| std::env::var(name).is_ok_and(|text| has_flag(&text));
        (*flags.iter().find(named)?).to_owned()
    };
    Some(format!(
        "{place} sets {PROTOCOL_FLAG}, and a VM has one distribution: leave it out, or use faults of the \
         link plane, which pass any distribution through"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_library_is_found_by_name_beside_the_program_and_in_the_client() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let (exe, module) = (at("target/release/fuzz_dist"), at("app/ebin/fuzz_dist.beam"));
        let missing = find_library(None, &exe, &module).unwrap_err();
        assert!(missing.contains("cargo build --release -p fuzz_dist_driver"), "{missing}");
        let installed = at("app/priv/libfuzz_dist_driver.so");
        std::fs::write(&installed, "").unwrap();
        assert_eq!(find_library(None, &exe, &module).unwrap(), installed);
        let beside = at("target/release/libfuzz_dist_driver.so");
        std::fs::write(&beside, "").unwrap();
        assert_eq!(find_library(Some("".into()), &exe, &module).unwrap(), beside);
        let test = at("target/release/deps/cluster-0123");
        assert_eq!(find_library(None, &test, &module).unwrap(), beside);
        assert_eq!(find_library(Some(installed.clone().into()), &exe, &module), Ok(installed));
        let wrong = find_library(Some("/nowhere.so".into()), &exe, &module).unwrap_err();
        assert!(wrong.contains("FUZZ_DIST_CARRIER_LIBRARY names /nowhere.so"), "{wrong}");
    }

    #[test]
    fn another_distribution_is_told() {
        let mut spec = Spec::default();
        assert_eq!(conflict(&spec), None);
        spec.cluster.env.insert("ERL_FLAGS".into(), "+S 2 -proto_dist inet_tls".into());
        assert!(conflict(&spec).unwrap().starts_with("cluster.env.ERL_FLAGS sets -proto_dist"));
        spec.cluster.command = ["erl", "-proto_dist", "inet6_tcp"].map(Into::into).to_vec();
        assert!(conflict(&spec).unwrap().starts_with("cluster.command sets -proto_dist"));
    }
}
