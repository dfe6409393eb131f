//! `kernels/conv3d.cu` and `kernels/conv3d_sm90.cu`: every way to load the input with every width of tile, all kinds of
//! borders, every fused operation, and videos that are computed in chunks of time.

use super::Work;
use super::trial::{Body, Kernels, Trial, ensure, ensure_same, host};
use super::values::{half_values, rounded};
use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::cuda::{Half, Variant};
use crate::error::Result;
use crate::ops::DeviceBuffer;
use crate::ops::conv3d::{Conv3d, ConvArgs, SpacePadding};
use crate::ops::groupnorm::Moments;
use crate::tensor::Tensor;

/// The value of frames that a kernel must not write to.
const BEFORE: f32 = 7.0;

#[derive(Clone, Copy, Debug)]
struct Case {
    op: Conv3d,
    bias: bool,
    other: bool,
}

/// The plain convolution, with bias.
fn plain(size: [usize; 3], channels: [usize; 2], kernel: [usize; 3]) -> Case {
    let [frames, height, width] = size;
    Case { op: Conv3d::new(frames, height, width, channels[0], channels[1], kernel), bias: true, other: false }
}

impl Case {
    fn change(self, change: impl Fn(Conv3d) -> Conv3d) -> Self {
        Self { op: change(self.op), ..self }
    }

    fn groups(self, moment_groups: usize) -> Self {
        self.change(|op| Conv3d { moment_groups, ..op })
    }

    fn only(self, start: usize, end: usize) -> Self {
        self.change(|op| Conv3d { only: Some([start, end]), ..op })
    }

    fn half_size(self) -> Self {
        self.change(|op| Conv3d { stride: [1, 2], padding: SpacePadding::RightBottom, ..op })
    }

    fn twice_size(self) -> Self {
        self.change(|op| Conv3d { upsample: true, ..op })
    }

    fn half_rate(self) -> Self {
        self.change(|op| Conv3d { stride: [2, op.stride[1]], ..op })
    }

    fn mixed(self) -> Self {
        let op = Conv3d { conv_scale: 0.75, other_scale: -0.5, ..self.op };
        Self { op, bias: self.bias, other: true }
    }

    /// Runs the convolution in these chunks of time. Returns the output, and the moments if the case has them.
    fn chunks<B: Backend>(&self, backend: &B, half: Half, chunks: &[[usize; 2]]) -> Result<[Vec<f32>; 2]> {
        let op = &self.op;
        let x = backend.upload(&half_values(1, op.frames * op.height * op.width * op.cin, half))?;
        let shape = op.weight_shape();
        // With this factor, sums are about as large as 1.
        let scale = 3.0 / (shape[1..].iter().product::<usize>() as f32).sqrt();
        let weight = half_values(2, shape.iter().product(), half);
        let weight: Vec<f32> = weight.iter().map(|value| value * scale).collect();
        let weight = backend.weight(vec![Tensor::from_f32(&shape, &rounded(&weight, half))])?;
        let bias = Tensor::from_f32(&[op.cout], &half_values(3, op.cout, half));
        let bias = self.bias.then(|| backend.weight(vec![bias])).transpose()?;
        let len = op.out_shape().iter().product();
        let other = self.other.then(|| backend.upload(&half_values(4, len, half))).transpose()?;
        let mut out = backend.upload(&vec![BEFORE; len])?;
        let moments = || {
            let len = backend.moments_len(&op.moments(op.out_shape()[0]));
            backend.upload_f32(&vec![BEFORE; len])
        };
        let mut moments = (op.moment_groups > 0).then(moments).transpose()?;
        for &chunk in chunks {
            let op = Conv3d { only: Some(chunk), ..*op };
            let (bias, other, moments) = (bias.as_ref(), other.as_ref(), moments.as_mut());
            backend.conv3d(&op, ConvArgs { x: &x, weight: &weight, bias, other, moments, out: &mut out })?;
        }
        let moments = moments.map_or(Ok(Vec::new()), |moments| host(backend, &moments))?;
        Ok([host(backend, &out)?, moments])
    }

    /// Checks the moments against the output as it is stored. Each kernel has its own way to divide a frame into slabs.
    fn check_moments(&self, out: &[f32], moments: &[f32]) -> Result<()> {
        let [_, height, width, _] = self.op.out_shape();
        let factor = if self.op.upsample { 2 } else { 1 };
        let [rows, columns] = [height / factor, width / factor];
        // The slab of a position, phase by phase; `in_phase` gives it for a row and a column of the phase.
        let slab_of = |position: usize, in_phase: &dyn Fn(usize, usize) -> usize| {
            let (y, x) = (position / width, position % width);
            let phase = y % factor * factor + x % factor;
            phase * (rows * columns).div_ceil(Moments::SLAB) + in_phase(y / factor, x / factor)
        };
        let in_order = |y, x| (y * columns + x) / Moments::SLAB;
        let ordered = self.check_slabs(out, moments, |position| slab_of(position, &in_order));
        if !rows.is_multiple_of(8) || !columns.is_multiple_of(16) {
            return ordered;
        }
        let in_boxes = |y, x| y / 8 * (columns / 16) + x / 16;
        ordered.or_else(|_| self.check_slabs(out, moments, |position| slab_of(position, &in_boxes)))
    }

    /// Checks the moments of slabs; `slab_of` gives the slab of each position of a frame.
    fn check_slabs(&self, out: &[f32], moments: &[f32], slab_of: impl Fn(usize) -> usize) -> Result<()> {
        let Moments { frames, positions, channels, groups } = self.op.moments(self.op.out_shape()[0]);
        let (slabs, width) = (self.op.moments(frames).slabs(), channels / groups);
        let mut members = vec![Vec::new(); slabs];
        (0..positions).for_each(|position| members[slab_of(position)].push(position));
        for (i, found) in moments[..2 * frames * slabs * groups].chunks(2).enumerate() {
            let (frame, slab, group) = (i / groups / slabs, i / groups % slabs, i % groups);
            if !self.op.computed().contains(&frame) {
                ensure(found == [BEFORE; 2], || {
                    format!("moments of frame {frame}, which was not asked for: {found:?}")
                })?;
                continue;
            }
            let members = members[slab].iter().flat_map(|position| {
                let at = (frame * positions + position) * channels + group * width;
                out[at..at + width].iter().map(|&value| f64::from(value))
            });
            let count = members.clone().count() as f64;
            let mean = members.clone().sum::<f64>() / count;
            let m2 = members.map(|value| (value - mean).powi(2)).sum::<f64>();
            let typical = (m2 / count).sqrt() + mean.abs();
            let error = [f64::from(found[0]) - mean, (f64::from(found[1]) - m2) / count];
            let close = error[0].abs() <= 1e-5 * typical && error[1].abs() <= 1e-5 * typical * typical;
            ensure(close, || {
                format!("moments of frame {frame}, slab {slab}, group {group}: {found:?}, not {mean} and {m2}")
            })?;
        }
        Ok(())
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let computed = self.op.computed();
        let [out, moments] = self.chunks(backend, half, &[[computed.start, computed.end]])?;
        let frame = out.len() / self.op.out_shape()[0];
        let untouched = |values: &[f32]| values.iter().all(|&value| value == BEFORE);
        let others = untouched(&out[..computed.start * frame]) && untouched(&out[computed.end * frame..]);
        ensure(others, || "frames that were not asked for have changed".into())?;
        // The CPU keeps moments in another form.
        if !moments.is_empty() && !backend.name().starts_with("cpu") {
            self.check_moments(&out, &moments)?;
        }
        Ok(out)
    }
}

fn check(trial: &mut Trial, cases: impl IntoIterator<Item = Case>) -> Result<()> {
    cases.into_iter().try_for_each(|case| trial.against_the_cpu(&case))
}

fn windows_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    check(
        trial,
        [
            plain([2, 5, 9], [8, 64], [3, 3, 3]).groups(32).mixed(),
            plain([1, 16, 16], [64, 32], [3, 3, 3]).groups(32),
            // As many rows as a window can hold.
            plain([1, 30, 9], [8, 64], [1, 3, 3]).groups(8),
            plain([1, 3, 300], [8, 40], [1, 3, 3]),
            plain([5, 5, 10], [32, 64], [3, 3, 3]).groups(32).mixed().half_rate(),
            plain([2, 8, 16], [160, 13], [1, 1, 3]).groups(1),
        ],
    )
}

/// The four phases: one slab each and several, frames that slabs do not fill, and windows of as many rows as they can
/// hold.
fn enlargements_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    check(
        trial,
        [
            plain([2, 8, 16], [40, 32], [1, 3, 3]).groups(32).twice_size(),
            plain([2, 16, 24], [8, 64], [3, 3, 3]).groups(32).mixed().twice_size(),
            plain([2, 5, 7], [40, 32], [1, 3, 3]).twice_size(),
            plain([1, 30, 5], [8, 64], [1, 3, 3]).mixed().twice_size(),
            plain([2, 3, 5], [16, 4], [1, 3, 3]).twice_size(),
            // Rows too short for windows.
            plain([5, 32, 4], [32, 32], [3, 3, 3]).groups(8).mixed().half_rate().twice_size(),
            plain([1, 1, 1], [72, 9], [1, 3, 3]).twice_size(),
            Case { bias: false, ..plain([1, 16, 8], [12, 9], [1, 3, 3]).groups(3).twice_size() },
            plain([3, 3, 5], [3, 7], [2, 3, 3]).mixed().twice_size(),
        ],
    )
}

fn wide_tiles_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    for (tile, case) in [
        ("n128", plain([2, 9, 16], [40, 128], [1, 3, 3]).groups(32).only(1, 2)),
        ("n128", plain([1, 5, 9], [8, 250], [3, 3, 3]).mixed()),
        ("n96", plain([3, 5, 9], [32, 96], [3, 3, 3]).groups(32).mixed().only(1, 2)),
        ("n96", plain([3, 2, 40], [8, 192], [3, 3, 3]).groups(32).only(2, 3)),
        ("n128", plain([2, 8, 16], [8, 136], [1, 3, 3]).groups(17).mixed().twice_size().only(1, 2)),
        ("n96", plain([1, 16, 24], [8, 160], [1, 3, 3]).groups(32).twice_size()),
        ("strided_n128", plain([2, 32, 4], [16, 128], [1, 3, 3]).groups(32).twice_size()),
        ("strided_n128", plain([2, 16, 33], [16, 128], [1, 3, 3]).groups(32).mixed().half_size().only(0, 1)),
        ("strided_n128", plain([1, 4, 9], [40, 250], [3, 1, 1])),
    ] {
        trial.forcing(&format!("conv3d={tile}"), |trial| check(trial, [case]))?;
    }
    Ok(())
}

/// Boxes on Hopper: frames that they fill and frames that they do not, one box and an odd number of them, channels that
/// end within a tile, every size of a group of moments, and more slices than stages.
fn boxes_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    let cases = [
        ("small", plain([2, 16, 16], [64, 128], [1, 3, 3]).groups(32).mixed()),
        ("small", plain([1, 8, 48], [128, 64], [1, 3, 3]).groups(4)),
        ("small", plain([2, 5, 19], [64, 72], [1, 3, 3]).mixed().only(1, 2)),
        ("large", plain([3, 16, 16], [64, 64], [3, 3, 3]).groups(32).mixed().only(0, 2)),
        ("large", plain([1, 8, 16], [64, 136], [1, 3, 3]).groups(17)),
        ("large", plain([1, 24, 16], [64, 64], [1, 3, 3]).groups(64)),
        ("small", plain([3, 5, 9], [64, 64], [2, 3, 3]).groups(16).only(1, 3)),
        ("large", Case { bias: false, ..plain([1, 17, 33], [64, 64], [1, 3, 3]) }),
        ("enlarged", plain([2, 16, 16], [64, 128], [1, 3, 3]).groups(32).mixed().twice_size()),
        ("enlarged", plain([3, 8, 16], [64, 192], [2, 3, 3]).groups(192).twice_size().only(1, 3)),
        ("enlarged", Case { bias: false, ..plain([1, 17, 19], [128, 64], [1, 3, 3]).mixed().twice_size() }),
    ];
    trial.with_variant(Variant::Sm90, |trial| {
        cases
            .into_iter()
            .try_for_each(|(tile, case)| trial.forcing(&format!("conv3d={tile}"), |trial| trial.against_the_cpu(&case)))
    })
}

/// With few multiprocessors, a block makes many tiles one after another.
fn a_block_makes_many_boxes_with_the_same_bits(trial: &mut Trial) -> Result<()> {
    let case = plain([2, 16, 32], [64, 64], [1, 3, 3]).groups(32).mixed();
    let enlarged = plain([1, 16, 32], [64, 64], [1, 3, 3]).groups(32).mixed().twice_size();
    trial.with_variant(Variant::Sm90, |trial| {
        for (case, tiles) in [(case, &["small", "large"][..]), (enlarged, &["enlarged"])] {
            trial.each(&case, |kernels, half| {
                let frames = case.op.computed();
                let run = |kernels: &Kernels| Ok(case.chunks(kernels, half, &[[frames.start, frames.end]])?.concat());
                let whole = run(kernels)?;
                tiles.iter().try_for_each(|tile| {
                    let few = kernels.on_multiprocessors(2).forcing(&format!("conv3d={tile}"))?;
                    ensure_same(&run(&few)?, &whole, tile)
                })
            })?;
        }
        Ok(())
    })
}

fn few_output_channels_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    check(
        trial,
        [
            plain([2, 33, 9], [32, 3], [3, 3, 3]),
            plain([1, 16, 16], [128, 3], [3, 3, 3]),
            plain([5, 5, 10], [8, 8], [3, 3, 3]).groups(8).mixed(),
            plain([2, 6, 12], [96, 6], [1, 3, 3]).groups(2).mixed(),
        ],
    )
}

fn strides_and_other_kernels_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    check(
        trial,
        [
            plain([2, 16, 33], [32, 64], [1, 3, 3]).groups(32).half_size(),
            plain([1, 5, 7], [64, 32], [1, 3, 3]).half_size(),
            plain([2, 5, 7], [8, 8], [1, 1, 1]),
            plain([1, 16, 16], [128, 64], [1, 1, 1]).groups(32).mixed(),
            plain([5, 5, 7], [24, 96], [3, 1, 1]).groups(32),
            // Rows too short for windows.
            plain([5, 5, 7], [32, 32], [3, 3, 3]).groups(32).mixed().half_rate(),
            plain([1, 1, 1], [160, 3], [3, 3, 3]),
            plain([2, 8, 12], [8, 12], [2, 4, 5]).half_size(),
            Case { bias: false, ..plain([2, 9, 20], [8, 16], [1, 5, 5]) },
        ],
    )
}

fn odd_input_channels_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    check(
        trial,
        [
            plain([2, 5, 7], [3, 128], [1, 3, 3]).groups(32),
            plain([2, 12, 16], [3, 32], [3, 3, 3]).groups(32),
            plain([5, 5, 7], [4, 64], [3, 3, 3]).groups(32).mixed().half_rate(),
            plain([2, 33, 9], [4, 4], [1, 1, 1]),
            plain([2, 9, 8], [7, 13], [2, 3, 5]).groups(13).half_size().half_rate(),
            plain([1, 5, 7], [12, 9], [1, 3, 3]).groups(3),
        ],
    )
}

fn chunks_of_time_are_bit_for_bit_the_whole(trial: &mut Trial) -> Result<()> {
    for case in [
        plain([5, 9, 16], [8, 64], [3, 3, 3]).groups(32).mixed(),
        plain([9, 5, 7], [16, 32], [3, 3, 3]).groups(32).half_rate(),
        plain([5, 5, 7], [4, 8], [3, 3, 3]).groups(4),
        plain([5, 5, 9], [8, 3], [3, 3, 3]),
        plain([5, 8, 16], [8, 64], [3, 3, 3]).groups(32).mixed().twice_size(),
    ] {
        trial.each(&case, |kernels, half| in_chunks(kernels, half, &case))?;
    }
    let case = plain([5, 8, 16], [64, 64], [3, 3, 3]).groups(32).mixed();
    trial.with_variant(Variant::Sm90, |trial| {
        for case in [case, case.twice_size()] {
            trial.each(&case, |kernels, half| in_chunks(kernels, half, &case))?;
        }
        Ok(())
    })
}

fn in_chunks(kernels: &Kernels, half: Half, case: &Case) -> Result<()> {
    let whole = case.chunks(kernels, half, &[[0, 5]])?;
    let chunks = case.chunks(kernels, half, &[[0, 1], [1, 3], [3, 3], [3, 5]])?;
    ensure_same(&chunks[0], &whole[0], &"chunks of time")?;
    ensure_same(&chunks[1], &whole[1], &"their moments")
}

fn every_tile_gives_the_same_bits(trial: &mut Trial) -> Result<()> {
    for (case, tiles) in [
        (plain([1, 15, 9], [40, 128], [1, 3, 3]).groups(32), &["n128", "n96", "n64"][..]),
        (plain([2, 5, 9], [8, 3], [3, 3, 3]).mixed(), &["n128", "n96", "n64", "n8"]),
        (plain([2, 5, 7], [40, 80], [3, 3, 3]).groups(8), &["strided_n128", "strided_n64"]),
        (plain([1, 8, 16], [40, 128], [1, 3, 3]).groups(32).twice_size(), &["n128", "n96", "n64"]),
        (plain([2, 5, 4], [40, 80], [1, 3, 3]).twice_size(), &["strided_n128", "strided_n64"]),
    ] {
        let frames = case.op.computed();
        trial.alike("conv3d", tiles, &case, |kernels, half| {
            Ok(case.chunks(kernels, half, &[[frames.start, frames.end]])?.concat())
        })?;
    }
    Ok(())
}

/// Computes the last frames of a convolution from only the input that they depend on, on the CPU and by the kernels.
/// The output goes to the end of another buffer, and the other summand is at the start of one.
fn a_stretch_has_the_bits_of_the_whole(trial: &mut Trial) -> Result<()> {
    for case in [
        plain([7, 6, 10], [8, 64], [3, 3, 3]).groups(32).mixed(),
        plain([6, 3, 4], [4, 8], [3, 3, 3]).groups(4).mixed(),
        plain([6, 8, 16], [8, 64], [3, 3, 3]).groups(32).mixed().twice_size(),
    ] {
        stretch(&Cpu::new(), case.op, Half::F16)?;
        trial.each(&case, |kernels, half| stretch(kernels, case.op, half))?;
    }
    let case = plain([6, 8, 16], [64, 64], [3, 3, 3]).groups(32).mixed();
    trial.with_variant(Variant::Sm90, |trial| trial.each(&case, |kernels, half| stretch(kernels, case.op, half)))
}

fn stretch<B: Backend>(backend: &B, op: Conv3d, half: Half) -> Result<()> {
    let [frames, rest] = [op.frames, 3];
    let [x_len, out_len] = [op.height * op.width * op.cin, op.out_shape()[1..].iter().product::<usize>()];
    let (x, other) = (half_values(1, frames * x_len, half), half_values(4, frames * out_len, half));
    let (shape, kt) = (op.weight_shape(), op.kernel[0]);
    let weight = backend.weight(vec![Tensor::from_f32(&shape, &half_values(2, shape.iter().product(), half))])?;
    let convolve = |op: Conv3d, x: &[f32], other: &[f32], room: usize| -> Result<[Vec<f32>; 2]> {
        let mut out = backend.upload(&vec![BEFORE; room * out_len])?;
        let mut moments = backend.alloc_moments(&op.moments(room))?;
        let (x, other) = (backend.upload(x)?, backend.upload(other)?);
        let args = ConvArgs::new(&x, &weight, &mut out);
        backend.conv3d(&op, ConvArgs { other: Some(&other), moments: Some(&mut moments), ..args })?;
        let words = moments.len() / room;
        Ok([host(backend, &out)?, host(backend, &moments)?[(room - rest) * words..].to_vec()])
    };
    let [whole, moments] = convolve(op, &x, &other, frames)?;
    let from = frames - rest;
    let x = &x[(from + 1 - kt) * x_len..];
    let only = Some([kt - 1, kt - 1 + rest]);
    let op = Conv3d { frames: kt - 1 + rest, only, out_frame: Some(2), other_frame: Some(0), ..op };
    let [stretch, of_stretch] = convolve(op, x, &other[from * out_len..], 2 + rest)?;
    ensure_same(&stretch[2 * out_len..], &whole[from * out_len..], &"the last frames")?;
    ensure(stretch[..2 * out_len].iter().all(|&value| value == BEFORE), || "frames in front have changed".into())?;
    ensure_same(&of_stretch, &moments, &"moments of the last frames")
}

/// Levels of the VAE's decoder for a few frames of a window, its last layer, and an upsampling convolution.
pub(super) fn work() -> Vec<Work> {
    vec![
        Work::of("9x128x128, 128 to 128 channels, with moments", plain([9, 128, 128], [128, 128], [3; 3]).groups(32)),
        Work::of("17x32x32, 512 to 512 channels, with moments", plain([17, 32, 32], [512, 512], [3; 3]).groups(32)),
        Work::of("9x128x128, 128 to 3 channels", plain([9, 128, 128], [128, 3], [3; 3])),
        Work::of("9x64x64 made 128x128, 256 channels", plain([9, 64, 64], [256, 256], [1, 3, 3]).twice_size()),
    ]
}

checks! {
    windows_agree_with_the_cpu,
    enlargements_agree_with_the_cpu,
    wide_tiles_agree_with_the_cpu,
    boxes_agree_with_the_cpu,
    a_block_makes_many_boxes_with_the_same_bits,
    few_output_channels_agree_with_the_cpu,
    strides_and_other_kernels_agree_with_the_cpu,
    odd_input_channels_agree_with_the_cpu,
    chunks_of_time_are_bit_for_bit_the_whole,
    every_tile_gives_the_same_bits,
    a_stretch_has_the_bits_of_the_whole,
}
