//! What this program is, and where it keeps what it finds out.

use std::fs::{self, Metadata};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// The version and the build: a program that was built anew may compute otherwise.
pub fn identity() -> String {
    let program = std::env::current_exe().and_then(fs::metadata);
    let built = program.map_or((0, 0), |program| (program.len(), modified(&program)));
    format!("osp {}, built {built:?}", env!("CARGO_PKG_VERSION"))
}

/// Nanoseconds from 1970 to the last change of a file, 0 where the system does not tell.
pub(crate) fn modified(facts: &Metadata) -> u128 {
    let since = facts.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos())
}

/// The user's folder for what can be made again: `$XDG_CACHE_HOME/osp`, else `~/.cache/osp`; none for users without a
/// home.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let caches = caches.or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(caches.join("osp"))
}
