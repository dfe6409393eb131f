//! Files that replace the program's own kernels: `gemm.cubin`, `gemm.fatbin` or `gemm.ptx` replaces `kernels/gemm.cu`,
//! and likewise for any other stem. `OSP_KERNELS=DIR` names a folder of such files.

use super::{compiled, image};
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::reading;
use bytemuck::{Pod, Zeroable};
use std::path::{Path, PathBuf};

/// The environment variable that names the folder for [`super::Driver::open`].
const VARIABLE: &str = "OSP_KERNELS";
/// The most bytes of a file. The program's own have less than a hundredth.
const MOST_BYTES: u64 = 256 << 20;
/// Endings of an image's file, in the order of the search.
const ENDINGS: [&str; 3] = ["cubin", "fatbin", "ptx"];

/// A file that replaces one of the program's files of kernels.
#[derive(Debug)]
pub struct Replacement {
    stem: &'static str,
    path: PathBuf,
    /// Hash of its bytes.
    hash: u64,
    /// Its bytes, and zeros behind them, because the driver expects a zero after PTX.
    lines: Vec<Line>,
    /// Whether the program could read its entry points.
    seen: bool,
}

/// Bytes that are aligned for the driver, as the program's own images are.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Replacement {
    /// Reads the file at `path`, a cubin, fat binary or PTX that holds every kernel of `kernels/STEM.cu`.
    ///
    /// # Errors
    /// [`Error::Usage`] if no file of kernels has this stem, or if the file is damaged or lacks an entry point;
    /// [`Error::Io`] if the file cannot be read.
    pub fn read(stem: &str, path: &Path) -> Result<Self> {
        let unknown = || Error::Usage(format!("kernels/{stem}.cu does not exist; use one of: {}", stems()));
        let file = compiled::file(stem).ok_or_else(unknown)?;
        let bytes = reading::bytes(path, MOST_BYTES).map_err(Error::io("cannot read", path))?;
        let mut lines = vec![Line([0; 64]); bytes.len() / size_of::<Line>() + 1];
        bytemuck::cast_slice_mut(&mut lines)[..bytes.len()].copy_from_slice(&bytes);
        let damaged = |problem| Error::Usage(format!("{}: {problem}", path.display()));
        let found = image::entry_points(&bytes).map_err(damaged)?;
        let lacks = |names: &Vec<String>| file.entries.iter().find(|entry| !names.iter().any(|name| name == *entry));
        if let Some(entry) = found.as_ref().and_then(lacks) {
            return Err(Error::Usage(format!(
                "{} lacks the kernel {entry}: it must hold all {} of kernels/{stem}.cu",
                path.display(),
                file.entries.len()
            )));
        }
        Ok(Self { stem: file.stem, path: path.to_owned(), hash: fnv1a(&bytes), lines, seen: found.is_some() })
    }

    /// The stem of the file of kernels that it replaces.
    pub fn stem(&self) -> &'static str {
        self.stem
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the program could read its entry points. A fat binary compresses them, and only a driver finds them.
    pub fn shows_entry_points(&self) -> bool {
        self.seen
    }

    /// Its text, if it is PTX.
    #[cfg(feature = "ptx")]
    pub fn text(&self) -> Option<&str> {
        let text = std::str::from_utf8(self.image()).ok()?;
        self.path.extension().is_some_and(|ending| ending == "ptx").then(|| text.trim_end_matches('\0'))
    }

    /// The bytes that the driver loads.
    pub(super) fn image(&self) -> &[u8] {
        bytemuck::cast_slice(&self.lines)
    }
}

/// Every stem, for messages.
fn stems() -> String {
    compiled::FILES.iter().map(|file| file.stem).collect::<Vec<_>>().join(", ")
}

/// The replacements in the folder that the environment names.
///
/// # Errors
/// [`Error::Usage`] if it is not a folder, and as for [`Replacement::read`].
pub fn of_environment() -> Result<Vec<Replacement>> {
    match std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()) {
        Some(folder) => in_folder(Path::new(&folder)),
        None => Ok(Vec::new()),
    }
}

fn in_folder(folder: &Path) -> Result<Vec<Replacement>> {
    if !folder.is_dir() {
        let folder = folder.display();
        return Err(Error::Usage(format!(
            "{VARIABLE} is {folder}, which is not a folder; name a folder with .cubin, .fatbin or .ptx files"
        )));
    }
    let file = |stem: &'static str| {
        let paths = ENDINGS.map(|ending| folder.join(stem).with_extension(ending));
        Some((stem, paths.into_iter().find(|path| path.exists())?))
    };
    let files = compiled::FILES.iter().filter_map(|kernels| file(kernels.stem));
    files.map(|(stem, path)| Replacement::read(stem, &path)).collect()
}

/// The replacements for a device's name: each stem with a hash of the file's bytes.
pub fn list(replaced: &[Replacement]) -> String {
    let files: Vec<String> = replaced.iter().map(|file| format!("{} {:08x}", file.stem, file.hash as u32)).collect();
    files.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PTX with a file's kernels, whose bodies are empty.
    fn ptx(stem: &str) -> String {
        let entries = compiled::file(stem).unwrap().entries.iter();
        let entries = entries.map(|entry| format!(".visible .entry {entry}(.param .b64 p)\n{{\n\tret;\n}}\n"));
        [".version 8.0\n.target sm_80\n".to_owned()].into_iter().chain(entries).collect()
    }

    #[test]
    fn a_folder_replaces_the_files_that_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gemm.ptx"), ptx("gemm")).unwrap();
        std::fs::write(folder.path().join("norm.cubin"), ptx("norm")).unwrap();
        std::fs::write(folder.path().join("norm.ptx"), "older").unwrap();
        let found = in_folder(folder.path()).unwrap();
        let [gemm, norm] = &found[..] else { panic!("{found:?}") };
        let text = [ptx("gemm").as_bytes(), b"\0"].concat();
        assert!(gemm.image().starts_with(&text) && gemm.image().as_ptr().addr().is_multiple_of(64));
        assert_eq!((norm.path().extension().unwrap().to_str(), norm.stem()), (Some("cubin"), "norm"));
        let listed = list(&found);
        assert!(listed.starts_with("gemm ") && listed.contains(", norm "), "{listed}");
        let missing = in_folder(&folder.path().join("absent")).unwrap_err().to_string();
        assert!(missing.contains("absent") && missing.contains(VARIABLE), "{missing}");
        std::fs::remove_file(folder.path().join("norm.cubin")).unwrap();
        let damaged = in_folder(folder.path()).unwrap_err().to_string();
        assert!(damaged.contains("norm.ptx") && damaged.contains("neither"), "{damaged}");
    }

    #[test]
    fn a_replacement_holds_every_kernel_of_its_stem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.ptx");
        let read = |stem, text: &str| {
            std::fs::write(&path, text).unwrap();
            Replacement::read(stem, &path).map_err(|error| error.to_string())
        };
        assert!(read("tile", &ptx("tile")).unwrap().shows_entry_points());
        let lacks = read("tile", &ptx("tile").replace("blend_box_f16", "blend_box_f32")).unwrap_err();
        assert!(lacks.contains("mine.ptx lacks the kernel blend_box_f16"), "{lacks}");
        let unknown = read("tiles", &ptx("tile")).unwrap_err();
        assert!(unknown.contains("kernels/tiles.cu") && unknown.contains("gemm, gemm_sm90, attention, "), "{unknown}");
        let absent = Replacement::read("tile", Path::new("absent.cubin")).unwrap_err().to_string();
        assert!(absent.contains("absent.cubin"), "{absent}");
    }
}
