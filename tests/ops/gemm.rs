//! `linear` against y = f(x·Wᵀ + b) in f64.

use super::values::{assert_close, on_one_and_three_threads, parameter, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::gemm::{Activation, Linear, LinearArgs, LinearPart, Store};
use osp::tensor::{DType, Tensor};
use proptest::prelude::*;

/// A call with its arguments.
#[derive(Clone, Debug)]
struct Case {
    op: Linear,
    bias: bool,
    dtype: DType,
    /// The weight consists of this many stacked tensors.
    parts: usize,
}

const GATE: Store = Store::AddGated { rows_per_gate: 2, gate_stride: 500, gate_offset: 7 };

fn cases() -> impl Strategy<Value = Case> {
    let rows = prop_oneof![1..9usize, 9..70usize, Just(300)];
    let inner = prop_oneof![1..70usize, Just(256), Just(600)];
    let outer = prop_oneof![1..100usize, Just(256), Just(300)];
    let activation =
        prop::sample::select(vec![Activation::None, Activation::Silu, Activation::GeluTanh, Activation::GatedGeluTanh]);
    let store = prop::sample::select(vec![Store::Overwrite, Store::Add, GATE]);
    let dtype = prop::sample::select(vec![DType::F32, DType::Bf16, DType::F16]);
    (rows, inner, outer, activation, store, any::<bool>(), dtype, 1..4usize).prop_map(
        |(rows, inner, outer, activation, store, bias, dtype, parts)| {
            let rows = if store == GATE { rows.next_multiple_of(2) } else { rows };
            let op = Linear::new(rows, inner, outer).activation(activation).store(store);
            Case { op, bias, dtype, parts }
        },
    )
}

/// Runs a case; returns the backend's result and the formula's.
fn run(Case { op, bias, dtype, parts }: &Case) -> (Vec<f32>, Vec<f64>) {
    let (cpu, n) = (Cpu::new(), op.weight_rows());
    let x = values(1, op.rows * op.in_features);
    let (tensors, weight) = stacked(n, op.in_features, *parts, *dtype);
    let bias = bias.then(|| parameter(3, &[n], *dtype));
    let gate =
        matches!(op.store, Store::AddGated { .. }).then(|| values(4, (op.rows / 2 - 1) * 500 + 7 + op.out_features));
    let before = values(5, op.rows * op.out_features);

    let upload = |values: &[f32]| cpu.upload(values).unwrap();
    let mut out = match op.store {
        Store::Overwrite => cpu.alloc(before.len()).unwrap(),
        Store::Add | Store::AddGated { .. } => upload(&before),
    };
    let device_bias = bias.as_ref().map(|(tensor, _)| cpu.weight(vec![tensor.clone()]).unwrap());
    let (device_x, device_gate) = (upload(&x), gate.as_deref().map(upload));
    let weights = cpu.weight(tensors).unwrap();
    let args = LinearArgs::new(&device_x, &weights, &mut out);
    cpu.linear(op, LinearArgs { bias: device_bias.as_ref(), gate: device_gate.as_ref(), ..args }).unwrap();
    let mut found = vec![0.0; before.len()];
    cpu.download(&out, 0, &mut found).unwrap();

    let bias = bias.map_or_else(|| vec![0.0; n], |(_, values)| values);
    let expected = formula(op, &x, &weight, &bias, gate.as_deref().unwrap_or_default(), &before);
    (found, expected)
}

/// A weight of `n` rows, divided into about `parts` tensors, and its values.
fn stacked(n: usize, inner: usize, parts: usize, dtype: DType) -> (Vec<Tensor>, Vec<f32>) {
    let (mut tensors, mut all) = (Vec::new(), Vec::new());
    let step = n.div_ceil(parts);
    for start in (0..n).step_by(step) {
        let (tensor, values) = parameter(10 + start as u64, &[step.min(n - start), inner], dtype);
        tensors.push(tensor);
        all.extend(values);
    }
    (tensors, all)
}

fn formula(op: &Linear, x: &[f32], weight: &[f32], bias: &[f32], gate: &[f32], before: &[f32]) -> Vec<f64> {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let gelu = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
    let product = |row: usize, n: usize| {
        let pairs = x[row * op.in_features..].iter().zip(&weight[n * op.in_features..]).take(op.in_features);
        pairs.map(|(&x, &w)| f64::from(x) * f64::from(w)).sum::<f64>() + f64::from(bias[n])
    };
    let element = |i: usize| {
        let (row, n) = (i / op.out_features, i % op.out_features);
        let y = product(row, n);
        let y = match op.activation {
            Activation::None => y,
            Activation::Silu => y * sigmoid(y),
            Activation::GeluTanh => gelu(y),
            Activation::GatedGeluTanh => gelu(y) * product(row, op.out_features + n),
        };
        match op.store {
            Store::Overwrite => y,
            Store::Add => f64::from(before[i]) + y,
            Store::AddGated { rows_per_gate, gate_stride, gate_offset } => {
                let gate = gate[row / rows_per_gate * gate_stride + gate_offset + n];
                f64::from(before[i]) + f64::from(gate) * y
            }
        }
    };
    (0..op.rows * op.out_features).map(element).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn linear_is_the_formula(case in cases()) {
        let (found, expected) = run(&case);
        assert_close(&found, &expected, 1e-5);
    }
}

#[test]
fn linear_covers_blocks_and_tails_of_a_large_product() {
    let gated = Linear::new(260, 1100, 600).activation(Activation::GatedGeluTanh);
    // Rows that are a power of two apart are copied first; a weight of this size is packed in two pieces.
    for op in [gated, Linear::new(20, 2048, 2200)] {
        let (found, expected) = run(&Case { op, bias: true, dtype: DType::Bf16, parts: 1 });
        assert_close(&found, &expected, 1e-5);
    }
}

#[test]
fn linear_does_not_depend_on_the_number_of_threads() {
    for rows in [1, 5, 200] {
        let op = Linear::new(rows, 700, 330).store(Store::Add);
        on_one_and_three_threads(|| run(&Case { op, bias: true, dtype: DType::F32, parts: 1 }).0);
    }
}

#[test]
fn linear_without_rows_does_nothing() {
    let (found, _) = run(&Case { op: Linear::new(0, 3, 4), bias: false, dtype: DType::F32, parts: 1 });
    assert!(found.is_empty());
}

/// A part: writes rows from `x` on of a product to rows from `out` on, with the weight's rows from `weight` on.
fn in_place(op: Linear, whole: usize, [x, out, weight]: [usize; 3]) -> Linear {
    op.part(LinearPart { whole_rows: whole, x_row: x, out_row: out, weight_row: weight })
}

#[test]
fn parts_have_the_bits_of_the_whole() {
    let cpu = Cpu::new();
    let host = |buffer: &osp::cpu::Buffer| buffer.to_vec();
    // Numbers of rows for each algorithm of the CPU. Small parts must use the algorithm of the whole.
    for [rows, inner, outer] in [[6, 40, 30], [20, 800, 70], [700, 64, 40]] {
        let x = cpu.upload(&values(1, rows * inner)).unwrap();
        let (tensors, _) = stacked(outer, inner, 2, DType::Bf16);
        let weight = cpu.weight(tensors).unwrap();
        let bias = cpu.weight(vec![parameter(3, &[outer], DType::F32).0]).unwrap();
        let gate = cpu.upload(&values(4, 2 * outer)).unwrap();
        let before = values(5, rows * outer);
        let store = Store::AddGated { rows_per_gate: rows / 2, gate_stride: outer, gate_offset: 0 };
        let op = Linear::new(rows, inner, outer).store(store);
        let mut whole = cpu.upload(&before).unwrap();
        let (bias, gate) = (Some(&bias), Some(&gate));
        cpu.linear(&op, LinearArgs { bias, gate, ..LinearArgs::new(&x, &weight, &mut whole) }).unwrap();

        let mut parts = cpu.upload(&before).unwrap();
        for part in [0..1, 1..rows / 2 + 2, rows / 2 + 2..rows] {
            let op = in_place(Linear { rows: part.len(), ..op }, rows, [part.start, part.start, 0]);
            cpu.linear(&op, LinearArgs { bias, gate, ..LinearArgs::new(&x, &weight, &mut parts) }).unwrap();
        }
        assert!(host(&parts) == host(&whole), "rows of {rows}×{inner}×{outer}");

        let op = Linear::new(rows, inner, outer);
        cpu.linear(&op, LinearArgs { bias, ..LinearArgs::new(&x, &weight, &mut whole) }).unwrap();
        let first = outer / 3;
        let columns = in_place(Linear::new(rows, inner, outer - first), rows, [0, 1, first]);
        let mut some = cpu.alloc((rows + 1) * (outer - first)).unwrap();
        cpu.linear(&columns, LinearArgs { bias, ..LinearArgs::new(&x, &weight, &mut some) }).unwrap();
        let expected: Vec<f32> = host(&whole).chunks_exact(outer).flat_map(|row| row[first..].to_vec()).collect();
        assert!(host(&some)[outer - first..] == expected, "columns of {rows}×{inner}×{outer}");
    }
}
