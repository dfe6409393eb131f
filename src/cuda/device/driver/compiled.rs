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
    /// The only architecture that it is compiled for; `None`: all of [`ARCHITECTURES`], and PTX for newer ones.
    pub only: Option<&'static str>,
}

impl File {
    /// The architectures that it has machine code for.
    fn architectures(&self) -> &[&'static str] {
        self.only.as_ref().map_or(ARCHITECTURES, std::slice::from_ref)
    }

    /// Whether a GPU of this compute capability can run it.
    pub fn runs_on(&self, capability: (i32, i32)) -> bool {
        self.only.is_none_or(|only| runs(only, capability))
    }
}

/// Whether machine code for an architecture runs on a GPU: that of an `a` architecture on exactly its compute capability,
/// other code also on later minor versions.
pub(super) fn runs(architecture: &str, (major, minor): (i32, i32)) -> bool {
    match architecture.strip_suffix('a') {
        Some(number) => number.parse() == Ok(10 * major + minor),
        None => architecture.parse().is_ok_and(|number: i32| number / 10 == major && number % 10 <= minor),
    }
}

/// The shared memory, in bytes, that a block of this kernel may have on every GPU that the kernel is compiled for (CUDA
/// C++ Programming Guide, table of compute capabilities).
pub(in crate::cuda::device) fn shared_on_all(kernel: &str) -> u32 {
    let of_architecture = |architecture: &&str| match *architecture {
        "80" => 163 << 10,
        "90a" | "100" => 227 << 10,
        _ => 99 << 10,
    };
    let architectures = holder(kernel).map_or(ARCHITECTURES, File::architectures);
    architectures.iter().map(of_architecture).min().unwrap_or(0)
}

/// The file that holds a kernel.
pub(super) fn holder(kernel: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.entries.contains(&kernel))
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
