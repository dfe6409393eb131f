//! The kernels tested by the program itself, on the device at hand, against the CPU backend.
//!
//! A stem's file holds its cases: shapes that fill tiles and shapes that do not, one of everything that there may be one
//! of, outputs poisoned or followed by what must stay, parts that must have the bits of the whole. cargo's tests run all
//! of them on the emulator ([`Trial::emulated`]); `osp selftest` runs them wherever it is told.

/// The checks of a file, as [`checks`] gives them out.
macro_rules! checks {
    ($($name:ident,)*) => {
        /// All of them.
        pub(super) fn checks() -> Vec<super::Check> {
            vec![$(super::Check { name: stringify!($name), run: $name }),*]
        }
    };
}

mod attention;
mod conv3d;
mod depthwise;
mod embed;
mod facts;
mod finite;
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

use crate::error::Result;

/// Some cases that belong together.
pub struct Check {
    /// What they show.
    pub name: &'static str,
    run: fn(&mut Trial) -> Result<()>,
}

impl Check {
    /// Tries the cases; what is found of kernels is kept there.
    ///
    /// # Errors
    /// What kept the check from going on. A kernel that is wrong is no error but a finding.
    pub fn run(&self, trial: &mut Trial) -> Result<()> {
        (self.run)(trial)
    }
}

/// What can be tested: files of kernels, each with the parts of it that stand by themselves.
pub const STEMS: [&str; 12] = [
    "attention",
    "conv3d",
    "depthwise",
    "embed",
    "finite",
    "gemm",
    "groupnorm",
    "norm",
    "patch",
    "resample",
    "sampler",
    "tile",
];

/// What the kernels take for granted of a GPU. It is tested on demand alone: where it fails, the kernels may still be right.
pub const FACTS: &str = "facts";

/// The checks of one of [`STEMS`], or of [`FACTS`].
pub fn checks(stem: &str) -> Option<Vec<Check>> {
    Some(match stem {
        "attention" => attention::checks(),
        "conv3d" => conv3d::checks(),
        "depthwise" => depthwise::checks(),
        "embed" => embed::checks(),
        "finite" => finite::checks(),
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
