//! Names of outputs, and small files that appear whole or not at all.

use osp::video::check_writable;
use osp::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Characters of a prompt that go into a name.
const SLUG: usize = 48;

/// A file name's part made of `prompt`: its letters and digits in lower case, `-` for all between.
pub fn slug(prompt: &str) -> String {
    let words = prompt.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.map(str::to_lowercase).collect::<Vec<_>>().join("-");
    let short: String = slug.chars().take(SLUG).collect();
    match short.trim_end_matches('-') {
        "" => "sample".to_owned(),
        short => short.to_owned(),
    }
}

/// `path` with `-mark` at the end of its name, before the ending: `out.mp4` → `out-000.mp4`, `frames/` → `frames-000/`.
pub fn marked(path: &Path, mark: &str) -> PathBuf {
    let Some(ending) = path.extension().filter(|_| !is_folder(path)) else {
        let folder = path.with_file_name(joined([name(path), OsStr::new("-"), OsStr::new(mark)]));
        return if is_folder(path) { folder.join("") } else { folder };
    };
    let stem = path.file_stem().unwrap_or_default();
    path.with_file_name(joined([stem, OsStr::new("-"), OsStr::new(mark), OsStr::new("."), ending]))
}

/// The record that belongs to output `path`: `out.mp4` → `out.json`, `frames/` → `frames.json`.
pub fn record_path(path: &Path) -> PathBuf {
    let stem = if is_folder(path) { name(path) } else { path.file_stem().unwrap_or_default() };
    path.with_file_name(joined([stem, OsStr::new(".json")]))
}

/// Whether `path` ends in a separator, so that a dot in its name begins no ending.
fn is_folder(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().last().is_some_and(|&last| std::path::is_separator(char::from(last)))
}

fn name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn joined<const N: usize>(parts: [&OsStr; N]) -> OsString {
    parts.into_iter().collect()
}

/// Fails if [`write_file`] to `path` would: folder missing or not writable, a folder in its place, another ending than
/// `ending`.
pub fn check_file(path: &Path, ending: &str) -> Result<()> {
    if path.extension().is_none_or(|found| found != ending) {
        return Err(Error::Usage(format!("{}: the name of this output must end in .{ending}", path.display())));
    }
    // The same questions as for a video, asked under a name that is one.
    check_writable(&path.with_extension("y4m"))?;
    if path.is_dir() {
        return Err(Error::Usage(format!("output {} is a folder; name a file in it", path.display())));
    }
    Ok(())
}

/// Puts `bytes` where `path` is, replacing an older file only when all of them are written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let fault = || Error::io("cannot write", path);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any new file has; the default is the owner alone.
        file.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = file.prefix(".osp-").tempfile_in(folder).map_err(fault())?;
    file.write_all(bytes).map_err(fault())?;
    file.persist(path).map_err(|failed| fault()(failed.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_short_lower_case_and_never_empty() {
        assert_eq!(slug("A red circle, moving to the RIGHT!"), "a-red-circle-moving-to-the-right");
        assert_eq!(slug("../../etc/passwd"), "etc-passwd");
        assert_eq!(slug("Ein Bär"), "ein-bär");
        assert_eq!(slug("!?"), "sample");
        assert_eq!(slug(&"words ".repeat(30)).len(), SLUG - 1);
    }

    #[test]
    fn marks_stand_before_the_ending() {
        assert_eq!(marked(Path::new("a/out.mp4"), "000"), Path::new("a/out-000.mp4"));
        assert_eq!(marked(Path::new("a/frames/"), "grid"), Path::new("a/frames-grid"));
        assert_eq!(marked(Path::new("a/v1.1/"), "000").as_os_str(), "a/v1.1-000/");
        assert_eq!(marked(Path::new("v1.1.mp4"), "grid"), Path::new("v1.1-grid.mp4"));
    }

    #[test]
    fn records_stand_beside_their_outputs() {
        assert_eq!(record_path(Path::new("a/out.mp4")), Path::new("a/out.json"));
        assert_eq!(record_path(Path::new("a/frames/")), Path::new("a/frames.json"));
        assert_eq!(record_path(Path::new("a/v1.1/")), Path::new("a/v1.1.json"));
    }

    #[test]
    fn files_appear_whole_and_replace_older_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        write_file(&path, b"one").unwrap();
        write_file(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_file(&folder.path().join("absent/record.json"), b"").is_err());
    }

    #[test]
    fn what_cannot_be_written_is_refused_before() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_file(&folder.path().join("a.safetensors"), "safetensors").is_ok());
        for wrong in ["a.npy", "a", "absent/a.safetensors"] {
            assert!(check_file(&folder.path().join(wrong), "safetensors").is_err(), "{wrong}");
        }
        std::fs::create_dir(folder.path().join("b.safetensors")).unwrap();
        assert!(check_file(&folder.path().join("b.safetensors"), "safetensors").is_err());
    }
}
