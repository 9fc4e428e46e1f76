//! Reads files that the configuration names: bounded, and regular files only, so that a wrong path is an error instead of exhausted memory or
//! a blocked task.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// The longest configuration, in bytes. A thousand fleets of four backends take half of it.
pub const CONFIG_MAX: u64 = 1 << 20;

/// The longest file of certificates or keys, in bytes: several times a system's bundle of authorities.
pub const PEM_MAX: u64 = 4 << 20;

/// The longest file of a token or of affinity keys, in bytes.
pub const SECRET_MAX: u64 = 4 << 10;

/// The content of a regular file of at most `max` bytes.
///
/// # Errors
/// I/O errors; [`ErrorKind::FileTooLarge`]; [`ErrorKind::InvalidInput`] for what is not a regular file.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // Opening a FIFO would block until it has a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let status = file.metadata()?;
    if !status.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    // The size is not reliable: files in procfs and growing files are longer.
    if status.len() > max || file.take(max + 1).read_to_end(&mut bytes)? as u64 > max {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("larger than {} KiB", max >> 10)));
    }
    Ok(bytes)
}

/// The same as text.
///
/// # Errors
/// Those of [`read`]; [`ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read_text(path: &Path, max: u64) -> io::Result<String> {
    String::from_utf8(read(path, max)?).map_err(|_| io::Error::new(ErrorKind::InvalidData, "not valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::watch::tests::Dir;

    fn error(path: &Path) -> (ErrorKind, String) {
        let error = read(path, 8 << 10).unwrap_err();
        (error.kind(), error.to_string())
    }

    #[test]
    fn regular_files_are_read_up_to_the_bound() {
        let dir = Dir::new("files-bound");
        let exact = dir.file("exact", &"x".repeat(8 << 10));
        assert_eq!(read(&exact, 8 << 10).unwrap().len(), 8 << 10);
        let longer = dir.file("longer", &"x".repeat((8 << 10) + 1));
        assert_eq!(error(&longer), (ErrorKind::FileTooLarge, "larger than 8 KiB".to_owned()));
        // As sparse as it is, reading it whole would take 300 GiB.
        let sparse = dir.file("sparse", "");
        fs::OpenOptions::new().write(true).open(&sparse).unwrap().set_len(300 << 30).unwrap();
        assert_eq!(error(&sparse).0, ErrorKind::FileTooLarge);
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_at_once() {
        let dir = Dir::new("files-kind");
        let fifo = dir.0.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        for path in [fifo.as_path(), Path::new("/dev/zero"), dir.0.as_path()] {
            assert_eq!(error(path), (ErrorKind::InvalidInput, "not a regular file".to_owned()), "{}", path.display());
        }
        assert_eq!(error(&dir.0.join("missing")).0, ErrorKind::NotFound);
    }

    #[test]
    fn text_is_utf_8() {
        let dir = Dir::new("files-text");
        let path = dir.0.join("latin1");
        fs::write(&path, b"caf\xe9").unwrap();
        assert_eq!(read_text(&path, 100).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
