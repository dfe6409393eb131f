//! The files of kernels, and the fat binary that build.rs compiled from each. Without nvcc there are no fat binaries.

mod table {
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

pub(super) use table::{ARCHITECTURES, FILES, NVCC_MAJOR};

/// A file of kernels.
pub(super) struct File {
    pub stem: &'static str,
    /// Its fat binary.
    pub image: Option<&'static [u8]>,
    pub entries: &'static [&'static str],
}

/// Whether this program holds the images of all files.
pub(super) fn all() -> bool {
    FILES.iter().all(|file| file.image.is_some())
}

/// The file `kernels/STEM.cu`, if there is one.
pub(super) fn file(stem: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.stem == stem)
}

/// An image that is aligned for the driver, which reads the headers in place. A plain byte array may lie at any
/// address.
#[allow(dead_code, reason = "a build without nvcc has no images")]
#[repr(C, align(64))]
struct Aligned<const N: usize>([u8; N]);
