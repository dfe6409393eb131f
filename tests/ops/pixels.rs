//! Pixels of bytes, and bytes of pixels.

use super::values::values;
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::pixels::{FromBytes, FromBytesArgs, ToBytes, ToBytesArgs};
use proptest::prelude::*;

fn pixels(bytes: &[u8]) -> Vec<f32> {
    let cpu = Cpu::new();
    let mut out = cpu.upload(&vec![f32::NAN; bytes.len()]).unwrap();
    cpu.from_bytes(&FromBytes { len: bytes.len() }, FromBytesArgs { bytes, out: &mut out }).unwrap();
    out.to_vec()
}

proptest! {
    #[test]
    fn from_bytes_is_the_formula(first in any::<u8>(), len in prop_oneof![0..100usize, Just(40_000)]) {
        let bytes: Vec<u8> = (0..len).map(|i| first.wrapping_add(i as u8)).collect();
        let expected: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0).collect();
        prop_assert_eq!(pixels(&bytes), expected);
    }

    #[test]
    fn to_bytes_is_the_formula(offset in 0..50usize, len in prop_oneof![0..100usize, Just(40_000)]) {
        let cpu = Cpu::new();
        let x: Vec<f32> = values(1, offset + len + 3).iter().map(|x| x * 1.25).collect();
        let mut out = cpu.to_bytes(&ToBytes { offset, len }, ToBytesArgs { x: &cpu.upload(&x).unwrap() }).unwrap();
        let byte = |x: f32| ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).trunc() as u8;
        let expected: Vec<u8> = x[offset..offset + len].iter().map(|&x| byte(x)).collect();
        prop_assert_eq!(out.bytes().unwrap(), expected);
    }
}

#[test]
fn the_ends_are_exact_and_the_middle_lies_beside_zero() {
    assert_eq!(pixels(&[0, 255]), [-1.0, 1.0]);
    // Half a step of 1/127.5 to either side, as near as f32 has it after the difference.
    for (found, expected) in pixels(&[127, 128]).into_iter().zip([-1.0 / 255.0, 1.0 / 255.0]) {
        assert!((found - expected).abs() < f32::EPSILON, "{found}");
    }
}

#[test]
fn bytes_of_special_values() {
    let cpu = Cpu::new();
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 1.0, 0.0, 1.0 - f32::EPSILON];
    let mut out = cpu.to_bytes(&ToBytes { offset: 0, len: 7 }, ToBytesArgs { x: &cpu.upload(&x).unwrap() }).unwrap();
    assert_eq!(out.bytes().unwrap(), [0, 255, 0, 0, 255, 127, 254]);
}
