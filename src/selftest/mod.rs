//! The kernels tested by the program itself, on the device at hand, against the CPU backend.
//!
//! A stem's file holds its cases: shapes that fill tiles and shapes that do not, one of everything that there may be one
//! of, outputs poisoned or followed by what must stay, parts that must have the bits of the whole. cargo's tests run all
//! of them on the emulator ([`Trial::emulated`]); `osp selftest` runs them wherever it is told.

/// The checks of a file, as [`checks`] gives them out.
macro_rules! checks {
    ($($name:ident,)*) => {
        /// All of them.
        pub(super) fn checks<D: crate::cuda::device::Device>() -> Vec<super::Check<D>> {
            vec![$(super::Check { name: stringify!($name), run: $name }),*]
        }
    };
}

mod attention;
mod conv3d;
mod depthwise;
mod embed;
mod facts;
mod gemm;
mod groupnorm;
mod norm;
mod patch;
mod policy;
mod resample;
mod sampler;
mod tile;
mod trial;
mod values;

pub use trial::{Finding, Findings, Trial, merge};
pub use values::{half_values, rounded, values};

use crate::cuda::device::Device;
use crate::error::Result;

/// Some cases that belong together.
pub struct Check<D: Device> {
    /// What they show.
    pub name: &'static str,
    run: fn(&mut Trial<D>) -> Result<()>,
}

impl<D: Device> Check<D> {
    /// Tries the cases; what is found of kernels is kept there.
    ///
    /// # Errors
    /// What kept the check from going on. A kernel that is wrong is no error but a finding.
    pub fn run(&self, trial: &mut Trial<D>) -> Result<()> {
        (self.run)(trial)
    }
}

/// What can be tested: files of kernels, each with the parts of it that stand by themselves.
pub const STEMS: [&str; 11] =
    ["attention", "conv3d", "depthwise", "embed", "gemm", "groupnorm", "norm", "patch", "resample", "sampler", "tile"];

/// What the kernels take for granted of a GPU. It is tested on demand alone: where it fails, the kernels may still be right.
pub const FACTS: &str = "facts";

/// The checks of one of [`STEMS`], or of [`FACTS`].
pub fn checks<D: Device>(stem: &str) -> Option<Vec<Check<D>>> {
    Some(match stem {
        "attention" => attention::checks(),
        "conv3d" => conv3d::checks(),
        "depthwise" => depthwise::checks(),
        "embed" => embed::checks(),
        "gemm" => gemm::checks(),
        "groupnorm" => groupnorm::checks(),
        "norm" => norm::checks(),
        "patch" => patch::checks(),
        "resample" => resample::checks(),
        "sampler" => sampler::checks(),
        "tile" => tile::checks(),
        FACTS => facts::checks(),
        _ => return None,
    })
}
