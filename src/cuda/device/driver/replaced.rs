//! Kernels from a folder in place of the program's own: `OSP_KERNELS=DIR` with `gemm.cubin`, `gemm.fatbin` or `gemm.ptx` for
//! `kernels/gemm.cu`, and likewise for any other file. What the folder lacks stays as it is.

use crate::error::{Error, Result};
use crate::weights::synthetic::fnv1a;
use std::path::{Path, PathBuf};

/// What an image's file may end in, in the order in which it is looked for.
const ENDINGS: [&str; 3] = ["cubin", "fatbin", "ptx"];

/// A file of kernels that is not the program's own.
#[derive(Debug)]
pub(super) struct Replaced {
    pub stem: &'static str,
    pub path: PathBuf,
    /// Of its bytes.
    pub hash: u64,
    /// In words, for their alignment; behind the file zeros, which end a text.
    words: Vec<u64>,
}

impl Replaced {
    /// What the driver loads.
    pub fn image(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }
}

/// What takes the place of a file of kernels, if the environment says so.
///
/// # Errors
/// [`Error::Usage`] if the folder is none, or has nothing for any file; [`Error::Io`] for a file that cannot be read.
pub(super) fn replacement(stem: &'static str) -> Result<Option<Replaced>> {
    match std::env::var_os("OSP_KERNELS").filter(|folder| !folder.is_empty()) {
        Some(folder) => in_folder(Path::new(&folder), stem),
        None => Ok(None),
    }
}

fn in_folder(folder: &Path, stem: &'static str) -> Result<Option<Replaced>> {
    if !folder.is_dir() {
        let folder = folder.display();
        return Err(Error::Usage(format!(
            "OSP_KERNELS is {folder}, which is no folder; it should hold .cubin or .ptx files"
        )));
    }
    let files = ENDINGS.iter().map(|ending| folder.join(stem).with_extension(ending));
    let Some(path) = files.into_iter().find(|path| path.exists()) else { return Ok(None) };
    let bytes = std::fs::read(&path).map_err(Error::io("cannot read", &path))?;
    let mut words = vec![0; bytes.len() / size_of::<u64>() + 1];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    Ok(Some(Replaced { stem, path, hash: fnv1a(&bytes), words }))
}

/// The files of a folder as a name tells them: stems, each with a hash of its bytes.
pub(super) fn list(replaced: &[Replaced]) -> String {
    let files: Vec<String> = replaced.iter().map(|file| format!("{} {:08x}", file.stem, file.hash as u32)).collect();
    files.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_replaces_the_files_that_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gemm.ptx"), "text of eight or more").unwrap();
        std::fs::write(folder.path().join("norm.cubin"), [7; 16]).unwrap();
        std::fs::write(folder.path().join("norm.ptx"), "older").unwrap();
        let gemm = in_folder(folder.path(), "gemm").unwrap().unwrap();
        assert!(gemm.image().starts_with(b"text of eight or more\0") && gemm.image().as_ptr().addr().is_multiple_of(8));
        let norm = in_folder(folder.path(), "norm").unwrap().unwrap();
        assert_eq!((norm.path.extension().unwrap().to_str(), norm.image().len()), (Some("cubin"), 24));
        assert!(in_folder(folder.path(), "tile").unwrap().is_none());
        let listed = list(&[gemm, norm]);
        assert!(listed.starts_with("gemm ") && listed.contains(", norm "), "{listed}");
        let missing = in_folder(&folder.path().join("absent"), "gemm").unwrap_err().to_string();
        assert!(missing.contains("absent") && missing.contains("OSP_KERNELS"), "{missing}");
    }
}
