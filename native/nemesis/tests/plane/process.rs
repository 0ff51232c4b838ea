//! The link plane as a process of its own, for the tests and benches of this crate.

fn main() -> std::process::ExitCode {
    fuzz_dist_nemesis::plane::main()
}
