//! The norms over channels, in bytes moved, for the tokens of a 17×256×256 video and of a caption; on a GPU for the
//! tokens of two samples of 65×512×512 and of 221×512×512.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::norm::{AdaLayerNorm, AdaLayerNormArgs, LayerNorm, LayerNormArgs, RmsNorm, RmsNormArgs};
use osp::tensor::Tensor;

const CHANNELS: usize = 1152;
/// Tokens and channels of T5-XXL.
const TEXT: [usize; 2] = [300, 4096];

fn run<B: Target>(criterion: &mut Criterion, backend: &B, videos: &[usize]) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "norm");
    let parameter = |len: usize| backend.weight(vec![Tensor::from_f32(&[len], &values(len))]).unwrap();
    let modulation = backend.upload(&values(2 * CHANNELS)).unwrap();
    let (weight, bias) = (parameter(CHANNELS), parameter(CHANNELS));
    for &rows in videos {
        let x = backend.upload(&values(rows * CHANNELS)).unwrap();
        let mut out = backend.alloc(rows * CHANNELS).unwrap();
        let op = AdaLayerNorm {
            rows,
            channels: CHANNELS,
            eps: 1e-6,
            rows_per_modulation: rows,
            modulation_stride: 0,
            shift: 0,
            scale: CHANNELS,
        };
        let name = format!("ada_layer_norm {rows}x{CHANNELS}");
        bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes(B::ELEMENT)), || {
            backend.ada_layer_norm(&op, AdaLayerNormArgs { x: &x, modulation: &modulation, out: &mut out }).unwrap();
        });

        let op = LayerNorm { rows, channels: CHANNELS, eps: 1e-5 };
        let name = format!("layer_norm {rows}x{CHANNELS}");
        bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes(B::ELEMENT)), || {
            backend.layer_norm(&op, LayerNormArgs { x: &x, weight: &weight, bias: &bias, out: &mut out }).unwrap();
        });
    }

    let [rows, channels] = TEXT;
    let x = backend.upload(&values(rows * channels)).unwrap();
    let mut out = backend.alloc(rows * channels).unwrap();
    let op = RmsNorm { rows, channels, eps: 1e-6 };
    let weight = parameter(channels);
    let name = format!("rms_norm {rows}x{channels}");
    bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes(B::ELEMENT)), || {
        backend.rms_norm(&op, RmsNormArgs { x: &x, weight: &weight, out: &mut out }).unwrap();
    });
}

fn norms(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu, &[34_816, 114_688]),
        None => run(criterion, &Cpu::new(), &[1280]),
    }
}

criterion_group!(benches, norms);
criterion_main!(benches);
