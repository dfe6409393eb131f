//! The cache layout of the Hugging Face hub's clients: `models--ORG--NAME/snapshots/COMMIT/…`, whose files are links
//! into `blobs/`; `refs/main` names the commit.

use crate::error::{Error, Result};
use crate::reading;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Bytes of a reference: the name of a commit, which has 40.
const MOST_REFERENCE: u64 = 4096;

/// The folder that `name` means. `name` can be a folder; a model's folder in a cache of the hub, which means its
/// snapshot; or, if no such folder exists, `ORG/NAME` of a model in such a cache, perhaps followed by folders inside
/// the model.
///
/// A missing name that cannot be a model's is returned unchanged: the code that opens it reports that it is missing.
///
/// # Errors
/// [`Error::Config`] says where the model was looked for, or what is wrong with the cache; [`Error::Io`] if a folder of the
/// cache cannot be read.
pub fn locate(name: &Path) -> Result<PathBuf> {
    locate_in(name, &caches(|variable| std::env::var_os(variable)))
}

/// [`locate`] in caches other than the environment's.
///
/// # Errors
/// As for [`locate`].
pub fn locate_in(name: &Path, caches: &[PathBuf]) -> Result<PathBuf> {
    if name.exists() {
        return if name.join("snapshots").is_dir() { snapshot(name) } else { Ok(name.to_path_buf()) };
    }
    let Some((entry, inside)) = cache_entry(name) else { return Ok(name.to_path_buf()) };
    match caches.iter().map(|cache| cache.join(&entry)).find(|folder| folder.is_dir()) {
        Some(folder) => Ok(snapshot(&folder)?.join(inside)),
        None => {
            let places: Vec<_> = caches.iter().map(|cache| cache.display().to_string()).collect();
            let places = if places.is_empty() { "no cache".to_owned() } else { places.join(", ") };
            let problem = format!(
                "is neither a folder nor a model in a cache of the Hugging Face hub (looked for {entry} in {places}); \
                 download it, or give the path of its folder"
            );
            Err(Error::config(name, problem))
        }
    }
}

/// The cache folders of the hub's clients, from their environment variables.
fn caches(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    let candidates = [
        folder("HF_HUB_CACHE"),
        folder("HF_HOME").map(|home| home.join("hub")),
        user.map(|cache| cache.join("huggingface/hub")),
    ];
    let mut caches: Vec<PathBuf> = candidates.into_iter().flatten().collect();
    caches.dedup();
    caches
}

/// The name of the model's folder in a cache, and the rest of the path; `None` if `name` cannot be a model's name.
fn cache_entry(name: &Path) -> Option<(String, PathBuf)> {
    let mut parts = name.components();
    let mut next = || match parts.next()? {
        Component::Normal(part) => part.to_str(),
        _ => None,
    };
    let first = next()?;
    let entry = if first.starts_with("models--") { first.to_owned() } else { format!("models--{first}--{}", next()?) };
    let inside = parts.as_path();
    inside.components().all(|part| matches!(part, Component::Normal(_))).then(|| (entry, inside.to_path_buf()))
}

/// The snapshot in a model's folder of a cache: the one that `refs/main` names, or the only one.
fn snapshot(folder: &Path) -> Result<PathBuf> {
    let snapshots = folder.join("snapshots");
    let reference = folder.join("refs/main");
    if reference.exists() {
        let commit = reading::text(&reference, MOST_REFERENCE).map_err(Error::io("cannot read", &reference))?;
        let commit = commit.trim();
        let is_name = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let found = Some(snapshots.join(commit)).filter(|found| is_name && found.is_dir());
        return found.ok_or_else(|| {
            let problem = format!("names the snapshot {commit:?}, which is missing; download the model again");
            Error::config(&reference, problem)
        });
    }
    let entries = std::fs::read_dir(&snapshots).map_err(Error::io("cannot list", &snapshots))?;
    let found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    match <[PathBuf; 1]>::try_from(found) {
        Ok([only]) => Ok(only),
        Err(found) => {
            let problem = format!(
                "holds {} snapshots and no refs/main that names one; give the path of one snapshot",
                found.len()
            );
            Err(Error::config(&snapshots, problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_follow_the_environment_variables_in_order() {
        let found = |set: &[(&str, &str)]| {
            caches(|name| set.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into()))
        };
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(found(&[]), paths(&[]));
        assert_eq!(found(&[("HOME", "/u"), ("HF_HOME", "")]), paths(&["/u/.cache/huggingface/hub"]));
        assert_eq!(
            found(&[("HOME", "/u"), ("XDG_CACHE_HOME", "/c"), ("HF_HOME", "/h"), ("HF_HUB_CACHE", "/x")]),
            paths(&["/x", "/h/hub", "/c/huggingface/hub"])
        );
    }

    #[test]
    fn only_names_of_two_parts_can_be_models() {
        let entry = |name: &str| cache_entry(Path::new(name));
        let of = |name: &str, inside: &str| Some((name.to_owned(), PathBuf::from(inside)));
        assert_eq!(entry("org/name"), of("models--org--name", ""));
        assert_eq!(entry("org/name/vae"), of("models--org--name", "vae"));
        assert_eq!(entry("models--org--name"), of("models--org--name", ""));
        for other in ["name", "/org/name", "./org/name", "../org/name", "org/../name", "org/name/../x", ""] {
            assert_eq!(entry(other), None, "{other}");
        }
    }
}
