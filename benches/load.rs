//! The host's cost of copying parameters and activations to a device and back: rounding to the device's type, and
//! moving channels innermost. Runs on the dry device, at sizes of the published models.

mod common;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::Result;
use osp::backend::Backend;
use osp::cuda::device::Dry;
use osp::cuda::{Cuda, Half};
use osp::tensor::{Bytes, DType, Tensor};
use osp::weights::load::Loader;
use osp::weights::{Entry, Params, Role, Source};
use std::path::Path;
use std::sync::Arc;

/// Weights of linear layers of the transformer.
const LINEAR: [[usize; 2]; 2] = [[4608, 1152], [3456, 1152]];
/// A convolution of the VAE's widest level.
const CONVOLUTION: [usize; 5] = [512, 512, 3, 3, 3];
/// Embeddings of two captions.
const ACTIVATIONS: usize = 2 * 120 * 4096;

fn backend(half: Half) -> Cuda {
    Cuda::new(Arc::new(Dry::new()), half)
}

/// A tensor of pseudo-random values without NaN, in the stored type `dtype`.
fn stored(dtype: DType, shape: &[usize]) -> Tensor {
    let values = common::values(shape.iter().product());
    match dtype {
        DType::F32 => Tensor::from_f32(shape, &values),
        // The upper of 16 bits is the sign, and the mask makes the next ones a small exponent in both types.
        _ => {
            let bits = values.iter().map(|value| (value.to_bits() >> 16) as u16 & 0xbbff);
            let bytes = bits.flat_map(u16::to_le_bytes).collect();
            Tensor { shape: shape.to_vec(), dtype, bytes: Bytes::Owned(Arc::new(bytes)) }
        }
    }
}

fn linear(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "weight");
    for shape in LINEAR {
        group.throughput(Throughput::Elements(shape.iter().product::<usize>() as u64));
        for (dtype, half) in
            [(DType::F32, Half::F16), (DType::F32, Half::Bf16), (DType::F16, Half::Bf16), (DType::Bf16, Half::F16)]
        {
            let (backend, tensor) = (backend(half), stored(dtype, &shape));
            let name = format!("{shape:?} of {} as {}", dtype.name(), half.suffix());
            group.bench_function(name, |bencher| {
                bencher.iter(|| backend.weight(vec![tensor.clone()]).unwrap());
            });
        }
    }
}

/// A checkpoint that gives the same tensor for every name.
struct One(Tensor);

impl Source for One {
    fn path(&self) -> &Path {
        Path::new("one")
    }

    fn entries(&self) -> Vec<Entry> {
        Vec::new()
    }

    fn tensor(&self, _: &str) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }

    fn fingerprint(&self) -> String {
        "one".into()
    }
}

fn convolution(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "convolution");
    group.throughput(Throughput::Elements(CONVOLUTION.iter().product::<usize>() as u64));
    for (dtype, half) in [(DType::F32, Half::F16), (DType::Bf16, Half::Bf16)] {
        let (backend, source) = (backend(half), One(stored(dtype, &CONVOLUTION)));
        let names = ["weight".to_owned()];
        group.bench_function(format!("{CONVOLUTION:?} of {} as {}", dtype.name(), half.suffix()), |bencher| {
            bencher.iter(|| Loader::new(&source, &backend).get(&names, &CONVOLUTION, Role::Convolution).unwrap());
        });
    }
}

fn activations(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "activations");
    group.throughput(Throughput::Elements(ACTIVATIONS as u64));
    let mut values = common::values(ACTIVATIONS);
    for half in [Half::F16, Half::Bf16] {
        let backend = backend(half);
        let name = |what: &str| format!("{what} {ACTIVATIONS} of {}", half.suffix());
        group.bench_function(name("upload"), |bencher| bencher.iter(|| backend.upload(&values).unwrap()));
        let buffer = backend.upload(&values).unwrap();
        group.bench_function(name("download"), |bencher| {
            bencher.iter(|| backend.download(&buffer, 0, &mut values).unwrap());
        });
    }
}

criterion_group!(benches, linear, convolution, activations);
criterion_main!(benches);
