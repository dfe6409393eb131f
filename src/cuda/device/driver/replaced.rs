//! Kernels from files in place of the program's own: `gemm.cubin`, `gemm.fatbin` or `gemm.ptx` for `kernels/gemm.cu`, and
//! likewise for any other file. `OSP_KERNELS=DIR` names a folder of them; what it lacks stays as it is.

use super::{compiled, image};
use crate::error::{Error, Result};
use crate::weights::synthetic::fnv1a;
use bytemuck::{Pod, Zeroable};
use std::path::{Path, PathBuf};

/// The folder of kernels that [`super::Driver::open`] takes.
const VARIABLE: &str = "OSP_KERNELS";
/// What an image's file may end in, in the order in which it is looked for.
const ENDINGS: [&str; 3] = ["cubin", "fatbin", "ptx"];

/// A file of kernels in place of one of the program's own.
#[derive(Debug)]
pub struct Replacement {
    stem: &'static str,
    path: PathBuf,
    /// Of its bytes.
    hash: u64,
    /// Its bytes, and zeros behind them, which end a text.
    lines: Vec<Line>,
    /// Whether its entry points could be seen.
    seen: bool,
}

/// Bytes as the driver wants them: aligned as the program's own images are.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Replacement {
    /// Reads the file at `path`, a cubin, fat binary or PTX that holds every kernel of `kernels/STEM.cu`.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such file of kernels, or the file is damaged or lacks one of its entry points;
    /// [`Error::Io`] if it cannot be read.
    pub fn read(stem: &str, path: &Path) -> Result<Self> {
        let unknown = || Error::Usage(format!("kernels/{stem}.cu is no file of kernels; there are: {}", stems()));
        let file = compiled::file(stem).ok_or_else(unknown)?;
        let bytes = std::fs::read(path).map_err(Error::io("cannot read", path))?;
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

    /// The file of kernels whose place it takes.
    pub fn stem(&self) -> &'static str {
        self.stem
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its entry points could be seen; those of a fat binary are compressed, and only a driver finds them.
    pub fn shows_entry_points(&self) -> bool {
        self.seen
    }

    /// What the driver loads.
    pub(super) fn image(&self) -> &[u8] {
        bytemuck::cast_slice(&self.lines)
    }
}

/// Every stem, for people.
fn stems() -> String {
    compiled::FILES.iter().map(|file| file.stem).collect::<Vec<_>>().join(", ")
}

/// What the environment puts in the place of the program's own files.
///
/// # Errors
/// [`Error::Usage`] if the folder is none, and as for [`Replacement::read`].
pub(super) fn of_environment() -> Result<Vec<Replacement>> {
    match std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()) {
        Some(folder) => in_folder(Path::new(&folder)),
        None => Ok(Vec::new()),
    }
}

fn in_folder(folder: &Path) -> Result<Vec<Replacement>> {
    if !folder.is_dir() {
        let folder = folder.display();
        return Err(Error::Usage(format!(
            "{VARIABLE} is {folder}, which is no folder; it should hold .cubin or .ptx files"
        )));
    }
    let file = |stem: &'static str| {
        let paths = ENDINGS.map(|ending| folder.join(stem).with_extension(ending));
        Some((stem, paths.into_iter().find(|path| path.exists())?))
    };
    let files = compiled::FILES.iter().filter_map(|kernels| file(kernels.stem));
    files.map(|(stem, path)| Replacement::read(stem, &path)).collect()
}

/// The files of a folder as a name tells them: stems, each with a hash of its bytes.
pub(super) fn list(replaced: &[Replacement]) -> String {
    let files: Vec<String> = replaced.iter().map(|file| format!("{} {:08x}", file.stem, file.hash as u32)).collect();
    files.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PTX of a file's kernels, without what they do.
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
    fn a_file_holds_every_kernel_whose_place_it_takes() {
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
        assert!(unknown.contains("kernels/tiles.cu") && unknown.contains("gemm, attention, "), "{unknown}");
        let absent = Replacement::read("tile", Path::new("absent.cubin")).unwrap_err().to_string();
        assert!(absent.contains("absent.cubin"), "{absent}");
    }
}
