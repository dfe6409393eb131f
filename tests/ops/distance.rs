//! `distance`: how far two tensors lie apart.

use super::values::{assert_close, on_one_and_three_threads, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::distance::{BLOCK, Distance, DistanceArgs};
use proptest::prelude::*;

/// The bytes of the sums.
fn sums(a: &[f32], b: &[f32]) -> Vec<u8> {
    let cpu = Cpu::new();
    let (len, a, b) = (a.len(), cpu.upload(a).unwrap(), cpu.upload(b).unwrap());
    cpu.distance(&Distance { len }, DistanceArgs { a: &a, b: &b }).unwrap().bytes().unwrap().to_vec()
}

fn numbers(sums: &[u8]) -> Vec<f32> {
    sums.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn relative(a: &[f32], b: &[f32]) -> f64 {
    Distance { len: a.len() }.relative(&sums(a, b))
}

/// Lengths around a vector of lanes and around a block.
fn lens() -> impl Strategy<Value = usize> {
    prop_oneof![0..100usize, BLOCK - 20..BLOCK + 20, Just(70_001)]
}

proptest! {
    #[test]
    fn sums_are_those_of_the_formula(len in lens(), scale in 0.01f32..100.0) {
        let (a, b) = (values(1, len), values(2, len).iter().map(|b| scale * b).collect::<Vec<_>>());
        let terms: Vec<[f64; 2]> =
            a.iter().zip(&b).map(|(&a, &b)| [f64::from(a) - f64::from(b), f64::from(b)].map(f64::abs)).collect();
        let expected: Vec<f64> = terms
            .chunks(BLOCK)
            .flat_map(|block| [0, 1].map(|place| block.iter().map(|term| term[place]).sum::<f64>()))
            .collect();
        let found = sums(&a, &b);
        prop_assert_eq!(numbers(&found).len(), 2 * Distance { len }.blocks());
        assert_close(&numbers(&found), &expected, 2e-7);

        let total = |place: usize| terms.iter().map(|term| term[place]).sum::<f64>();
        let expected = if len == 0 { 0.0 } else { total(0) / total(1) };
        let relative = Distance { len }.relative(&found);
        prop_assert!((relative - expected).abs() <= 2e-7 * expected, "{relative}, expected {expected}");
    }

    #[test]
    fn equal_tensors_have_the_distance_zero(len in lens()) {
        prop_assert_eq!(relative(&values(1, len), &values(1, len)).to_bits(), 0);
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (a, b) = (values(1, 5 * BLOCK + 3), values(2, 5 * BLOCK + 3));
    on_one_and_three_threads(|| numbers(&sums(&a, &b)));
}

#[test]
fn a_distance_to_nothing_is_infinite_and_one_to_no_number_is_not_finite() {
    let len = BLOCK + 3;
    let (zeros, x) = (vec![0.0; len], values(1, len));
    assert_eq!(relative(&zeros, &x), 1.0);
    assert_eq!(relative(&x, &zeros), f64::INFINITY);
    assert_eq!(relative(&zeros, &vec![-0.0; len]), 0.0);
    for strange in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut y = x.clone();
        y[BLOCK + 1] = strange;
        for (a, b) in [(&x, &y), (&y, &x), (&zeros, &y), (&y, &zeros), (&y, &y)] {
            assert!(!relative(a, b).is_finite(), "{strange}");
        }
    }
}
