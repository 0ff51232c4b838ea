//! For the tests of the guard: `guard` is the guard itself; `core` stands in for a core that gets
//! killed: it starts nodes with a guard of its own, says which, and waits for its end; `network` does so with
//! nodes in network namespaces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fuzz_dist_core::fault::Link;
use fuzz_dist_nemesis::guard::{Guard, Signal, SpawnRequest};
use fuzz_dist_nemesis::net::{Action, Names, Network};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["guard", ..] => fuzz_dist_nemesis::guard::main(),
        ["core", run_id, directory] => match core(run_id, Path::new(directory)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        ["network", run_id, tag, directory] => match network(run_id, tag, Path::new(directory)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: guard | core RUN_ID DIRECTORY | network RUN_ID TAG DIRECTORY");
            ExitCode::from(254)
        }
    }
}

/// A core with two nodes in namespaces, one of which drops packets of the other.
fn network(run_id: &str, tag: &str, directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let guard = Guard::start(&std::env::current_exe()?, run_id)?;
    let nodes = ["a".to_owned(), "b".to_owned()];
    let names = match tag {
        "own" => Names::of_this_process(&nodes),
        tag => Names::new(tag, &nodes),
    };
    guard.at_end(names.removal())?;
    let tag = names.tag().to_owned();
    let network = Network::create(names)?;
    for node in &nodes {
        let sleep = ["sleep", "600"].map(String::from);
        guard.spawn(SpawnRequest {
            key: node.clone(),
            argv: [network.enter(node), sleep.to_vec()].concat(),
            output: directory.join(format!("{node}.log")),
            ..SpawnRequest::default()
        })?;
    }
    let link = Link { from: "a".into(), to: "b".into() };
    network.apply(1, &[link], None, &Action::Drop)?;
    println!("{} {tag}", guard.pid());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    guard.end()?;
    Ok(())
}

fn core(run_id: &str, directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let guard = Guard::start(&std::env::current_exe()?, run_id)?;
    let mut pids = vec![guard.pid()];
    for (key, script) in [
        ("plain", "exec sleep 600"),
        ("stopped", "exec sleep 601"),
        ("hidden", "env -i setsid sh -c 'echo $$ > hidden.pid; exec sleep 604' & wait"),
        ("family", "setsid sleep 602 & (trap '' TERM HUP; setsid sh -c 'sleep 603 & wait') & wait"),
    ] {
        let spawned = guard.spawn(SpawnRequest {
            key: key.to_owned(),
            argv: ["sh", "-c", script].map(String::from).to_vec(),
            env: BTreeMap::new(),
            env_remove: Vec::new(),
            cwd: Some(PathBuf::from(directory)),
            output: directory.join(format!("{key}.log")),
            outlives_guard: false,
        })?;
        pids.push(spawned.pid);
    }
    guard.signal("stopped", Signal::Stop)?;
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    println!("{}", pids.join(" "));
    // Until somebody kills this process, or closes its standard input.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    guard.end()?;
    Ok(())
}
