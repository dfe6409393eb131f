//! What the model knows of each matrix kernel: one row for each, for compute capability 9.0.
//!
//! The columns of counts are those of the machine code. Instructions of a warp's step are those of the loop around the
//! products in the SASS for sm_90a (as `scripts/kernel-report` finds it), without what a step jumps over: RoPE's path of
//! attention (101), its masks behind the last key (83 with 128 queries, 51 with 64); and in a convolution a window's
//! copies in two of three steps, its place and the next row of taps in nearly all (67, 68 and 11: 119 in a step). A test
//! compares bytes, blocks and products with docs/machine-code. Any other kernel only moves memory. **A new matrix kernel
//! needs a row here**, or its time and all sums with it have no prediction.

use Pace::{Groups, Warps};
use Steps::{Inner, Keys, Pairs, Rows, Taps};
use Stored::{Convolution, Instructions, Linear};

/// What a tile takes one step after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steps {
    /// So many of a linear layer's input features.
    Inner(i32),
    /// So many input channels of one tap of a convolution.
    Taps(i32),
    /// So many input channels of the three taps of a row or of a column.
    Rows(i32),
    /// So many input channels of the two taps of a column, behind an enlargement.
    Pairs(i32),
    /// So many of the taps and channels of a convolution as one axis.
    Axis(i32),
    /// So many keys.
    Keys(i32),
}

/// How a warp stores a tile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stored {
    /// As a linear layer, each element by itself.
    Linear,
    /// As a convolution, with moments.
    Convolution,
    /// So many instructions: all that are not in the loop.
    Instructions(f64),
}

/// What multiplies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// Warps, by `mma.sync`.
    Warps {
        /// Warps of a block.
        warps: f64,
        /// Products (HMMA) of a warp in a step.
        products: f64,
        /// Other instructions of a warp in a step.
        others: f64,
        /// Blocks for which a multiprocessor has room.
        resident: usize,
        stored: Stored,
    },
    /// Warpgroups, by `wgmma`. Blocks stay on their multiprocessors.
    Groups {
        /// Products (HGMMA) of a block in a step, and their columns.
        products: f64,
        columns: f64,
        /// The part of the full rate that products sustain.
        rate: f64,
        /// Blocks of a cluster.
        cluster: usize,
        /// Bytes that pass through shared memory when a tile is stored.
        sums: f64,
        /// Clocks for which products rest when a tile is stored.
        rest: f64,
    },
}

/// A kernel: the steps of its tiles, the bytes that a step copies from the second-level cache, and those that it moves
/// through shared memory, copies and reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kernel {
    pub stem: &'static str,
    pub steps: Steps,
    pub brought: f64,
    pub shared: f64,
    pub pace: Pace,
}

/// A kernel of warps. `loads` are its LDSM of a warp in a step, each of 512 bytes.
const fn warps(
    stem: &'static str,
    steps: Steps,
    [warps, products, others, loads]: [u32; 4],
    [brought, resident]: [u32; 2],
    stored: Stored,
) -> Kernel {
    let (brought, shared) = (brought as f64, (brought + loads * warps * 512) as f64);
    let pace = Warps {
        warps: warps as f64,
        products: products as f64,
        others: others as f64,
        resident: resident as usize,
        stored,
    };
    Kernel { stem, steps, brought, shared, pace }
}

/// A kernel of warpgroups. `copied` are the bytes of a step that come to shared memory, also those that the other block of
/// a cluster loads. A product reads 64 rows and all columns, 16 steps of k of 2 bytes.
const fn groups(
    stem: &'static str,
    steps: Steps,
    [products, columns]: [u32; 2],
    [brought, copied, sums]: [u32; 3],
    cluster: usize,
    [rate, rest]: [f64; 2],
) -> Kernel {
    let shared = (copied + products * (64 + columns) * 32) as f64;
    let pace = Groups { products: products as f64, columns: columns as f64, rate, cluster, sums: sums as f64, rest };
    Kernel { stem, steps, brought: brought as f64, shared, pace }
}

/// A kernel of attention by warpgroups: the bytes of a tile of keys, and the columns of a warpgroup's products in it;
/// warpgroups that share the tile. Queries and weights lie in registers, so a product reads its columns alone.
const fn attention_groups(stem: &'static str, keys: i32, [brought, columns, sharing]: [u32; 3], rest: f64) -> Kernel {
    let shared = (brought + sharing * columns * 32) as f64;
    let (products, columns) = (sharing as f64, columns as f64);
    // Results of 64 queries of 72 features, written and copied.
    let sums = products * 2.0 * (64 * 72 * 2) as f64;
    let pace = Groups { products, columns, rate: ATTENTION_RATE, cluster: 1, sums, rest };
    Kernel { stem, steps: Keys(keys), brought: brought as f64, shared, pace }
}

/// Attention takes as long as its products and its exponentials one after the other: 608 and 512 clocks for 128 keys of 72
/// features (docs/benchmarks/notes.md). FlashAttention-3's published rates are such sums, too: half of the peak with 64
/// features, two thirds with 128.
const ATTENTION_RATE: f64 = 0.54;
/// Warpgroups of a linear layer are designed for 700 TFLOP/s of 989 (docs/benchmarks/notes.md); published products of
/// cuBLAS on H100s reach 518 to 795, which depends on the card's power.
const LINEAR_RATE: f64 = 0.71;
/// Convolutions are predicted at 0.60 to 0.70 of the peak (the same document), of which 0.02 to 0.08 is the pause for storing.
const CONV_RATE: f64 = 0.67;

/// All matrix kernels, without the types of their elements. Warps, HMMA, other instructions and LDSM; bytes and blocks.
#[rustfmt::skip]
pub(super) const KERNELS: &[Kernel] = &[
    warps("linear_broad", Inner(32), [4, 96, 82, 20], [20_480, 2], Linear),
    warps("linear_large", Inner(32), [4, 64, 72, 16], [16_384, 2], Linear),
    warps("linear_small", Inner(64), [4, 32, 78, 16], [16_384, 4], Linear),
    warps("linear_ragged", Inner(64), [4, 32, 380, 16], [16_384, 4], Linear),
    // One warpgroup stores while the other multiplies. Sums pass through shared memory in f32, there and back.
    groups("linear_sm90_large", Inner(64), [8, 192], [28_672, 40_960, 196_608], 2, [LINEAR_RATE, 0.0]),
    groups("linear_sm90_small", Inner(64), [4, 64], [16_384, 16_384, 32_768], 1, [LINEAR_RATE, 0.0]),
    warps("causal_conv3d_nthwc_n128", Taps(32), [4, 64, 174, 16], [11_605, 2], Convolution),
    warps("causal_conv3d_nthwc_n96", Taps(32), [4, 48, 170, 14], [9_557, 2], Convolution),
    warps("causal_conv3d_nthwc_n64", Taps(32), [4, 32, 160, 12], [7_509, 3], Convolution),
    warps("causal_conv3d_nthwc_n8", Rows(32), [4, 12, 275, 18], [11_776, 6], Convolution),
    warps("causal_conv3d_nthwc_strided_n128", Taps(32), [4, 64, 244, 16], [16_384, 2], Convolution),
    warps("causal_conv3d_nthwc_strided_n64", Taps(32), [4, 32, 231, 12], [12_288, 4], Convolution),
    warps("causal_conv3d_nthwc_ragged", Steps::Axis(32), [4, 32, 1258, 12], [12_288, 3], Convolution),
    // Some 900 instructions for a warpgroup's slab of 128 positions, two slabs or one for each of two warpgroups.
    groups("causal_conv3d_sm90_large", Rows(64), [24, 256], [61_440, 86_016, 0], 2, [CONV_RATE, 4500.0]),
    groups("causal_conv3d_sm90_small", Rows(64), [24, 128], [45_056, 69_632, 0], 2, [CONV_RATE, 2250.0]),
    groups("causal_conv3d_sm90_enlarged", Pairs(64), [16, 256], [51_200, 67_584, 0], 2, [CONV_RATE, 4500.0]),
    attention_groups("attention_sm90_q128_d72", 128, [38_912, 1_216, 2], 600.0),
    attention_groups("attention_sm90_mask_q128_d72", 160, [49_280, 1_520, 2], 600.0),
    // Each of the two warpgroups makes its own tasks.
    attention_groups("attention_sm90_q64_d72", 64, [19_456, 608, 1], 300.0),
    warps("attention_q16_d16", Keys(16), [4, 4, 210, 2], [4_096, 9], Instructions(768.0)),
    warps("attention_q16_d64", Keys(16), [4, 16, 294, 8], [16_384, 5], Instructions(909.0)),
    warps("attention_q16_d72", Keys(16), [4, 19, 352, 10], [18_432, 4], Instructions(1127.0)),
    warps("attention_q16_d128", Keys(16), [4, 32, 356, 16], [32_768, 3], Instructions(1067.0)),
    warps("attention_q32_d16", Keys(32), [4, 8, 260, 4], [4_096, 8], Instructions(740.0)),
    warps("attention_q32_d64", Keys(32), [4, 32, 345, 16], [16_384, 4], Instructions(879.0)),
    warps("attention_q32_d72", Keys(32), [4, 38, 397, 20], [18_432, 4], Instructions(1026.0)),
    warps("attention_q32_d128", Keys(32), [4, 64, 418, 32], [32_768, 3], Instructions(1040.0)),
    warps("attention_q64_d16", Keys(64), [4, 16, 285, 8], [4_096, 6], Instructions(680.0)),
    warps("attention_q64_d64", Keys(64), [4, 64, 374, 32], [16_384, 3], Instructions(808.0)),
    warps("attention_q64_d72", Keys(64), [4, 76, 457, 40], [18_432, 3], Instructions(955.0)),
    warps("attention_q64_d128", Keys(64), [4, 128, 494, 64], [32_768, 3], Instructions(978.0)),
    warps("attention_q128_d16", Keys(64), [4, 32, 461, 8], [4_096, 3], Instructions(738.0)),
    warps("attention_q128_d64", Keys(64), [4, 128, 575, 32], [16_384, 2], Instructions(960.0)),
    warps("attention_q128_d72", Keys(64), [4, 152, 664, 40], [18_432, 2], Instructions(1168.0)),
    warps("attention_mask_q64_d16", Keys(64), [4, 16, 339, 8], [4_096, 5], Instructions(694.0)),
    warps("attention_mask_q64_d64", Keys(64), [4, 64, 423, 32], [16_384, 3], Instructions(843.0)),
    warps("attention_mask_q64_d72", Keys(64), [4, 76, 513, 40], [18_688, 3], Instructions(973.0)),
    warps("attention_mask_q64_d128", Keys(64), [4, 128, 608, 64], [32_768, 2], Instructions(1009.0)),
    warps("attention_bias_q64_d16", Keys(64), [4, 16, 622, 8], [4_096, 5], Instructions(691.0)),
    warps("attention_bias_q64_d64", Keys(64), [4, 64, 717, 32], [16_384, 3], Instructions(827.0)),
    warps("attention_bias_q64_d72", Keys(64), [4, 76, 816, 40], [18_432, 2], Instructions(969.0)),
    warps("attention_bias_q64_d128", Keys(64), [4, 128, 816, 64], [32_768, 2], Instructions(994.0)),
    warps("attention_wide_d256", Keys(16), [4, 64, 480, 16], [16_384, 2], Instructions(1338.0)),
    warps("attention_wide_d512", Keys(16), [8, 64, 483, 16], [32_768, 1], Instructions(1341.0)),
];

/// Instructions for each element that a warp's lane stores: sum, bias, conversion, address (docs/benchmarks/notes.md).
pub(super) const STORE: f64 = 10.0;
/// More of them if the result is added to what is there: its load, its conversion, the gate, the addition.
pub(super) const ADD: f64 = 4.0;
/// Clocks of a warp for the two special-function instructions of an activation, 4 lanes in a clock.
pub(super) const ACTIVATE: f64 = 16.0;
/// Instructions for each element of a convolution, moments included: 900 for a slab of 8,192 of 128 threads.
pub(super) const STORE_WITH_MOMENTS: f64 = 14.0;

/// The beginnings of the names of matrix kernels. All others only move memory.
const MATRIX: [&str; 3] = ["linear_", "causal_conv3d_", "attention_"];

/// What is known of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Known {
    /// It moves memory.
    Memory,
    Matrix(&'static Kernel),
    /// A matrix kernel without a row.
    Nothing,
}

/// What is known of the kernel with this entry point.
pub(super) fn known(entry: &str) -> Known {
    let stem = entry.strip_suffix("_bf16").or(entry.strip_suffix("_f16")).unwrap_or(entry);
    match KERNELS.iter().find(|kernel| kernel.stem == stem) {
        Some(kernel) => Known::Matrix(kernel),
        None if MATRIX.iter().any(|start| stem.starts_with(start)) => Known::Nothing,
        None => Known::Memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cells of a kernel's row in the table of the machine code.
    fn row(stem: &str) -> Vec<&'static str> {
        let mut rows = include_str!("../../../docs/machine-code/sm_90a.txt").lines();
        let name = format!("{stem}_f16");
        let row = rows.find(|row| row.split_whitespace().next() == Some(&name));
        row.unwrap_or_else(|| panic!("{name} is not in docs/machine-code")).split_whitespace().collect()
    }

    #[test]
    fn rows_agree_with_the_machine_code() {
        for kernel in KERNELS {
            let cells = row(kernel.stem);
            let number = |place: usize| cells[place].parse::<f64>().unwrap();
            let last = |place: usize| number(cells.len() - 1 - place);
            assert_eq!(kernel.brought, last(1), "{}: bytes of a step", kernel.stem);
            // FLOPs of a step, to what a rounded ratio leaves.
            let flops = match kernel.pace {
                Warps { warps, products, resident, .. } => {
                    assert_eq!(resident as f64, number(5), "{}: blocks", kernel.stem);
                    assert!(products <= number(8), "{}: HMMA", kernel.stem);
                    warps * products * 4096.0
                }
                Groups { products, columns, .. } => products * columns * 2048.0,
            };
            let counted = kernel.brought * last(0);
            // In heads of 72 features a tenth of the products has 8 steps of k, and takes as long as the others.
            assert!((0.94..1.01).contains(&(counted / flops)), "{}: {flops}, counted {counted}", kernel.stem);
        }
    }

    #[test]
    fn every_matrix_kernel_has_a_row() {
        let names = include_str!("../../../docs/machine-code/sm_90a.txt").lines().skip(1);
        for name in names.filter_map(|row| row.split_whitespace().next()) {
            assert_ne!(known(name), Known::Nothing, "{name} needs a row in src/profile/predict/kernels.rs");
        }
        assert_eq!(known("linear_unheard_of_f16"), Known::Nothing);
        assert_eq!(known("group_apply_bf16"), Known::Memory);
    }
}
