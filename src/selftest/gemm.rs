//! `kernels/gemm.cu` and `kernels/gemm_sm90.cu`: every activation with every store, tiles that the matrices fill and
//! tiles that they do not.

use super::Work;
use super::trial::{Body, Kernels, Trial, ensure_same, host};
use super::values::{half_values, rounded};
use crate::backend::Backend;
use crate::cuda::{Half, Variant, Weight};
use crate::error::Result;
use crate::ops::gemm::{Activation, Linear, LinearArgs, LinearPart, Store};
use crate::tensor::Tensor;

const ACTIVATIONS: [Activation; 4] =
    [Activation::None, Activation::Silu, Activation::GeluTanh, Activation::GatedGeluTanh];

/// How a case stores its result. `gap` elements lie before the first sample's gate and between the samples' gates.
#[derive(Clone, Copy, Debug)]
enum Storing {
    Overwrite,
    Add,
    AddGated { gap: usize },
}

#[derive(Clone, Copy, Debug)]
struct Case {
    sizes: [usize; 3],
    activation: Activation,
    storing: Storing,
    bias: bool,
    /// Tensors that are stacked to the weight.
    parts: usize,
}

impl Case {
    /// Samples, each with the same number of rows.
    fn samples(&self) -> usize {
        [5, 2].into_iter().find(|&samples| self.sizes[0].is_multiple_of(samples)).unwrap_or(1)
    }

    fn op(&self) -> Linear {
        let [rows, inner, outer] = self.sizes;
        let store = match self.storing {
            Storing::Overwrite => Store::Overwrite,
            Storing::Add => Store::Add,
            Storing::AddGated { gap } => {
                Store::AddGated { rows_per_gate: rows / self.samples(), gate_stride: outer + gap, gate_offset: gap }
            }
        };
        Linear::new(rows, inner, outer).activation(self.activation).store(store)
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let (op, [rows, inner, outer]) = (self.op(), self.sizes);
        let x = backend.upload(&half_values(1, rows * inner, half))?;
        let weight = backend.weight(stacked(op.weight_rows(), inner, self.parts, half))?;
        let bias = Tensor::from_f32(&[op.weight_rows()], &half_values(3, op.weight_rows(), half));
        let bias = self.bias.then(|| backend.weight(vec![bias])).transpose()?;
        let gate = match self.storing {
            Storing::AddGated { gap } => Some(backend.upload(&half_values(4, self.samples() * (outer + gap), half))?),
            Storing::Overwrite | Storing::Add => None,
        };
        let mut out = match self.storing {
            Storing::Overwrite => backend.alloc(rows * outer)?,
            Storing::Add | Storing::AddGated { .. } => backend.upload(&half_values(5, rows * outer, half))?,
        };
        let (bias, gate) = (bias.as_ref(), gate.as_ref());
        backend.linear(&op, LinearArgs { bias, gate, ..LinearArgs::new(&x, &weight, &mut out) })?;
        host(backend, &out)
    }
}

/// A weight of `n` rows in `parts` tensors, scaled so that sums are about as large as 1.
fn stacked(n: usize, inner: usize, parts: usize, half: Half) -> Vec<Tensor> {
    let scale = 3.0 / (inner as f32).sqrt();
    let values: Vec<f32> = half_values(2, n * inner, half).iter().map(|value| value * scale).collect();
    let values = rounded(&values, half);
    let part = |rows: &[f32]| Tensor::from_f32(&[rows.len() / inner, inner], rows);
    values.chunks(n.div_ceil(parts) * inner).map(part).collect()
}

/// The tiles of a variant that take every layer of whole vectors.
fn tiles(variant: Variant) -> &'static [&'static str] {
    match variant {
        Variant::Sm80 => &["small", "large", "broad"],
        Variant::Sm90 => &["small", "large"],
    }
}

/// Runs cases with each variant of the kernels, and gives them its tiles.
pub(super) fn with_the_tiles_of_each_variant(
    trial: &mut Trial,
    mut cases: impl FnMut(&mut Trial, &[&str]) -> Result<()>,
) -> Result<()> {
    let mut of = |variant| trial.with_variant(variant, |trial| cases(trial, tiles(variant)));
    Variant::ALL.into_iter().try_for_each(&mut of)
}

/// Every activation with every store, with and without a bias. `sizes(i)` gives rows, inner and outer size of case i.
fn check(trial: &mut Trial, sizes: &impl Fn(usize) -> [usize; 3]) -> Result<()> {
    check_every(1, trial, sizes)
}

/// As [`check`], for each case whose number is a multiple of `step`. An odd step still meets every activation, every
/// store, and both with and without a bias.
fn check_every(step: usize, trial: &mut Trial, sizes: &impl Fn(usize) -> [usize; 3]) -> Result<()> {
    let mut count = 0;
    for activation in ACTIVATIONS {
        // A gap of 8 keeps gates at multiples of 16 bytes if the columns do; a gap of 3 never does.
        for storing in [Storing::Overwrite, Storing::Add, Storing::AddGated { gap: 8 }, Storing::AddGated { gap: 3 }] {
            for bias in [true, false] {
                let case = Case { sizes: sizes(count), activation, storing, bias, parts: 1 };
                if count.is_multiple_of(step) {
                    trial.against_the_cpu(&case)?;
                }
                count += 1;
            }
        }
    }
    Ok(())
}

/// Each case takes the next entry of each list, and the lists differ in length, so that combinations differ from case
/// to case.
fn ragged_sizes(rows: &[usize], inner: &[usize], outer: &[usize]) -> impl Fn(usize) -> [usize; 3] {
    move |i| [rows[i % rows.len()], inner[i % inner.len()], outer[(i + i / rows.len()) % outer.len()]]
}

fn few_rows_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    // One slice, up to more slices than stages; also columns that end within 16 bytes.
    let sizes = ragged_sizes(&[1, 2, 17, 64, 65, 130, 300], &[8, 40, 72, 144, 256], &[8, 24, 96, 144, 256, 130, 7]);
    trial.with_each_variant(|trial| check(trial, &sizes))
}

fn many_rows_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    // More rows of large tiles than a band has; again one slice, up to more slices than stages.
    let sizes = ragged_sizes(&[1025, 1030, 1152, 1090], &[8, 40, 72, 32, 136], &[8, 7, 40, 136]);
    with_the_tiles_of_each_variant(trial, |trial, tiles| {
        // Small tiles have few rows.
        let mut check = |tile: &&str| trial.forcing(&format!("linear={tile}"), |trial| check_every(3, trial, &sizes));
        tiles.iter().skip(1).try_for_each(&mut check)
    })
}

fn odd_inner_sizes_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    check(trial, &ragged_sizes(&[1, 17, 130], &[45, 7, 1, 131], &[24, 7, 96, 64, 130]))
}

fn a_weight_may_be_stacked_from_several_tensors(trial: &mut Trial) -> Result<()> {
    for (parts, activation) in [(3, Activation::None), (2, Activation::GatedGeluTanh)] {
        let case = Case { sizes: [17, 72, 48], activation, storing: Storing::Overwrite, bias: true, parts };
        trial.with_each_variant(|trial| trial.against_the_cpu(&case))?;
    }
    Ok(())
}

fn every_tile_gives_the_same_bits(trial: &mut Trial) -> Result<()> {
    let case = |sizes, activation, storing| Case { sizes, activation, storing, bias: true, parts: 1 };
    for case in [
        case([150, 136, 72], Activation::Silu, Storing::Overwrite),
        case([1, 40, 136], Activation::GeluTanh, Storing::Add),
        case([65, 72, 40], Activation::GatedGeluTanh, Storing::AddGated { gap: 3 }),
        // Whole warps of large and broad tiles are beyond the last column, and gated columns end within a warp's half.
        case([129, 264, 210], Activation::GatedGeluTanh, Storing::Overwrite),
        case([130, 144, 296], Activation::None, Storing::Add),
    ] {
        with_the_tiles_of_each_variant(trial, |trial, tiles| {
            trial.alike("linear", tiles, &case, |kernels, half| case.run(kernels, half))
        })?;
    }
    Ok(())
}

fn a_row_has_the_same_bits_alone_and_among_many(trial: &mut Trial) -> Result<()> {
    let (inner, outer) = (136, 40);
    let case = [1, 300].map(|rows| Case {
        sizes: [rows, inner, outer],
        activation: Activation::Silu,
        storing: Storing::Overwrite,
        bias: true,
        parts: 1,
    });
    trial.with_each_variant(|trial| {
        trial.each(&case, |kernels, half| {
            ensure_same(&case[0].run(kernels, half)?, &case[1].run(kernels, half)?[..outer], &"the first row")
        })
    })
}

/// Blocks of Hopper's kernels stay on their multiprocessors. With few of these, a block makes many tiles, and its
/// warpgroups take many turns.
fn a_block_makes_many_tiles_with_the_same_bits(trial: &mut Trial) -> Result<()> {
    let case = |sizes, activation, storing| Case { sizes, activation, storing, bias: true, parts: 1 };
    for case in [
        case([300, 200, 200], Activation::None, Storing::AddGated { gap: 8 }),
        case([130, 72, 330], Activation::GatedGeluTanh, Storing::Overwrite),
    ] {
        with_the_tiles_of_each_variant(trial, |trial, tiles| {
            trial.each(&case, |kernels, half| {
                let whole = case.run(kernels, half)?;
                [1, 2, 5].into_iter().try_for_each(|multiprocessors| {
                    tiles.iter().try_for_each(|tile| {
                        let few = kernels.on_multiprocessors(multiprocessors).forcing(&format!("linear={tile}"))?;
                        ensure_same(&case.run(&few, half)?, &whole, &(multiprocessors, tile))
                    })
                })
            })
        })?;
    }
    Ok(())
}

fn parts_have_the_bits_of_the_whole(trial: &mut Trial) -> Result<()> {
    let parts = |trial: &mut Trial, sizes| {
        trial.each(&sizes, |kernels, half| {
            rows_in_parts(kernels, sizes, half)?;
            columns_in_parts(kernels, sizes, half)
        })
    };
    // Columns that are whole vectors and columns that are not; inner sizes for both ways of loading.
    trial.with_each_variant(|trial| {
        parts(trial, [96, 72, 40])?;
        parts(trial, [50, 45, 21])?;
        trial.forcing("linear=large", |trial| parts(trial, [300, 40, 48]))
    })
}

fn bias(kernels: &Kernels, outer: usize, half: Half) -> Result<Weight> {
    kernels.weight(vec![Tensor::from_f32(&[outer], &half_values(3, outer, half))])
}

fn rows_in_parts(kernels: &Kernels, [rows, inner, outer]: [usize; 3], half: Half) -> Result<()> {
    let x = kernels.upload(&half_values(1, rows * inner, half))?;
    let (weight, bias) = (kernels.weight(stacked(outer, inner, 1, half))?, bias(kernels, outer, half)?);
    let gate = kernels.upload(&half_values(4, 2 * outer, half))?;
    let store = Store::AddGated { rows_per_gate: rows / 2, gate_stride: outer, gate_offset: 0 };
    let op = Linear::new(rows, inner, outer).store(store);
    let before = half_values(5, rows * outer, half);
    let mut whole = kernels.upload(&before)?;
    let (bias, gate) = (Some(&bias), Some(&gate));
    kernels.linear(&op, LinearArgs { bias, gate, ..LinearArgs::new(&x, &weight, &mut whole) })?;

    let mut parts = kernels.upload(&before)?;
    for part in [0..7, 7..rows / 2 + 3, rows / 2 + 3..rows] {
        let op = Linear { rows: part.len(), ..op };
        let op = op.part(LinearPart { whole_rows: rows, x_row: part.start, out_row: part.start, weight_row: 0 });
        kernels.linear(&op, LinearArgs { bias, gate, ..LinearArgs::new(&x, &weight, &mut parts) })?;
    }
    ensure_same(&host(kernels, &parts)?, &host(kernels, &whole)?, &"rows")
}

fn columns_in_parts(kernels: &Kernels, [rows, inner, outer]: [usize; 3], half: Half) -> Result<()> {
    let x = kernels.upload(&half_values(1, rows * inner, half))?;
    let (weight, bias) = (kernels.weight(stacked(outer, inner, 1, half))?, bias(kernels, outer, half)?);
    let mut whole = kernels.alloc(rows * outer)?;
    let (op, bias) = (Linear::new(rows, inner, outer), Some(&bias));
    kernels.linear(&op, LinearArgs { bias, ..LinearArgs::new(&x, &weight, &mut whole) })?;

    let first = outer / 3;
    let columns = Linear::new(rows, inner, outer - first).part(LinearPart {
        whole_rows: rows,
        x_row: 0,
        out_row: 0,
        weight_row: first,
    });
    let mut some = kernels.alloc(rows * (outer - first))?;
    kernels.linear(&columns, LinearArgs { bias, ..LinearArgs::new(&x, &weight, &mut some) })?;
    let whole = host(kernels, &whole)?;
    let expected: Vec<f32> = whole.chunks_exact(outer).flat_map(|row| row[first..].to_vec()).collect();
    ensure_same(&host(kernels, &some)?, &expected, &"columns")
}

/// Layers of the transformer on 17 frames, and one of the text encoder.
pub(super) fn work() -> Vec<Work> {
    let storing = Storing::Overwrite;
    let case = |sizes| Case { sizes, activation: Activation::None, storing, bias: true, parts: 1 };
    vec![
        Work::of("17,408 x 1,152 x 1,152", case([17_408, 1152, 1152])),
        Work::of(
            "17,408 x 1,152 x 4,608, GELU",
            Case { activation: Activation::GeluTanh, ..case([17_408, 1152, 4608]) },
        ),
        Work::of("120 x 4,096 x 4,096", Case { bias: false, ..case([120, 4096, 4096]) }),
    ]
}

checks! {
    few_rows_agree_with_the_cpu,
    many_rows_agree_with_the_cpu,
    odd_inner_sizes_agree_with_the_cpu,
    a_weight_may_be_stacked_from_several_tensors,
    every_tile_gives_the_same_bits,
    a_row_has_the_same_bits_alone_and_among_many,
    a_block_makes_many_tiles_with_the_same_bits,
    parts_have_the_bits_of_the_whole,
}
