//! Files in folders that may come from somebody else, such as the folder of a run that was sent.
//!
//! Whoever made such a folder chose every name and kind in it. So nothing is written through a symbolic
//! link, and what is read is a plain file of a bounded size: a link would give away a file of the reader,
//! a FIFO would block, a device never ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// How often a new name is drawn when there is a file of that name.
const NAMES_MAX: usize = 16;

/// Opens a plain file for reading. Anything else (a link, a FIFO, a device, a directory) is refused, and
/// nothing waits for it.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|error| match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => not_plain(&found.file_type()),
        _ => error,
    })?;
    let found = file.metadata()?;
    if found.is_file() { Ok(file) } else { Err(not_plain(&found.file_type())) }
}

/// The content of a plain file of at most `bytes_max` bytes.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let limit = format!("is longer than {} MiB, the most that is read of it", bytes_max >> 20);
        return Err(io::Error::other(limit));
    }
    Ok(bytes)
}

/// As [`read`], of text.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes a file beside its place and renames it: nobody sees half of it, an interrupted write leaves
/// the old one, and a link of that name is replaced, not followed. Only its owner may read it.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let (part, file) = create_beside(path)?;
    let mut out = BufWriter::new(file);
    let written = write(&mut out).and_then(|()| out.flush()).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // The half-written neighbour helps nobody; the first error is the one to tell.
        let _ = fs::remove_file(&part);
    }
    written
}

/// A new file in the same folder, under a name that nobody can have prepared.
fn create_beside(path: &Path) -> io::Result<(std::path::PathBuf, File)> {
    let mut options = OpenOptions::new();
    // An exclusive creation follows no link.
    options.write(true).create_new(true).mode(0o600);
    let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..NAMES_MAX {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{:016x}.part", crate::random::number()));
        let part = path.with_file_name(name);
        match options.open(&part) {
            Ok(file) => return Ok((part, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

fn not_plain(kind: &fs::FileType) -> io::Error {
    use std::os::unix::fs::FileTypeExt;
    let what = if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    io::Error::new(io::ErrorKind::InvalidInput, format!("is {what}, not a plain file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn said(result: io::Result<Vec<u8>>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn only_plain_files_of_a_bounded_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("plain"), "12345").unwrap();
        symlink(path("plain"), path("link")).unwrap();
        symlink("/nowhere", path("dangling")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&path("plain"), 5).unwrap(), b"12345");
        assert!(said(read(&path("plain"), 4)).contains("longer"));
        assert!(said(read(&path("link"), 9)).contains("symbolic link"));
        assert!(said(read(&path("dangling"), 9)).contains("symbolic link"));
        // Nobody writes to it: a reader that waited would wait for good.
        assert!(said(read(&path("fifo"), 9)).contains("FIFO"));
        assert!(said(read(folder.path(), 9)).contains("directory"));
        assert!(said(read(Path::new("/dev/zero"), 9)).contains("device"));
        assert_eq!(read(&path("none"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("victim"), "mine").unwrap();
        symlink(path("victim"), path("report")).unwrap();
        replace(&path("report"), |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(path("victim")).unwrap(), b"mine");
        assert_eq!(fs::read(path("report")).unwrap(), b"new");
        let written = fs::symlink_metadata(path("report")).unwrap();
        assert!(written.is_file() && written.permissions().mode() & 0o777 == 0o600);
        assert!(replace(&path("report"), |_| Err(io::Error::other("full"))).is_err());
        assert_eq!(fs::read(path("report")).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }
}
