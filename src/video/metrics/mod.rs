//! How similar two clips are (PSNR and SSIM), and how steadily a clip moves (the warp error).

mod psnr;
mod ssim;
mod warp;

pub use psnr::{psnr, psnr_where};
pub use ssim::ssim;
pub use warp::{Motion, warp_error, warp_error_along};

use super::Clip;
use crate::error::{Error, Result};

/// A measure of every frame, and of all frames together.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// One value for each frame.
    pub frames: Vec<f64>,
    /// The value of all frames together.
    pub overall: f64,
}

fn same_shape(op: &'static str, a: &Clip, b: &Clip) -> Result<()> {
    if (a.frames, a.height, a.width) == (b.frames, b.height, b.width) {
        return Ok(());
    }
    let shape = |clip: &Clip| format!("{} frames of {}x{}", clip.frames, clip.height, clip.width);
    Err(Error::Shape { op, argument: "second clip", expected: shape(a), found: shape(b) })
}
