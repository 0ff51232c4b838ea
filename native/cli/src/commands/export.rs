//! `fuzz_dist export`: a history in the formats of other tools.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use fuzz_dist_core::{History, interop};

use crate::args::{ExportArgs, ExportFormat};
use crate::commands::runs;
use crate::output::{self, CliError};

/// Writes it to standard output or a file.
pub fn run(args: &ExportArgs) -> Result<u8, CliError> {
    let path = runs::history_path(&args.store, &args.source)?;
    let history = runs::history(&path)?.history;
    match &args.output {
        None => output::to_stdout(|out| write(&history, args.format, out))?,
        Some(file) => replace(file, |out| write(&history, args.format, out)).map_err(|error| {
            CliError::Input(format!("cannot write {}: {error}", file.display()))
        })?,
    }
    Ok(0)
}

fn write(history: &History, format: ExportFormat, out: &mut dyn Write) -> io::Result<()> {
    let mut out = out;
    match format {
        ExportFormat::Edn => interop::write_edn(history, &mut out),
        ExportFormat::Jsonl => interop::write_jsonl(history, &mut out),
    }
}

/// Writes beside the file and renames, so that there is never half a file of that name. What is no
/// regular file (a pipe, `/dev/stdout`) is written to as it is.
fn replace(file: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if fs::metadata(file).is_ok_and(|metadata| !metadata.is_file()) {
        let mut out = BufWriter::new(fs::OpenOptions::new().write(true).open(file)?);
        write(&mut out)?;
        return out.flush();
    }
    fuzz_dist_core::file::replace(file, |out| write(out))
}
