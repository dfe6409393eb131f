//! Variants of a kernel for different generations of GPUs.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The instructions that kernels with several variants are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Products of warps (`mma.sync`), which every GPU from compute capability 8.0 on has.
    #[default]
    Sm80,
    /// Products of warpgroups (`wgmma`) and copies of boxes, which only compute capability 9.0 has.
    Sm90,
}

impl Variant {
    /// All variants.
    pub const ALL: [Self; 2] = [Self::Sm80, Self::Sm90];

    /// Its name for options and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sm80 => "sm80",
            Self::Sm90 => "sm90",
        }
    }

    /// Kernels that only this variant has: one of each operation.
    pub fn kernels(self) -> [&'static str; 3] {
        match self {
            Self::Sm80 => ["linear_large_f16", "causal_conv3d_nthwc_n128_f16", "attention_q128_d72_f16"],
            Self::Sm90 => ["linear_sm90_small_f16", "causal_conv3d_sm90_small_f16", "attention_sm90_q128_d72_f16"],
        }
    }

    /// The variant of a kernel: those of `sm90` have it in their names.
    pub fn of_kernel(kernel: &str) -> Self {
        if kernel.contains("_sm90_") { Self::Sm90 } else { Self::Sm80 }
    }
}

/// Which operations have kernels beside those for every GPU: the operation, the variant, and what it can compute. Neither
/// the number of rows nor of frames decides, because a part of the work must have the bits of the whole.
pub const VARIANTS: [(&str, Variant, &str); 3] = [
    ("linear", Variant::Sm90, "in_features a multiple of 8"),
    (
        "conv3d",
        Variant::Sm90,
        "3x3 taps at stride 1, cin a multiple of 64, cout a multiple of 8 from 64 on, of 64 behind an enlargement",
    ),
    ("attention", Variant::Sm90, "64 or 72 features per head, without bias and RoPE"),
];

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(" or ");
        Self::ALL.into_iter().find(|variant| variant.name() == name).ok_or_else(|| format!("expected {names}"))
    }
}
