//! The model lands in the ranges that were predicted before, by hand, for each kernel (docs/benchmarks/notes.md).

use super::*;
use crate::backend::Backend;
use crate::cuda::device::Dry;
use crate::cuda::{Cuda, Half, Variant, Weight};
use crate::ops::attention::{Attention, AttentionArgs, TokenLayout};
use crate::ops::conv3d::{Conv3d, ConvArgs};
use crate::ops::gemm::{Activation, Linear, LinearArgs, Store};
use crate::profile::gpus::Gpu;
use crate::profile::{Profiled, Recorder};
use crate::tensor::{Bytes, DType, Tensor};
use std::sync::Arc;

/// A device that records and executes nothing.
struct Counting {
    cuda: Cuda,
    recorder: Recorder,
}

impl Counting {
    fn new(variant: Variant) -> Self {
        let recorder = Recorder::default();
        let dry = Arc::new(Dry::new().with_variant(variant));
        Self { cuda: Cuda::new(Arc::new(Profiled::new(dry, recorder.clone())), Half::F16), recorder }
    }

    fn weight(&self, shape: &[usize]) -> Weight {
        let tensor = Tensor { shape: shape.to_vec(), dtype: DType::F16, bytes: Bytes::Absent };
        self.cuda.weight(vec![tensor]).unwrap()
    }

    /// The one launch since the last call.
    fn launch(&self) -> Record {
        let mut records = self.recorder.take();
        assert_eq!(records.len(), 1);
        records.remove(0)
    }

    fn linear(&self, op: &Linear) -> Record {
        let x = self.cuda.alloc(op.rows * op.in_features).unwrap();
        let weight = self.weight(&[op.out_features, op.in_features]);
        let mut out = self.cuda.alloc(op.rows * op.out_features).unwrap();
        self.cuda.linear(op, LinearArgs::new(&x, &weight, &mut out)).unwrap();
        self.launch()
    }

    fn conv(&self, op: &Conv3d) -> Record {
        let x = self.cuda.alloc(op.frames * op.height * op.width * op.cin).unwrap();
        let weight = self.weight(&[op.cout, op.kernel[0], op.kernel[1], op.kernel[2], op.cin]);
        let mut out = self.cuda.alloc(op.out_shape().iter().product()).unwrap();
        self.cuda.conv3d(op, ConvArgs::new(&x, &weight, &mut out)).unwrap();
        self.launch()
    }

    /// Attention of 16 heads of 72 features over sequences that lie one behind the other.
    fn attention(&self, sequences: usize, tokens: usize) -> Record {
        let (heads, head_dim) = (16, 72);
        let width = heads * head_dim;
        let layout = TokenLayout { offset: 0, outer_stride: 0, inner_stride: tokens * width, token_stride: width };
        let op = Attention {
            outer: 1,
            inner: sequences,
            heads,
            head_dim,
            queries: tokens,
            keys: tokens,
            scale: 1.0,
            q: layout,
            k: layout,
            v: layout,
            out: layout,
            rope_group: head_dim,
        };
        let buffer = || self.cuda.alloc(sequences * tokens * width).unwrap();
        let (q, k, v, mut out) = (buffer(), buffer(), buffer(), buffer());
        self.cuda.attention(&op, AttentionArgs::new([&q, &k, &v], &mut out)).unwrap();
        self.launch()
    }
}

fn gpu() -> &'static Gpu {
    Gpu::named("h100").unwrap()
}

/// The predicted share of an H100's peak, and the prediction.
fn share(record: &Record) -> (f64, Predicted) {
    let predicted = Chip::of(gpu()).unwrap().predict(record).unwrap_or_else(|| panic!("{} has no model", record.name));
    (record.flops as f64 / gpu().flops / predicted.seconds, predicted)
}

/// Fails if the share, to the hundredth, is not in a range.
fn lands(record: &Record, [least, most]: [f64; 2]) {
    let (share, predicted) = share(record);
    let rounded = (100.0 * share).round() / 100.0;
    assert!((least..=most).contains(&rounded), "{}: {share:.3} is not in {least}–{most}: {predicted:?}", record.name);
}

/// Rows of one guidance branch of 221×512×512.
const ROWS: usize = 57_344;

fn layers() -> [Linear; 4] {
    let added = Store::Add;
    [
        Linear::new(ROWS, 1152, 3456),
        Linear::new(ROWS, 1152, 1152).store(added),
        Linear::new(ROWS, 1152, 4608).activation(Activation::GeluTanh),
        Linear::new(ROWS, 4608, 1152).store(added),
    ]
}

#[test]
fn linear_layers_of_warps_land_where_the_notes_expect_them() {
    let device = Counting::new(Variant::Sm80);
    for op in layers() {
        let record = device.linear(&op);
        assert_eq!(record.name, "linear_broad_f16");
        lands(&record, [0.43, 0.52]);
    }
}

#[test]
fn linear_layers_of_warpgroups_land_where_the_notes_expect_them() {
    let device = Counting::new(Variant::Sm90);
    for op in layers() {
        let record = device.linear(&op);
        assert_eq!(record.name, "linear_sm90_large_f16");
        lands(&record, [0.66, 0.72]);
    }
    // An activation costs warps time, and warpgroups none.
    let plain = |variant| share(&Counting::new(variant).linear(&Linear::new(ROWS, 1152, 4608))).0;
    let fused = |variant| share(&Counting::new(variant).linear(&layers()[2])).0;
    assert!(plain(Variant::Sm90) == fused(Variant::Sm90) && plain(Variant::Sm80) > fused(Variant::Sm80));
}

#[test]
fn convolutions_land_where_the_notes_expect_them() {
    let conv = |[frames, side, channels]: [usize; 3]| Conv3d::new(frames, side, side, channels, channels, [3; 3]);
    let [warps, warpgroups] = [Variant::Sm80, Variant::Sm90].map(Counting::new);
    for (size, of_warps, of_warpgroups) in [
        ([65, 256, 128], [0.42, 0.48], [0.60, 0.66]),
        ([65, 128, 256], [0.43, 0.50], [0.63, 0.69]),
        ([33, 64, 512], [0.43, 0.50], [0.65, 0.70]),
    ] {
        lands(&warps.conv(&conv(size)), of_warps);
        lands(&warpgroups.conv(&conv(size)), of_warpgroups);
    }
    let record = warpgroups.conv(&conv([17, 32, 512]));
    assert_eq!(record.name, "causal_conv3d_sm90_small_f16");
    lands(&record, [0.50, 0.55]);
    // 544 tiles on 132 multiprocessors: five rounds.
    assert!((share(&record).1.filled - 0.824).abs() < 1e-3);
}

#[test]
fn attention_lands_where_the_notes_expect_it() {
    let device = Counting::new(Variant::Sm80);
    let spatial = device.attention(112, 1024);
    assert_eq!(spatial.name, "attention_q128_d72_f16");
    lands(&spatial, [0.29, 0.34]);
    // Over time, 60 to 75 % of a copy's bandwidth, which is 90 % of the data sheet's.
    let temporal = device.attention(2048, 56);
    let (_, predicted) = share(&temporal);
    let of_copy = temporal.bytes as f64 / predicted.seconds / (0.9 * gpu().bytes);
    assert!(predicted.by == Limit::Memory && (0.60..0.75).contains(&of_copy), "{of_copy}: {predicted:?}");
}

#[test]
fn attention_of_warpgroups_lands_where_the_notes_expect_it() {
    let device = Counting::new(Variant::Sm90);
    let spatial = device.attention(112, 1024);
    assert_eq!(spatial.name, "attention_sm90_q128_d72_f16");
    lands(&spatial, [0.48, 0.54]);
    // Copies run ahead, so short sequences are moved as fast as anything.
    let temporal = device.attention(2048, 56);
    assert_eq!(temporal.name, "attention_sm90_q64_d72_f16");
    let (_, predicted) = share(&temporal);
    let of_sheet = temporal.bytes as f64 / predicted.seconds / gpu().bytes;
    assert!(predicted.by == Limit::Memory && (0.79..0.82).contains(&of_sheet), "{of_sheet}: {predicted:?}");
}

#[test]
fn bytes_of_the_second_level_cache_are_those_of_the_notes() {
    let [warps, warpgroups] = [Variant::Sm80, Variant::Sm90].map(Counting::new);
    let giga_bytes = |record: &Record| (share(record).1.cache_bytes / 1e8).round() / 10.0;
    assert_eq!(layers().map(|op| giga_bytes(&warps.linear(&op))), [5.9, 2.0, 7.9, 7.9]);
    let conv = Conv3d::new(65, 256, 256, 128, 128, [3; 3]);
    assert_eq!(giga_bytes(&warpgroups.conv(&conv)), 18.4);
    // The notes count the 130 rows that a window needs, the machine code all of its 160.
    assert!((giga_bytes(&warps.conv(&conv)) - 39.5).abs() <= 2.5);
}

#[test]
fn a_small_launch_takes_the_pause_and_more_work_takes_longer() {
    let device = Counting::new(Variant::Sm80);
    let (_, small) = share(&device.linear(&Linear::new(2, 64, 64)));
    assert!(small.by == Limit::Launch && small.seconds < 2.0 * LAUNCH_SECONDS, "{small:?}");
    let seconds = [1, 2, 4].map(|times| share(&device.linear(&Linear::new(times * ROWS, 1152, 1152))).1.seconds);
    assert!(seconds.is_sorted() && seconds[2] < 4.1 * seconds[0], "{seconds:?}");
}

#[test]
fn no_prediction_is_shorter_than_the_bound() {
    let [warps, warpgroups] = [Variant::Sm80, Variant::Sm90].map(Counting::new);
    for op in [Linear::new(1, 64, 64), Linear::new(300, 4096, 4096), Linear::new(34_816, 1150, 1152), layers()[1]] {
        for device in [&warps, &warpgroups] {
            let record = device.linear(&op);
            assert!(share(&record).1.seconds >= gpu().bound(record.flops, record.bytes), "{}", record.name);
        }
    }
}

#[test]
fn one_unknown_kernel_leaves_the_sum_without_a_prediction() {
    let device = Counting::new(Variant::Sm80);
    let chip = Chip::of(gpu()).unwrap();
    let known = device.linear(&layers()[0]);
    let unknown = Record { name: "linear_unheard_of_f16".into(), ..known.clone() };
    let one = Forecast::of(&chip, [&known]).unwrap();
    assert_eq!(Forecast::of(&chip, [&known, &unknown]), None);
    let records = [known, unknown];
    assert_eq!(forecasts(&chip, &records)["linear_broad_f16"], Some(one));
    let gaps = gaps(&chip, gpu(), &records);
    assert!(gaps.len() == 1 && gaps[0].to_give() > 0.0 && gaps[0].seconds == one.seconds);
    assert_eq!(one.by(), chip.predict(&records[0]).unwrap().by);
    // An operation on the CPU has no launch.
    assert_eq!(chip.predict(&Record { launched: None, ..records[0].clone() }), None);
}
