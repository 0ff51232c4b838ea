//! Writes the report of a made-up run, to look at: `cargo run --example show_report -- DIR [OPERATIONS | hostile]`.
//!
//! Prints what a run would say last, how long the report took and how large it is.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("usage: show_report DIR [OPERATIONS]")?;
    let run = match arguments.next().as_deref() {
        None => support::run(50_000),
        Some("hostile") => support::hostile(),
        Some(operation_count) => support::run(operation_count.parse()?),
    };
    std::fs::create_dir_all(&dir)?;
    let start = Instant::now();
    let written =
        fuzz_dist_report::write(dir.as_ref(), &run.info, &run.history, &run.schedule, &run.result)?;
    eprintln!("{} records, written in {:?}", run.history.len(), start.elapsed());
    for file in &written.files {
        eprintln!("{:>10}  {}", std::fs::metadata(file)?.len(), file.display());
    }
    println!(
        "{}",
        fuzz_dist_report::explain(&run.info, &written.summary, &run.history, &run.result, true)
    );
    Ok(())
}
