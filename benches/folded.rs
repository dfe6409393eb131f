//! Norms in front of linear layers: the parts of a folded norm in bytes moved, and a layer behind a separate and behind a
//! folded norm in FLOP/s of its product. For the tokens of a 17×256×256 video; on a GPU for those of two samples of
//! 65×512×512 and of 221×512×512.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::folded::{
    FoldNorm, FoldNormArgs, FoldedNorm, RowMoments, RowMomentsArgs, RowStatistics, RowStatisticsArgs,
};
use osp::ops::gemm::{Linear, LinearArgs};
use osp::ops::norm::{AdaLayerNorm, AdaLayerNormArgs};
use osp::tensor::Tensor;

const CHANNELS: usize = 1152;
/// Columns of the layers behind norms: queries, keys and values; the feed-forward.
const OUTPUTS: [usize; 2] = [3 * CHANNELS, 4 * CHANNELS];

fn run<B: Target>(criterion: &mut Criterion, backend: &B, videos: &[usize]) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "folded");
    let modulation = backend.upload(&values(2 * CHANNELS)).unwrap();
    for &rows in videos {
        let x = backend.upload(&values(rows * CHANNELS)).unwrap();
        let op = RowStatistics { rows, channels: CHANNELS, eps: 1e-6 };
        let of: RowMoments = op.moments();
        let mut moments = backend.alloc_f32(of.elements()).unwrap();
        let mut statistics = backend.alloc_f32(2 * rows).unwrap();
        let name = format!("row_moments {rows}x{CHANNELS}");
        bench(&mut group, backend, &ceiling, &name, Work::Bytes(of.bytes(B::ELEMENT)), || {
            backend.row_moments(&of, RowMomentsArgs { x: &x, moments: &mut moments }).unwrap();
        });
        let name = format!("row_statistics {rows}x{CHANNELS}");
        bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes()), || {
            backend.row_statistics(&op, RowStatisticsArgs { moments: &moments, statistics: &mut statistics }).unwrap();
        });
        for outputs in OUTPUTS {
            let layer = Linear::new(rows, CHANNELS, outputs);
            let weight = Tensor::from_f32(&[outputs, CHANNELS], &values(outputs * CHANNELS));
            let weight = backend.weight(vec![weight]).unwrap();
            let mut out = backend.alloc(rows * outputs).unwrap();
            let (mut folded, mut columns) =
                (backend.alloc_weight(&[outputs, CHANNELS]).unwrap(), backend.alloc_f32(2 * outputs).unwrap());
            let fold = FoldNorm { in_features: CHANNELS, out_features: outputs, shift: 0, scale: CHANNELS };
            let fold_norm = |folded: &mut B::Weight, columns: &mut B::Buffer| {
                let args = FoldNormArgs { weight: &weight, bias: None, modulation: &modulation, folded, columns };
                backend.fold_norm(&fold, args).unwrap();
            };
            let name = format!("fold_norm {outputs}x{CHANNELS}");
            bench(&mut group, backend, &ceiling, &name, Work::Bytes(fold.bytes(B::ELEMENT)), || {
                fold_norm(&mut folded, &mut columns);
            });
            let name = |norm: &str| format!("{rows}x{CHANNELS}x{outputs}, norm {norm}");
            bench(&mut group, backend, &ceiling, &name("folded"), Work::Flops(layer.flops()), || {
                let args = RowStatisticsArgs { moments: &moments, statistics: &mut statistics };
                backend.row_statistics(&op, args).unwrap();
                fold_norm(&mut folded, &mut columns);
                let norm = Some(FoldedNorm { statistics: &statistics, columns: &columns });
                backend.linear(&layer, LinearArgs { norm, ..LinearArgs::new(&x, &folded, &mut out) }).unwrap();
            });
            let norm = AdaLayerNorm {
                rows,
                channels: CHANNELS,
                eps: 1e-6,
                rows_per_modulation: rows,
                modulation_stride: 0,
                shift: 0,
                scale: CHANNELS,
            };
            let mut normed = backend.alloc(rows * CHANNELS).unwrap();
            bench(&mut group, backend, &ceiling, &name("separate"), Work::Flops(layer.flops()), || {
                let args = AdaLayerNormArgs { x: &x, modulation: &modulation, out: &mut normed };
                backend.ada_layer_norm(&norm, args).unwrap();
                backend.linear(&layer, LinearArgs::new(&normed, &weight, &mut out)).unwrap();
            });
        }
    }
}

fn folded(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu, &[34_816, 114_688]),
        None => run(criterion, &Cpu::new(), &[1280]),
    }
}

criterion_group!(benches, folded);
criterion_main!(benches);
