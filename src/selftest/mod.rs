//! The self-test: runs the kernels on a device and compares them with the CPU backend.
//!
//! Each stem's file holds its cases: shapes that fill tiles and shapes that do not, sizes of one, outputs with wild
//! values or with values behind them that must stay, and parts that must have the bits of the whole. cargo's tests run
//! all cases on the emulator ([`Trial::emulated`]); `osp selftest` runs them on the device that the user chooses.

/// Lists the checks of a file, for [`checks`].
macro_rules! checks {
    ($($name:ident,)*) => {
        /// All checks of this file.
        pub(super) fn checks() -> Vec<super::Check> {
            vec![$(super::Check { name: stringify!($name), run: $name }),*]
        }
    };
}

mod attention;
mod conv3d;
mod depthwise;
mod distance;
mod embed;
mod enlarge;
mod facts;
mod facts_sm90;
mod finite;
mod folded;
mod gemm;
mod groupnorm;
mod norm;
mod oracle;
mod patch;
mod pixels;
mod policy;
mod resample;
mod sampler;
mod tile;
mod trial;
mod values;

pub use oracle::chosen_cases;
pub use trial::{Finding, Findings, Trial, merge};
pub use values::{half_values, rounded, values};

use crate::cuda::{Cuda, Half};
use crate::error::Result;

/// A group of cases that test one property.
pub struct Check {
    /// The property.
    pub name: &'static str,
    run: fn(&mut Trial) -> Result<()>,
}

impl Check {
    /// Runs the cases; `trial` keeps the findings.
    ///
    /// # Errors
    /// An error that stops the check. A wrong kernel is a finding, not an error.
    pub fn run(&self, trial: &mut Trial) -> Result<()> {
        (self.run)(trial)
    }
}

include!(concat!(env!("OUT_DIR"), "/stems.rs"));

/// The stem of the facts about a GPU that the kernels rely on. It runs only on demand: where it fails, the kernels may
/// still be right.
pub const FACTS: &str = "facts";

type CheckBody = dyn Fn(&Cuda, Half) -> Result<()>;

/// An operation at its size in the published models, for timing. The cases of [`checks`] are too small: a launch takes
/// longer than their work.
pub struct Work {
    /// The operation and its size.
    pub name: &'static str,
    run: Box<CheckBody>,
}

impl Work {
    fn of(name: &'static str, body: impl trial::Body + 'static) -> Self {
        Self { name, run: Box::new(move |kernels, half| body.run(kernels, half).map(drop)) }
    }

    /// Runs the operation once by kernels of the type `half`. The host uploads pseudo-random values first.
    ///
    /// # Errors
    /// The errors of the operation and of the device.
    pub fn run(&self, kernels: &Cuda, half: Half) -> Result<()> {
        (self.run)(kernels, half)
    }
}

/// The checks of a file of kernels: one of [`STEMS`], [`FACTS`], or `attention_wide`, which shares the checks of
/// `attention`.
pub fn checks(stem: &str) -> Option<Vec<Check>> {
    find(stem).map(|(checks, _)| checks().into_iter().chain(oracle::check_of(stem)).collect())
}

/// The work of a file of kernels for the published models, for timing; none for [`FACTS`]. `stem` as for [`checks`].
pub fn work(stem: &str) -> Option<Vec<Work>> {
    find(stem).map(|(_, work)| work())
}

type Stem = (fn() -> Vec<Check>, fn() -> Vec<Work>);

fn find(stem: &str) -> Option<Stem> {
    Some(match stem {
        "attention" | "attention_wide" => (attention::checks, attention::work),
        "conv3d" => (conv3d::checks, conv3d::work),
        "depthwise" => (depthwise::checks, depthwise::work),
        "distance" => (distance::checks, distance::work),
        "embed" => (embed::checks, embed::work),
        "enlarge" => (enlarge::checks, enlarge::work),
        "finite" => (finite::checks, finite::work),
        "folded" => (folded::checks, folded::work),
        "gemm" => (gemm::checks, gemm::work),
        "groupnorm" => (groupnorm::checks, groupnorm::work),
        "norm" => (norm::checks, norm::work),
        "patch" => (patch::checks, patch::work),
        "pixels" => (pixels::checks, pixels::work),
        "resample" => (resample::checks, resample::work),
        "sampler" => (sampler::checks, sampler::work),
        "tile" => (tile::checks, tile::work),
        FACTS => (|| [facts::checks(), facts_sm90::checks()].into_iter().flatten().collect(), Vec::new),
        _ => return None,
    })
}
