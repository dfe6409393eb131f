//! The places of a state and of a lock: beside their output.

use crate::cli::lock::is_lock;
use osp::state;
use osp::video::is_stdout;
use osp::{Error, Result, staged};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The ending of a state's name, behind the output's.
const ENDING: &str = ".state";

/// The path of the state of `output`: `out.mp4` → `out.mp4.state`, `frames/` → `frames.state`. Stdout has none.
pub fn path(output: &Path) -> Option<PathBuf> {
    beside(output, ENDING)
}

/// The path of the lock of `output`, while a process makes it from a list. Stdout has none.
pub fn lock(output: &Path) -> Option<PathBuf> {
    beside(output, ".lock")
}

fn beside(output: &Path, ending: &str) -> Option<PathBuf> {
    let mut name = output.file_name()?.to_owned();
    name.push(ending);
    (!is_stdout(output)).then(|| output.with_file_name(name))
}

/// The output whose state has this path.
pub fn output_of(state: &Path) -> Option<PathBuf> {
    let name = state.file_name().and_then(OsStr::to_str)?.strip_suffix(ENDING)?;
    (!name.is_empty()).then(|| state.with_file_name(name))
}

/// Fails if the state of `output` cannot be written, or if it or the lock would replace another file.
pub fn check(output: &Path) -> Result<()> {
    let Some(path) = path(output) else { return Ok(()) };
    staged::check_file(&path)?;
    if path.exists() && !state::is_state(&path) {
        return Err(Error::Usage(format!(
            "{} is not a state, but the state of output {} would replace it; move it or choose another output",
            path.display(),
            output.display()
        )));
    }
    match lock(output) {
        Some(lock) if lock.is_symlink() && !lock.exists() => Err(Error::Usage(format!(
            "{} is a link to nothing, where the lock of output {} belongs; remove it or choose another output",
            lock.display(),
            output.display()
        ))),
        Some(lock) if lock.exists() && !is_lock(&lock) => Err(Error::Usage(format!(
            "{} is not a lock, but the lock of output {} would replace it; move it or choose another output",
            lock.display(),
            output.display()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_lie_beside_their_outputs() {
        for (output, state) in [("a/out.mp4", "a/out.mp4.state"), ("frames/", "frames.state"), ("v1.1", "v1.1.state")] {
            assert_eq!(path(Path::new(output)).unwrap(), Path::new(state));
            let back = output_of(Path::new(state)).unwrap();
            assert_eq!(back, Path::new(output.trim_end_matches('/')));
        }
        assert_eq!(path(Path::new("-")), None);
        assert!([".state", "out.mp4", "a/.state"].iter().all(|name| output_of(Path::new(name)).is_none()));
    }
}
