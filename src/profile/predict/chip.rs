//! The rates of GPUs of compute capability 9.0.

use crate::error::{Error, Result};
use crate::profile::gpus::{GPUS, Gpu};

/// The GPUs that the model knows: their keys, and their multiprocessors by the maker's data sheets.
const CHIPS: [(&str, usize); 3] = [("h100", 132), ("h100-pcie", 114), ("h200", 132)];

/// FLOPs of a multiprocessor in a clock, by `wgmma` in 16 bits: NVIDIA's H100 whitepaper.
pub(super) const FLOPS_A_CLOCK: f64 = 4096.0;
/// Bytes that pass through a multiprocessor's shared memory in a clock: CUDA's programming guide, 32 banks of 4 bytes.
pub(super) const SHARED_A_CLOCK: f64 = 128.0;
/// Bytes that a multiprocessor gets from the second-level cache in a clock while all do. The most that a published
/// product is known to copy: fast.cu multiplies 8192³ at 808 TFLOP/s with 128 FLOPs for a byte (tiles of 128×256 in
/// clusters of two), 6.3 TB/s on 132 multiprocessors. The cache may give more: DeepGEMM's own model counts with 46.6. Chips
/// and Cheese measured 5.5 TB/s, but on an H100 PCIe, whose clock fell under that load.
pub(super) const CACHE_A_CLOCK: f64 = 26.1;
/// The part of the full rate that `mma.sync` reaches: 62 to 65 % (arXiv 2402.13499 and 2501.12084).
pub(super) const WARPS_RATE: f64 = 0.635;
/// The part of the data sheet's bandwidth that a kernel reaches which reads and writes its memory once: 2.7 TB/s of an
/// H100's 3.35, and 81 % of an H200's by SGLang's GroupNorm with SiLU.
pub(super) const MEMORY_SHARE: f64 = 0.81;
/// The same for attention over a single tile of keys, where a block has one tile under way: 60 to 75 % of a copy's
/// bandwidth, which is 90 % of the data sheet's.
pub(super) const LONE_TILE_SHARE: f64 = 0.61;
/// Seconds between the work of two launches that wait for each other: 5 µs for a launch whose bytes take 1.2
/// (docs/benchmarks/notes.md, the check for NaN and infinities).
pub(super) const LAUNCH_SECONDS: f64 = 4e-6;

/// A GPU whose kernels the model predicts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chip {
    /// Its multiprocessors.
    pub(super) multiprocessors: usize,
    /// Clocks in a second at which its products have the data sheet's rate.
    pub(super) clock: f64,
    /// Bytes per second of its memory by the data sheet.
    pub(super) memory: f64,
}

impl Chip {
    /// The chip of a GPU.
    ///
    /// # Errors
    /// [`Error::Usage`] for a GPU that is not of compute capability 9.0: nothing here was counted for it.
    pub fn of(gpu: &Gpu) -> Result<Self> {
        let known = CHIPS.iter().find(|(key, _)| *key == gpu.key).ok_or_else(|| {
            let keys = CHIPS.map(|(key, _)| key).join(", ");
            Error::Usage(format!(
                "no model of the speed of {} ({}): there is one for compute capability 9.0 ({keys}); name one of these, or \
                 ask for the bound alone",
                gpu.key, gpu.name
            ))
        })?;
        let clock = gpu.flops / (known.1 as f64 * FLOPS_A_CLOCK);
        Ok(Self { multiprocessors: known.1, clock, memory: gpu.bytes })
    }

    /// The GPUs for which [`Self::of`] has a chip.
    pub fn known() -> impl Iterator<Item = &'static Gpu> {
        GPUS.iter().filter(|gpu| Self::of(gpu).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_are_gpus_with_plausible_clocks() {
        assert_eq!(Chip::known().count(), CHIPS.len());
        for gpu in Chip::known() {
            let Chip { clock, .. } = Chip::of(gpu).unwrap();
            assert!((1.4e9..2.0e9).contains(&clock), "{}: {clock}", gpu.key);
        }
    }

    #[test]
    fn other_gpus_have_no_model() {
        for key in ["a100", "rtx4090", "rtx5090"] {
            let error = Chip::of(Gpu::named(key).unwrap()).unwrap_err().to_string();
            for words in [key, "compute capability 9.0", "h100, h100-pcie, h200"] {
                assert!(error.contains(words), "{error}");
            }
        }
    }
}
