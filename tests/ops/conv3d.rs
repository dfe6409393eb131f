//! `conv3d` and `depthwise_conv` against their definitions in f64.

use super::values::{assert_close, on_one_and_three_threads, parameter, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::conv3d::{Conv3d, ConvArgs, DepthwiseConv, DepthwiseConvArgs, SpacePadding};
use osp::ops::enlarge::{FoldEnlargement, FoldEnlargementArgs};
use osp::tensor::DType;
use proptest::prelude::*;

/// A call with its arguments.
#[derive(Clone, Debug)]
struct Case {
    op: Conv3d,
    bias: bool,
    other: bool,
    dtype: DType,
}

fn cases() -> impl Strategy<Value = Case> {
    let size = (1..6usize, 1..14usize, prop_oneof![1..20usize, 28..60usize]);
    let cin = prop_oneof![prop::sample::select(vec![3, 4, 8, 16, 32]), 1..40usize];
    let cout = prop_oneof![prop::sample::select(vec![3, 4, 8, 16, 32, 64]), 1..80usize];
    let kernel = prop::sample::select(vec![[3, 3, 3], [1, 3, 3], [1, 1, 1], [3, 1, 1], [2, 3, 5], [4, 2, 3]]);
    let stride = (1..3usize, 1..3usize);
    let padding = prop::sample::select(vec![SpacePadding::Same, SpacePadding::RightBottom]);
    let dtype = prop::sample::select(vec![DType::F32, DType::Bf16]);
    let rest = (any::<bool>(), any::<bool>(), any::<bool>(), dtype);
    (size, cin, cout, kernel, stride, padding, rest).prop_map(
        |((frames, height, width), cin, cout, kernel, stride, padding, (upsample, bias, other, dtype))| {
            let (conv_scale, other_scale) = if other { (0.75, 0.5) } else { (1.0, 1.0) };
            let op = Conv3d {
                stride: stride.into(),
                padding,
                upsample: upsample && kernel[1..] == [3, 3] && stride.1 == 1 && padding == SpacePadding::Same,
                conv_scale,
                other_scale,
                ..Conv3d::new(frames, height, width, cin, cout, kernel)
            };
            Case { op, bias, other, dtype }
        },
    )
}

/// The backend's result of a case.
fn run(case: &Case) -> Vec<f32> {
    run_chunks(case, &[[0, case.op.out_shape()[0]]], 0.0)
}

/// The backend's result of a case, computed in these chunks of time into an output filled with `before`.
fn run_chunks(Case { op, bias, other, dtype }: &Case, chunks: &[[usize; 2]], before: f32) -> Vec<f32> {
    let cpu = Cpu::new();
    let [kt, kh, kw] = op.kernel;
    let x = cpu.upload(&values(1, op.frames * op.height * op.width * op.cin)).unwrap();
    let mut weight = cpu.weight(vec![parameter(2, &[op.cout, kt, kh, kw, op.cin], *dtype).0]).unwrap();
    if op.upsample {
        let fold = FoldEnlargement { cout: op.cout, kt, cin: op.cin };
        let mut folded = cpu.alloc_weight(&fold.folded_shape()).unwrap();
        cpu.fold_enlargement(&fold, FoldEnlargementArgs { weight: &weight, folded: &mut folded }).unwrap();
        weight = folded;
    }
    let bias = bias.then(|| cpu.weight(vec![parameter(3, &[op.cout], *dtype).0]).unwrap());
    let len = op.out_shape().iter().product();
    let other = other.then(|| cpu.upload(&values(4, len)).unwrap());
    let mut out = cpu.upload(&vec![before; len]).unwrap();
    for &chunk in chunks {
        let op = Conv3d { only: Some(chunk), ..*op };
        let args = ConvArgs::new(&x, &weight, &mut out);
        cpu.conv3d(&op, ConvArgs { bias: bias.as_ref(), other: other.as_ref(), ..args }).unwrap();
    }
    let mut found = vec![0.0; len];
    cpu.download(&out, 0, &mut found).unwrap();
    found
}

fn formula(Case { op, bias, other, dtype }: &Case) -> Vec<f64> {
    let [kt, kh, kw] = op.kernel;
    let [_, out_height, out_width, cout] = op.out_shape();
    let len = op.out_shape().iter().product();
    let x = values(1, op.frames * op.height * op.width * op.cin);
    let weight = parameter(2, &[cout, kt, kh, kw, op.cin], *dtype).1;
    let bias = if *bias { parameter(3, &[cout], *dtype).1 } else { vec![0.0; cout] };
    let other = if *other { values(4, len) } else { vec![0.0; len] };
    // The value of the padded, enlarged input.
    let input = |t: usize, y: isize, x_frame: isize, c: usize| {
        let factor = if op.upsample { 2 } else { 1 };
        let frame = t.saturating_sub(kt - 1);
        let inside = |at: isize, size: usize| (0..(size * factor) as isize).contains(&at);
        if !inside(y, op.height) || !inside(x_frame, op.width) {
            return 0.0;
        }
        let pixel = (frame * op.height + y as usize / factor) * op.width + x_frame as usize / factor;
        f64::from(x[pixel * op.cin + c])
    };
    let pad = op.pad_front().map(|pad| pad as isize);
    let element = |i: usize| {
        let (c, pixel) = (i % cout, i / cout);
        let (px, py, t) = (pixel % out_width, pixel / out_width % out_height, pixel / out_width / out_height);
        let mut sum = f64::from(bias[c]);
        for tap in 0..kt * kh * kw {
            let frame = t * op.stride[0] + tap / (kh * kw);
            let y = (py * op.stride[1] + tap / kw % kh) as isize - pad[0];
            let x_frame = (px * op.stride[1] + tap % kw) as isize - pad[1];
            for k in 0..op.cin {
                sum += input(frame, y, x_frame, k) * f64::from(weight[(c * kt * kh * kw + tap) * op.cin + k]);
            }
        }
        f64::from(op.conv_scale) * sum + f64::from(op.other_scale) * f64::from(other[i])
    };
    (0..len).map(element).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn conv3d_is_the_formula(case in cases()) {
        assert_close(&run(&case), &formula(&case), 1e-5);
    }
}

#[test]
fn conv3d_of_the_vae_is_the_formula() {
    let plain = |cin, cout, kernel| Conv3d::new(3, 5, 18, cin, cout, kernel);
    let down = Conv3d { stride: [1, 2], padding: SpacePadding::RightBottom, ..plain(64, 64, [1, 3, 3]) };
    let up = Conv3d { upsample: true, ..plain(64, 32, [1, 3, 3]) };
    for op in [
        plain(128, 3, [3, 3, 3]),
        plain(3, 128, [3, 3, 3]),
        plain(300, 140, [3, 3, 3]),
        plain(64, 8, [1, 1, 1]),
        down,
        up,
        plain(64, 64, [3, 3, 3]),
        plain(80, 96, [1, 3, 3]),
        // With this many input channels, the weight is packed in two pieces.
        Conv3d::new(3, 2, 3, 600, 130, [3, 3, 3]),
    ] {
        let case = Case { op, bias: true, other: false, dtype: DType::F32 };
        assert_close(&run(&case), &formula(&case), 1e-5);
    }
}

#[test]
fn conv3d_does_not_depend_on_the_number_of_threads() {
    for (cin, cout) in [(24, 3), (24, 48), (64, 64)] {
        let op = Conv3d::new(2, 16, 20, cin, cout, [3, 3, 3]);
        on_one_and_three_threads(|| run(&Case { op, bias: true, other: true, dtype: DType::F32 }));
    }
}

#[test]
fn a_frame_does_not_depend_on_later_frames() {
    for (cin, cout) in [(20, 40), (64, 64)] {
        let case = |frames| Case {
            op: Conv3d::new(frames, 10, 37, cin, cout, [3, 3, 3]),
            bias: true,
            other: false,
            dtype: DType::F32,
        };
        let (long, short) = (run(&case(6)), run(&case(3)));
        assert!(short.iter().zip(&long).all(|(short, long)| short.to_bits() == long.to_bits()));
    }
}

#[test]
fn chunks_of_time_have_the_bits_of_the_whole() {
    // Both algorithms: direct, and with many channels Winograd's. The whole is large enough to have other blocks than a
    // chunk.
    for (size, channels, stride, upsample) in [
        ([6, 7, 20], [20, 40], 1, false),
        ([9, 7, 5], [8, 3], 2, false),
        ([5, 16, 64], [64, 64], 1, false),
        ([6, 7, 20], [20, 40], 1, true),
    ] {
        let plain = Conv3d::new(size[0], size[1], size[2], channels[0], channels[1], [3, 3, 3]);
        let op = Conv3d { stride: [stride, 1], upsample, conv_scale: 0.75, ..plain };
        let case = Case { op, bias: true, other: true, dtype: DType::F32 };
        let (whole, frames) = (run(&case), op.out_shape()[0]);
        let chunks = run_chunks(&case, &[[3, frames], [0, 1], [2, 2], [1, 3]], 7.0);
        assert!(whole.iter().zip(&chunks).all(|(whole, chunk)| whole.to_bits() == chunk.to_bits()));
        // Frames that are not requested keep their values.
        let frame = whole.len() / frames;
        let second = run_chunks(&case, &[[1, 2]], 7.0);
        assert!(second[..frame].iter().chain(&second[2 * frame..]).all(|&value| value == 7.0));
        assert_eq!(second[frame..2 * frame], whole[frame..2 * frame]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Many channels use another algorithm, see `cpu::conv3d::winograd`.
    #[test]
    fn conv3d_of_many_channels_is_the_formula(
        size in (1..5usize, 1..9usize, 1..12usize), channels in (4..8usize, 4..8usize), kt in 1..4usize,
        time_stride in 1..3usize, bias: bool, other: bool,
    ) {
        let (frames, height, width) = size;
        let plain = Conv3d::new(frames, height, width, 16 * channels.0, 16 * channels.1, [kt, 3, 3]);
        let (conv_scale, other_scale) = if other { (0.75, 0.5) } else { (1.0, 1.0) };
        let op = Conv3d { stride: [time_stride, 1], conv_scale, other_scale, ..plain };
        let case = Case { op, bias, other, dtype: DType::Bf16 };
        assert_close(&run(&case), &formula(&case), 1e-5);
    }
}

proptest! {
    #[test]
    fn depthwise_conv_is_the_formula(
        outer in 1..4usize, sides in (1..9usize, 1..9usize), channels in 1..40usize, factor in 1..5usize, time: bool,
    ) {
        let op = match time {
            true => DepthwiseConv::Time { outer, frames: sides.0, positions: sides.1, channels, factor },
            false => DepthwiseConv::Space { outer, height: sides.0, width: sides.1, channels, factor },
        };
        depthwise(&op, outer, sides, channels, factor);
    }
}

fn depthwise(op: &DepthwiseConv, outer: usize, (a, b): (usize, usize), channels: usize, factor: usize) {
    let cpu = Cpu::new();
    let time = matches!(op, DepthwiseConv::Time { .. });
    let shape = if time { vec![channels, factor] } else { vec![channels, factor, factor] };
    let x = values(1, outer * a * b * channels);
    let (weight, (bias, bias_values)) = (parameter(2, &shape, DType::F32), parameter(3, &[channels], DType::F32));
    let len = outer * op.out_tokens() * channels;
    let mut out = cpu.alloc(len).unwrap();
    let (weights, bias) = (cpu.weight(vec![weight.0]).unwrap(), cpu.weight(vec![bias]).unwrap());
    let device_x = cpu.upload(&x).unwrap();
    cpu.depthwise_conv(op, DepthwiseConvArgs { x: &device_x, weight: &weights, bias: &bias, out: &mut out }).unwrap();
    let mut found = vec![0.0; len];
    cpu.download(&out, 0, &mut found).unwrap();

    let element = |i: usize| {
        let (c, token, o) = (i % channels, i / channels % op.out_tokens(), i / channels / op.out_tokens());
        let at = |token: usize| f64::from(x[(o * a * b + token) * channels + c]);
        let w = |tap: usize| f64::from(weight.1[c * shape[1..].iter().product::<usize>() + tap]);
        let sum: f64 = if time {
            (0..factor).map(|k| w(k) * at((token / b * factor + k).saturating_sub(op.front()) * b + token % b)).sum()
        } else {
            let (y, x) = (token / (b / factor) * factor, token % (b / factor) * factor);
            (0..factor * factor).map(|k| w(k) * at((y + k / factor) * b + x + k % factor)).sum()
        };
        sum + f64::from(bias_values[c])
    };
    assert_close(&found, &(0..len).map(element).collect::<Vec<_>>(), 1e-5);
}
