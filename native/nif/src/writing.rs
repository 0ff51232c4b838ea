//! Histories into files, whole or not at all.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fuzz_dist_core::History;
use fuzz_dist_core::interop;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The extension says nothing, or something else.
    #[error("cannot write {path}: its extension must say the format, .edn or .jsonl")]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// The operating system says no.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A path of the BEAM, which is bytes. A dash is a file here, and not standard input.
pub fn path_of(bytes: &[u8]) -> PathBuf {
    match bytes {
        b"-" => PathBuf::from("./-"),
        bytes => PathBuf::from(OsStr::from_bytes(bytes)),
    }
}

/// Writes every record in the format that the extension says, replacing what was there.
pub fn write(history: &History, path: &Path) -> Result<(), WriteError> {
    let write_to: fn(&History, &mut File) -> io::Result<()> = match extension(path) {
        Some("edn") => |history, file| interop::write_edn(history, file),
        Some("jsonl") => |history, file| interop::write_jsonl(history, file),
        _ => return Err(WriteError::Extension { path: path.to_owned() }),
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}", std::process::id()));
    let aside = PathBuf::from(aside);
    let written = File::create(&aside)
        .and_then(|mut file| write_to(history, &mut file))
        .and_then(|()| fs::rename(&aside, path));
    written.map_err(|source| {
        // It may not exist; the error that counts is the one before.
        let _ = fs::remove_file(&aside);
        WriteError::Io { path: path.to_owned(), source }
    })
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(OsStr::to_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz_dist_core::interop::Format;

    #[test]
    fn the_extension_says_the_format() {
        let folder = tempfile::tempdir().unwrap();
        let text = "{:process 0 :type :invoke :f :add :value [1 :a nil]}";
        let history = interop::load_bytes("h", text.as_bytes(), None).unwrap().history;
        for (name, format) in [("a.edn", Format::Edn), ("a.jsonl", Format::Json)] {
            let path = path_of(folder.path().join(name).as_os_str().as_bytes());
            fs::write(&path, "what was there").unwrap();
            write(&history, &path).unwrap();
            let loaded = interop::load(&path, None).unwrap();
            assert_eq!(loaded.format, format);
            assert_eq!(loaded.history.ops(), history.ops());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn what_cannot_be_written_is_named_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::default();
        let error = write(&history, &folder.path().join("a.txt")).unwrap_err().to_string();
        assert!(error.contains("a.txt") && error.contains(".edn or .jsonl"), "{error}");
        let error = write(&history, &folder.path().join("no/a.edn")).unwrap_err().to_string();
        assert!(error.contains("no/a.edn: No such file"), "{error}");
        fs::create_dir(folder.path().join("taken.edn")).unwrap();
        write(&history, &folder.path().join("taken.edn")).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
