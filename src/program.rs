//! The program's version and build, and the folder of its cache.

use std::fs::{self, Metadata};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// The version and the time of the build: another build may compute other bits.
pub fn identity() -> String {
    let program = std::env::current_exe().and_then(fs::metadata);
    let built = program.map_or((0, 0), |program| (program.len(), modified(&program)));
    format!("osp {}, built {built:?}", env!("CARGO_PKG_VERSION"))
}

/// Nanoseconds from 1970 to the last change of a file; 0 where the system does not record it.
pub(crate) fn modified(facts: &Metadata) -> u128 {
    let since = facts.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos())
}

/// The user's cache folder: `$XDG_CACHE_HOME/osp`, else `~/.cache/osp`; `None` for a user without a home folder.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let caches = caches.or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(caches.join("osp"))
}
