//! The compiled kernels: their images in this binary.

mod compiled {
    //! What build.rs compiled: one fat binary per file of kernels, none without nvcc.
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

pub(super) use compiled::{ARCHITECTURES, FILES, NVCC_MAJOR};

/// An image as the driver wants it: it reads headers in place, and bytes by themselves may lie at any address.
#[allow(dead_code, reason = "a build without nvcc has no images")]
#[repr(C, align(64))]
struct Aligned<const N: usize>([u8; N]);

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn images_are_aligned() {
        for (image, names) in FILES {
            assert!(image.as_ptr().addr().is_multiple_of(64), "the image of {names:?}");
        }
    }
}
