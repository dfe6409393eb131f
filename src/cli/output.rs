//! Names of outputs.

use super::console::Console;
use osp::video::{Format, FrameRate, is_stdout};
use osp::{Error, Result, staged};
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// The most characters of a prompt in a name.
const SLUG: usize = 48;

/// Turns a prompt into a name: letters and digits in lower case, and `-` for everything between them.
pub fn slug(prompt: &str) -> String {
    let words = prompt.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.map(str::to_lowercase).collect::<Vec<_>>().join("-");
    let short: String = slug.chars().take(SLUG).collect();
    match short.trim_end_matches('-') {
        "" => "sample".to_owned(),
        whole if whole == slug => slug,
        // Prompts that begin alike have names of their own: FNV-1a of the whole one.
        short => {
            let hash =
                prompt.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
            format!("{short}-{hash:08x}")
        }
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

/// Whether `path` ends in a separator: then a dot in its name does not begin an ending.
fn is_folder(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().last().is_some_and(|&last| std::path::is_separator(char::from(last)))
}

fn name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn joined<const N: usize>(parts: [&OsStr; N]) -> OsString {
    parts.into_iter().collect()
}

/// Fails if output `path` is stdout, and JSON is printed there, too, or stdout is a terminal.
pub fn check_stdout(path: &Path, console: &Console) -> Result<()> {
    let usage = |text: &str| Err(Error::Usage(text.to_owned()));
    if !is_stdout(path) {
        return Ok(());
    }
    if console.json() {
        return usage("-o - and --json both print to stdout; name a file");
    }
    if io::stdout().is_terminal() {
        return usage("-o - prints a Y4M video, which a terminal cannot show; pipe it into a program, or name a file");
    }
    Ok(())
}

/// The frame rate that output `path` can hold for `fps`, with a warning if it differs.
pub fn playable(path: &Path, fps: FrameRate, console: &Console) -> Result<FrameRate> {
    let rate = Format::from_path(path)?.rate(fps);
    // No warning if both print the same digits.
    if rate.to_string() != fps.to_string() {
        let ending = path.extension().unwrap_or_default().display();
        console.warning(&format!(
            "{} plays at {rate} frames/s, the nearest rate to {fps} that .{ending} can hold",
            path.display()
        ));
    }
    Ok(rate)
}

/// Fails if no file can be written at `path`, or its ending is not `ending`.
pub fn check_file(path: &Path, ending: &str) -> Result<()> {
    if path.extension().is_none_or(|found| found != ending) {
        return Err(Error::Usage(format!("{}: the name of this output must end in .{ending}", path.display())));
    }
    staged::check_file(path)
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
        let [long, longer] = [30, 31].map(|times| slug(&"words ".repeat(times)));
        assert!(long.len() == SLUG - 1 + 9 && longer.len() == long.len() && longer != long, "{long} {longer}");
    }

    #[test]
    fn marks_come_before_the_ending() {
        assert_eq!(marked(Path::new("a/out.mp4"), "000"), Path::new("a/out-000.mp4"));
        assert_eq!(marked(Path::new("a/frames/"), "grid"), Path::new("a/frames-grid"));
        assert_eq!(marked(Path::new("a/v1.1/"), "000").as_os_str(), "a/v1.1-000/");
        assert_eq!(marked(Path::new("v1.1.mp4"), "grid"), Path::new("v1.1-grid.mp4"));
    }

    #[test]
    fn an_output_that_cannot_be_written_is_refused_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_file(&folder.path().join("a.safetensors"), "safetensors").is_ok());
        for wrong in ["a.npy", "a", "absent/a.safetensors"] {
            assert!(check_file(&folder.path().join(wrong), "safetensors").is_err(), "{wrong}");
        }
        std::fs::create_dir(folder.path().join("b.safetensors")).unwrap();
        assert!(check_file(&folder.path().join("b.safetensors"), "safetensors").is_err());
    }
}
