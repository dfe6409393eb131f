//! Files that are read whole, or mapped: regular ones, and no longer than a bound.
//!
//! A folder may come from an archive. A name in it may lead to a pipe, which would be waited for, or to a device without an end.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// The most bytes of a config, an index or a record. The published ones have less than a hundredth.
pub const TEXT: u64 = 16 << 20;

/// The name of stdin, in this process and in a child process.
pub(crate) const STDIN: &str = "/dev/stdin";

/// Whether `path` is `-`, which stands for stdin where a pipe may be read. A file of this name is `./-`.
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Opens a regular file. A pipe or a device is not opened, because that may wait, or do something.
///
/// # Errors
/// Those of the system; an error for a path that leads to something else.
pub fn open(path: &Path) -> io::Result<File> {
    let found = fs::metadata(path)?;
    match () {
        () if found.is_file() => File::open(path),
        () if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        () => Err(io::Error::new(ErrorKind::InvalidInput, "it is a pipe or a device, expected a file")),
    }
}

/// The content of a regular file that has at most `most` bytes.
///
/// # Errors
/// Those of [`open`] and of the system; an error for a longer file.
pub fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    whole(open(path)?, most)
}

/// As [`bytes`], of text.
///
/// # Errors
/// As for [`bytes`], and for what is not UTF-8.
pub fn text(path: &Path, most: u64) -> io::Result<String> {
    utf8(bytes(path, most)?)
}

/// As [`bytes`], for a path of the user, who may mean a pipe, as in `<(command)`, or with `-` stdin.
///
/// # Errors
/// Those of the system; an error for more than `most` bytes.
pub fn piped_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let path = if is_stdin(path) { Path::new(STDIN) } else { path };
    whole(File::open(path)?, most)
}

/// As [`piped_bytes`], of text.
///
/// # Errors
/// As for [`piped_bytes`], and for what is not UTF-8.
pub fn piped_text(path: &Path, most: u64) -> io::Result<String> {
    utf8(piped_bytes(path, most)?)
}

fn whole(file: File, most: u64) -> io::Result<Vec<u8>> {
    // A pipe or a device claims no length.
    let claimed = file.metadata()?.len();
    let mut bytes = Vec::new();
    if claimed <= most {
        bytes.try_reserve_exact(usize::try_from(claimed).unwrap_or(usize::MAX))?;
        file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    match claimed.max(bytes.len() as u64) {
        length if length > most => {
            let problem = format!("it has more than {most} bytes, the most that are read; is it the right file?");
            Err(io::Error::new(ErrorKind::FileTooLarge, problem))
        }
        _ => Ok(bytes),
    }
}

fn utf8(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "stream did not contain valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "four").unwrap();
        assert_eq!(bytes(&path, 4).unwrap(), b"four");
        assert_eq!(text(&path, u64::MAX).unwrap(), "four");
        for read in [bytes(&path, 3), piped_bytes(&path, 3)] {
            let error = read.unwrap_err();
            assert!(error.kind() == ErrorKind::FileTooLarge && error.to_string().contains("more than 3 bytes"));
        }
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(text(&path, 4).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(bytes(folder.path(), 4).unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(bytes(&folder.path().join("absent"), 4).unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// A sparse file of a terabyte takes no memory before it is refused.
    #[test]
    fn a_claimed_length_is_refused_before_anything_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(bytes(&path, TEXT).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    #[cfg(unix)]
    fn pipes_and_devices_are_refused_at_once_except_where_the_user_may_mean_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        std::os::unix::fs::symlink("/dev/zero", at("zeros")).unwrap();
        for name in ["pipe", "zeros"] {
            // Nothing writes to the pipe: to open it would wait for ever.
            for error in [open(&at(name)).unwrap_err(), bytes(&at(name), TEXT).unwrap_err()] {
                assert!(error.to_string().contains("is a pipe or a device"), "{error}");
            }
        }
        assert_eq!(piped_bytes(&at("zeros"), 1 << 16).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let end = at("pipe");
        let writing = std::thread::spawn(move || fs::write(end, "words").unwrap());
        assert_eq!(piped_text(&at("pipe"), 5).unwrap(), "words");
        writing.join().unwrap();
    }
}
