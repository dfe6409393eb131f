//! Peak rates of some GPUs from their data sheets. They bound the time of counted work, unless a cache still holds the
//! data that the work reads.

use crate::error::{Error, Result};

/// Peak rates of one GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpu {
    /// Its name on the command line.
    pub key: &'static str,
    /// The product's name.
    pub name: &'static str,
    /// Its name in the driver, without the maker.
    driver_name: &'static str,
    /// Floating-point operations per second of dense 16-bit matrix products that accumulate in f32.
    pub flops: f64,
    /// Bytes per second of its memory.
    pub bytes: f64,
    /// The document that states these rates.
    pub origin: &'static str,
}

const fn gpu(
    key: &'static str,
    name: &'static str,
    driver_name: &'static str,
    [tera_flops, giga_bytes]: [f64; 2],
    origin: &'static str,
) -> Gpu {
    Gpu { key, name, driver_name, flops: tera_flops * 1e12, bytes: giga_bytes * 1e9, origin }
}

/// All known GPUs. If a data sheet prints only the rate of sparse products, this list has half of it. This program's
/// products accumulate in f32; GeForce cards compute them at half the rate of products that accumulate in f16.
pub const GPUS: &[Gpu] = &[
    gpu("h100", "H100 SXM", "H100 80GB HBM3", [989.4, 3350.0], "NVIDIA H100 data sheet"),
    gpu("h100-pcie", "H100 PCIe", "H100 PCIe", [756.5, 2000.0], "NVIDIA H100 data sheet"),
    gpu("h200", "H200 SXM", "H200", [989.4, 4800.0], "NVIDIA H200 data sheet"),
    gpu("a100", "A100 SXM 80 GB", "A100-SXM4-80GB", [312.0, 2039.0], "NVIDIA A100 data sheet"),
    gpu("a100-40gb", "A100 SXM 40 GB", "A100-SXM4-40GB", [312.0, 1555.0], "NVIDIA A100 data sheet"),
    gpu("l40s", "L40S", "L40S", [362.0, 864.0], "NVIDIA L40S data sheet"),
    gpu("l4", "L4", "L4", [121.0, 300.0], "NVIDIA L4 data sheet"),
    gpu("rtx3090", "GeForce RTX 3090", "GeForce RTX 3090", [71.0, 936.0], "NVIDIA GA102 whitepaper"),
    gpu("rtx4090", "GeForce RTX 4090", "GeForce RTX 4090", [165.2, 1008.0], "NVIDIA Ada GPU architecture whitepaper"),
    gpu("rtx5090", "GeForce RTX 5090", "GeForce RTX 5090", [209.5, 1792.0], "NVIDIA RTX Blackwell whitepaper"),
];

impl Gpu {
    /// The GPU with this key.
    ///
    /// # Errors
    /// [`Error::Usage`] lists the keys.
    pub fn named(key: &str) -> Result<&'static Self> {
        GPUS.iter().find(|gpu| gpu.key == key).ok_or_else(|| {
            let keys: Vec<&str> = GPUS.iter().map(|gpu| gpu.key).collect();
            Error::Usage(format!("{key:?} is not a known GPU; use one of: {}", keys.join(", ")))
        })
    }

    /// The GPU with this name in the driver, if it is known.
    pub fn of_driver(name: &str) -> Option<&'static Self> {
        // The whole name must match: an L40 is not an L4, and a 3090 Ti is not a 3090.
        GPUS.iter().find(|gpu| name == gpu.driver_name || name.strip_prefix("NVIDIA ") == Some(gpu.driver_name))
    }

    /// The least seconds for work: its arithmetic or its traffic, whichever takes longer.
    pub fn bound(&self, flops: u64, bytes: u64) -> f64 {
        (flops as f64 / self.flops).max(bytes as f64 / self.bytes)
    }

    /// Whether the traffic of work takes longer than its arithmetic.
    pub fn is_bound_by_memory(&self, flops: u64, bytes: u64) -> bool {
        bytes as f64 / self.bytes > flops as f64 / self.flops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_found_by_its_whole_name_in_the_driver() {
        let key = |name: &str| Gpu::of_driver(name).map(|gpu| gpu.key);
        assert_eq!(key("NVIDIA H100 80GB HBM3"), Some("h100"));
        assert_eq!(key("NVIDIA H100 PCIe"), Some("h100-pcie"));
        assert_eq!(key("NVIDIA L4"), Some("l4"));
        assert_eq!(key("NVIDIA GeForce RTX 4090"), Some("rtx4090"));
        for other in ["NVIDIA L40", "NVIDIA GeForce RTX 3090 Ti", "NVIDIA GeForce RTX 4090 Laptop GPU", "Tesla T4"] {
            assert_eq!(key(other), None, "{other}");
        }
    }

    #[test]
    fn work_is_bound_by_its_arithmetic_or_its_traffic() {
        let gpu = Gpu::named("a100").unwrap();
        assert!((gpu.bound(312_000_000_000_000, 1) - 1.0).abs() < 1e-12);
        assert!((gpu.bound(1, 2_039_000_000_000) - 1.0).abs() < 1e-12);
        assert!(gpu.is_bound_by_memory(1, 1) && !gpu.is_bound_by_memory(1000, 1));
    }
}
