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
mod pixels;
mod policy;
mod resample;
mod sampler;
mod tile;
mod trial;
mod values;

pub use trial::{Finding, Findings, Trial, merge};
pub use values::{half_values, rounded, values};

use crate::cuda::{Cuda, Half};
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

include!(concat!(env!("OUT_DIR"), "/stems.rs"));

/// What the kernels take for granted of a GPU. It is tested on demand alone: where it fails, the kernels may still be right.
pub const FACTS: &str = "facts";

type CheckBody = dyn Fn(&Cuda, Half) -> Result<()>;

/// Something of the size that it has for the published models. The cases of [`checks`] are small: their times are those of
/// launches.
pub struct Work {
    /// What is done, and its size.
    pub name: &'static str,
    run: Box<CheckBody>,
}

impl Work {
    fn of(name: &'static str, body: impl trial::Body + 'static) -> Self {
        Self { name, run: Box::new(move |kernels, half| body.run(kernels, half).map(drop)) }
    }

    /// Does it once with made-up values, which the host brings, by kernels of the type `half`.
    ///
    /// # Errors
    /// Those of the operation and of the device.
    pub fn run(&self, kernels: &Cuda, half: Half) -> Result<()> {
        (self.run)(kernels, half)
    }
}

/// The checks of a file of kernels: of one of [`STEMS`], of [`FACTS`], or of `attention_wide`, which has those of `attention`.
pub fn checks(stem: &str) -> Option<Vec<Check>> {
    find(stem).map(|(checks, _)| checks())
}

/// What the kernels of a file do for the published models, for timing; nothing for [`FACTS`]. Files are those of [`checks`].
pub fn work(stem: &str) -> Option<Vec<Work>> {
    find(stem).map(|(_, work)| work())
}

type Stem = (fn() -> Vec<Check>, fn() -> Vec<Work>);

fn find(stem: &str) -> Option<Stem> {
    Some(match stem {
        "attention" | "attention_wide" => (attention::checks, attention::work),
        "conv3d" => (conv3d::checks, conv3d::work),
        "depthwise" => (depthwise::checks, depthwise::work),
        "embed" => (embed::checks, embed::work),
        "finite" => (finite::checks, finite::work),
        "gemm" => (gemm::checks, gemm::work),
        "groupnorm" => (groupnorm::checks, groupnorm::work),
        "norm" => (norm::checks, norm::work),
        "patch" => (patch::checks, patch::work),
        "pixels" => (pixels::checks, pixels::work),
        "resample" => (resample::checks, resample::work),
        "sampler" => (sampler::checks, sampler::work),
        "tile" => (tile::checks, tile::work),
        FACTS => (facts::checks, Vec::new),
        _ => return None,
    })
}
