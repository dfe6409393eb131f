//! `finite`: the first value that is not finite.

use super::values::values;
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::finite::{Finite, FiniteArgs};
use proptest::prelude::*;

proptest! {
    #[test]
    fn the_first_place_agrees_with_a_plain_search(
        offset in 0..50usize,
        len in prop_oneof![0..100usize, Just(2048), Just(70_001)],
        places in prop::collection::vec((0..70_101usize, prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(-f32::INFINITY)]), 0..4),
    ) {
        let cpu = Cpu::new();
        let mut x = values(3, offset + len + 5);
        x[0] = f32::MAX;
        for (place, value) in places {
            if let Some(at) = x.get_mut(place) {
                *at = value;
            }
        }
        let op = Finite { offset, len };
        let found = op.first(cpu.finite(&op, FiniteArgs { x: &cpu.upload(&x).unwrap() }).unwrap().bytes().unwrap());
        prop_assert_eq!(found, x[offset..offset + len].iter().position(|value| !value.is_finite()));
    }
}
