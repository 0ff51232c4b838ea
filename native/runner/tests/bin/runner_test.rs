//! The parts of a run that are processes of their own, for the tests of this crate: `guard`, `plane`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("guard") => fuzz_dist_nemesis::guard::main(),
        Some("plane") => fuzz_dist_nemesis::plane::main(),
        _ => {
            eprintln!("usage: guard | plane");
            ExitCode::from(254)
        }
    }
}
