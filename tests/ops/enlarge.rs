//! Enlargements that are folded into the weight behind them, against the definition in f64. `conv3d`'s tests multiply by
//! such weights.

use super::values::{assert_close, on_one_and_three_threads, parameter};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::enlarge::{FoldEnlargement, FoldEnlargementArgs};
use osp::tensor::DType;
use proptest::prelude::*;

fn folded(op: FoldEnlargement, stored: DType) -> Vec<f32> {
    let cpu = Cpu::new();
    let weight = cpu.weight(vec![parameter(1, &[op.cout, op.kt, 3, 3, op.cin], stored).0]).unwrap();
    let mut folded = cpu.alloc_weight(&op.folded_shape()).unwrap();
    cpu.fold_enlargement(&op, FoldEnlargementArgs { weight: &weight, folded: &mut folded }).unwrap();
    cpu.weight_values(&folded).unwrap()
}

proptest! {
    #[test]
    fn taps_that_read_the_same_pixel_are_added(cout in 1..7usize, kt in 1..4usize, cin in 1..40usize, half: bool) {
        let stored = if half { DType::Bf16 } else { DType::F32 };
        let weight = parameter(1, &[cout, kt, 3, 3, cin], stored).1;
        let mut expected = vec![0.0; 16 * cout * kt * cin];
        for (at, &value) in weight.iter().enumerate() {
            let (channel, x, y, row) = (at % cin, at / cin % 3, at / cin / 3 % 3, at / cin / 9);
            for phase in 0..4 {
                // The pixel that an output of the phase reads, counted from the first that the phase reads.
                let tap = |half: usize, kernel: usize| (half + kernel).div_ceil(2) - half;
                let tap = 2 * tap(phase / 2, y) + tap(phase % 2, x);
                expected[((phase * cout * kt + row) * 4 + tap) * cin + channel] += f64::from(value);
            }
        }
        assert_close(&folded(FoldEnlargement { cout, kt, cin }, stored), &expected, 1e-6);
    }
}

#[test]
fn folding_gives_the_same_bits_with_any_number_of_threads() {
    on_one_and_three_threads(|| folded(FoldEnlargement { cout: 17, kt: 2, cin: 70 }, DType::F32));
}
