//! Products of warpgroups: the arithmetic against the published model, written down plainly, and every layout of the
//! operands in shared memory against the arithmetic.

use super::hopper::{device, download, launch, params, upload};
use half::{bf16, f16};
use osp::cuda::device::Device;
use osp::selftest::values;
use proptest::prelude::*;

// SAFETY: the type is that of kernels/emulator/product.cpp.
unsafe extern "C" {
    fn osp_emulator_product(f16: u32, rows: u32, columns: u32, a: *const u16, b: *const u16, c: *mut f32) -> bool;
}

/// c += a·b for 16 steps of k; a [rows][16], b [columns][16].
fn product(is_f16: bool, a: &[u16], b: &[u16], c: &mut [f32]) {
    assert!(a.len().is_multiple_of(16) && b.len().is_multiple_of(16));
    assert_eq!(c.len(), a.len() / 16 * (b.len() / 16));
    let (rows, columns) = (a.len() as u32 / 16, b.len() as u32 / 16);
    // SAFETY: the function reads 16 steps of k for each row of a and each column of b, and reads and writes
    // rows·columns sums of c. The slices have these sizes.
    let done = unsafe { osp_emulator_product(is_f16.into(), rows, columns, a.as_ptr(), b.as_ptr(), c.as_mut_ptr()) };
    assert!(done);
}

/// A finite number as mantissa · 2^exponent of its lowest bit, and the exponent of its highest; None if it is not finite.
fn parts(bits: u32, exponent_bits: u32, fraction_bits: u32) -> Option<(i128, i32)> {
    let largest = (1 << exponent_bits) - 1;
    let (exponent, fraction) = (bits >> fraction_bits & largest, bits & ((1 << fraction_bits) - 1));
    if exponent == largest {
        return None;
    }
    let magnitude = if exponent == 0 { fraction } else { fraction | 1 << fraction_bits };
    let sign = if bits >> (exponent_bits + fraction_bits) == 0 { 1 } else { -1 };
    Some((sign * i128::from(magnitude), exponent.max(1) as i32 - largest as i32 / 2))
}

/// One sum by the model: every term is cut off below 2^(E − 25), E being the largest exponent, and the exact sum is cut to
/// 24 significant bits.
fn model(is_f16: bool, a: &[u16], b: &[u16], c: f32) -> f32 {
    let (exponent_bits, fraction_bits) = if is_f16 { (5, 10) } else { (8, 7) };
    let number = |bits: u16| if is_f16 { f16::from_bits(bits).to_f64() } else { bf16::from_bits(bits).to_f64() };
    let term = |(&a, &b): (&u16, &u16)| {
        let (a, b) = (parts(a.into(), exponent_bits, fraction_bits)?, parts(b.into(), exponent_bits, fraction_bits)?);
        Some((a.0 * b.0, a.1 + b.1, 2 * fraction_bits))
    };
    let start = parts(c.to_bits(), 8, 23).map(|(mantissa, exponent)| (mantissa, exponent, 23));
    let terms: Option<Vec<(i128, i32, u32)>> = a.iter().zip(b).map(term).chain([start]).collect();
    let Some(terms) = terms else {
        let real = a.iter().zip(b).fold(f64::from(c), |sum, (&a, &b)| sum + number(a) * number(b));
        return if real.is_nan() { f32::from_bits(0x7FFF_FFFF) } else { real as f32 };
    };
    let largest = terms.iter().map(|term| term.1).max().unwrap();
    let cut = |&(mantissa, exponent, fraction): &(i128, i32, u32)| {
        let kept = (mantissa.abs() << (25 - fraction)) >> (largest - exponent).min(100);
        mantissa.signum() * kept
    };
    truncated(terms.iter().map(cut).sum(), largest - 25)
}

/// value · 2^exponent, cut to an f32.
fn truncated(value: i128, exponent: i32) -> f32 {
    let bits = 128 - value.unsigned_abs().leading_zeros() as i32;
    let lowest = (exponent + bits - 24).max(-149);
    let shift = lowest - exponent;
    let magnitude = if shift <= 0 { value.abs() << -shift } else { value.abs() >> shift.min(127) };
    if magnitude == 0 {
        return 0.0;
    }
    // In two steps, because 2^lowest may be subnormal; both are exact, or infinite.
    let half = lowest / 2;
    let real = magnitude as f64 * 2f64.powi(half) * 2f64.powi(lowest - half);
    (real * value.signum() as f64) as f32
}

/// Elements of a type: all bits, small numbers, zeros.
fn element() -> impl Strategy<Value = u16> {
    prop_oneof![1 => any::<u16>(), 6 => (0u16..9, any::<u16>()).prop_map(|(up, bits)| (bits & 0x83FF) | (11 + up) << 10),
                6 => (0u16..20, any::<u16>()).prop_map(|(up, bits)| (bits & 0x807F) | (117 + up) << 7), 3 => Just(0u16), 1 => Just(0x8000)]
}

fn sum() -> impl Strategy<Value = f32> {
    prop_oneof![1 => any::<u32>().prop_map(f32::from_bits), 4 => -100f32..100.0, 2 => Just(0.0), 1 => Just(-0.0f32)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn products_follow_the_published_model(
        is_f16: bool,
        mut a in prop::collection::vec(element(), 16 * 16),
        mut b in prop::collection::vec(element(), 16 * 16),
        c in prop::collection::vec(sum(), 16 * 16),
        zero_rows in 0usize..16,
        zero_columns in 0usize..16,
    ) {
        // Rows and columns that a copy has filled with zeros.
        a[16 * (16 - zero_rows)..].fill(0);
        b[16 * (16 - zero_columns)..].fill(0);
        let mut found = c.clone();
        product(is_f16, &a, &b, &mut found);
        for (i, &found) in found.iter().enumerate() {
            let (row, column) = (i / 16 * 16, i % 16 * 16);
            let expected = model(is_f16, &a[row..row + 16], &b[column..column + 16], c[i]);
            prop_assert_eq!(found.to_bits(), expected.to_bits(), "sum {}: {} and {}", i, found, expected);
        }
    }
}

const STEPS: usize = 2;
const DEPTH: usize = 16 * STEPS;

/// A matrix [rows][DEPTH] in shared memory: where its elements are, and what describes it.
#[derive(Clone, Copy, Debug)]
struct Layout {
    rows: usize,
    /// Whether the rows, not k, are innermost.
    by_rows: bool,
    /// Bytes of a row in shared memory, 0 without a swizzle.
    swizzle: usize,
}

impl Layout {
    /// Bytes, up to a multiple of the swizzle's pattern.
    fn bytes(&self) -> usize {
        let width = self.swizzle / 2;
        match (self.swizzle, self.by_rows) {
            (0, _) => 2 * self.rows * DEPTH,
            (_, false) => DEPTH.div_ceil(width) * self.rows * self.swizzle,
            (_, true) => self.rows.div_ceil(width) * DEPTH * self.swizzle,
        }
    }

    /// The offset of an element.
    fn offset(&self, row: usize, k: usize) -> usize {
        let width = self.swizzle / 2;
        let linear = match (self.swizzle, self.by_rows) {
            // Blocks of 8×8 elements; k, or the rows, of a block innermost.
            (0, false) => k / 8 * 16 * self.rows + row / 8 * 128 + row % 8 * 16 + k % 8 * 2,
            (0, true) => row / 8 * 16 * DEPTH + k / 8 * 128 + k % 8 * 16 + row % 8 * 2,
            // Panels of as many columns as the swizzle has.
            (swizzle, false) => k / width * self.rows * swizzle + row * swizzle + k % width * 2,
            (swizzle, true) => row / width * DEPTH * swizzle + k * swizzle + row % width * 2,
        };
        let mixed = match self.swizzle {
            0 => 0,
            32 => linear >> 7 & 1,
            64 => linear >> 7 & 3,
            _ => linear >> 7 & 7,
        };
        linear ^ mixed << 4
    }

    /// Start, lead, stride, way to the next 16 steps of k, and the number of the swizzle.
    fn description(&self, start: usize) -> [i32; 5] {
        let number = match self.swizzle {
            0 => 0,
            128 => 1,
            64 => 2,
            _ => 3,
        };
        let [lead, stride, step] = match (self.swizzle, self.by_rows) {
            (0, false) => [16 * self.rows, 128, 32 * self.rows],
            (0, true) => [128, 16 * DEPTH, 256],
            (32, false) => [16, 256, 32 * self.rows],
            (swizzle, false) => [16, 8 * swizzle, 32],
            (swizzle, true) => [DEPTH * swizzle, 8 * swizzle, 16 * swizzle],
        };
        [start as i32, lead as i32, stride as i32, step as i32, number]
    }
}

/// A product of random matrices in these layouts on the emulator, and by the arithmetic.
fn check(is_f16: bool, a: Layout, b: Layout, seed: u64) {
    let element = |&x: &f32| if is_f16 { f16::from_f32(x).to_bits() } else { bf16::from_f32(x).to_bits() };
    let elements = |layout: Layout, seed| values(seed, layout.rows * DEPTH).iter().map(element).collect::<Vec<u16>>();
    let (x, y) = (elements(a, 11), elements(b, 12));
    let start = a.bytes().next_multiple_of(1024);
    let mut image = vec![0xFF; start + b.bytes().next_multiple_of(1024)];
    for (layout, start, elements) in [(a, 0, &x), (b, start, &y)] {
        for (i, element) in elements.iter().enumerate() {
            let at = start + layout.offset(i / DEPTH, i % DEPTH);
            image[at..at + 2].copy_from_slice(&element.to_le_bytes());
        }
    }
    let device = device(seed);
    let memory = upload(&device, &image);
    let out = device.alloc(4 * 64 * b.rows).unwrap();
    let numbers = [vec![image.len() as i32], a.description(0).into(), b.description(start).into(), vec![STEPS as i32]];
    let params = params(&[], &[memory.address(), out.address()], &numbers.concat());
    let kernel = format!(
        "hopper_product_{}_{}_{}{}",
        if is_f16 { "f16" } else { "bf16" },
        b.rows,
        u8::from(a.by_rows),
        u8::from(b.by_rows)
    );
    launch(&device, &kernel, [1, 128, image.len() as u32 + 8], &params).unwrap();
    let mut expected = vec![0.0; 64 * b.rows];
    for step in 0..STEPS {
        let chunk = |elements: &[u16]| {
            let rows = elements.chunks(DEPTH).flat_map(|row| row[16 * step..16 * step + 16].to_vec());
            rows.collect::<Vec<_>>()
        };
        product(is_f16, &chunk(&x), &chunk(&y), &mut expected);
    }
    let found: Vec<f32> = download(&device, &*out);
    let bits = |sums: &[f32]| sums.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>();
    assert!(bits(&found) == bits(&expected), "{kernel}, {a:?}, {b:?}");
}

#[test]
fn products_read_every_layout() {
    let mut seed = 0;
    for (is_f16, columns) in
        [true, false].into_iter().flat_map(|is_f16| [8, 64, 72, 192].map(|columns| (is_f16, columns)))
    {
        for (a_by_rows, b_by_rows) in [(false, false), (false, true), (true, false), (true, true)] {
            for (i, swizzle) in [0, 32, 64, 128].into_iter().enumerate() {
                // Another swizzle for a than for b.
                let a = Layout { rows: 64, by_rows: a_by_rows, swizzle: [32, 64, 128, 0][(i + seed as usize / 4) % 4] };
                let b = Layout { rows: columns, by_rows: b_by_rows, swizzle };
                check(is_f16, a, b, seed % 9);
                seed += 1;
            }
        }
    }
}
