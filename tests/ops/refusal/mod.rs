//! Wrong operands: all backends refuse them with the same words.

/// Norms over channels and over groups.
mod norms;
/// Operations that move values or change each value separately.
mod others;
/// Sums of products.
mod products;

use super::values::parameter;
use osp::Result;
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::cuda::device::Dry;
use osp::cuda::{Cuda, Half};
use osp::profile::{Counted, Recorder};
use osp::tensor::DType;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Calls of an operation. Each has its expected refusal without the operation's name, or an empty text if it is right.
type Answers = Vec<(Result<()>, String)>;

/// The name of an operation, and calls of it.
type Table<B> = (&'static str, fn(&B) -> Answers);

fn tables<B: Backend>() -> Vec<Table<B>> {
    vec![
        ("linear", products::linear),
        ("attention", products::attention),
        ("ada_layer_norm", norms::ada_layer_norm),
        ("layer_norm", norms::layer_norm),
        ("rms_norm", norms::rms_norm),
        ("row_moments", norms::row_moments),
        ("row_statistics", norms::row_statistics),
        ("fold_norm", norms::fold_norm),
        ("fold_enlargement", products::fold_enlargement),
        ("conv3d", products::conv3d),
        ("depthwise_conv", products::depthwise_conv),
        ("group_moments", norms::group_moments),
        ("group_statistics", norms::group_statistics),
        ("group_norm", norms::group_norm),
        ("time_average", others::time_average),
        ("time_double", others::time_double),
        ("regroup_frames", others::regroup_frames),
        ("embedding", others::embedding),
        ("add_rows", others::add_rows),
        ("patch_embed", others::patch_embed),
        ("unpatchify", others::unpatchify),
        ("combine", others::combine),
        ("hold", others::hold),
        ("copy_box", others::copy_box),
        ("blend_box", others::blend_box),
        ("from_bytes", others::from_bytes),
        ("to_bytes", others::to_bytes),
        ("distance", others::distance),
        ("finite", others::finite),
    ]
}

fn check<B: Backend>(backend: &B) {
    for (name, answers) in tables::<B>() {
        let answers = answers(backend);
        assert!(answers.iter().any(|(said, _)| said.is_ok()), "{name}: no call of the table is right");
        for (said, expected) in answers {
            let expected = if expected.is_empty() { expected } else { format!("{name}: {expected}") };
            let said = said.err().map_or(String::new(), |error| error.to_string());
            assert_eq!(said, expected, "{}", backend.name());
        }
    }
}

#[test]
fn every_backend_refuses_wrong_operands_in_the_same_words() {
    check(&Cpu::new());
    check(&Cuda::new(Arc::new(Dry::new()), Half::F16));
    check(&Counted::new(Cpu::new(), Recorder::default(), 4));
}

#[test]
fn every_operation_has_a_table_of_wrong_operands() {
    let bodies = include_str!("../../../src/backend.rs").split("    fn run_").skip(1);
    let operations: BTreeSet<_> = bodies.map(|body| body.split('(').next().unwrap()).collect();
    assert_eq!(tables::<Cpu>().into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>(), operations);
}

fn buffer<B: Backend>(on: &B, len: usize) -> B::Buffer {
    on.alloc(len).unwrap()
}

fn single<B: Backend>(on: &B, len: usize) -> B::Buffer {
    on.alloc_f32(len).unwrap()
}

fn weight<B: Backend>(on: &B, shape: &[usize]) -> B::Weight {
    on.weight(vec![parameter(1, shape, DType::F32).0]).unwrap()
}

/// The refusal of an argument of `found` elements that must have `expected`.
fn len(argument: &str, found: usize, expected: usize) -> String {
    format!("{argument} has {found} elements, expected {expected} elements")
}

/// The refusal of an argument of `found` elements that must have at least `needed`.
fn short(argument: &str, found: usize, needed: usize) -> String {
    format!("{argument} has {found} elements, expected at least {needed} elements")
}

fn groups(argument: &str, groups: usize, channels: usize) -> String {
    format!("{argument} has ({groups}, {channels}), expected a divisor of the channels")
}

fn shape(argument: &str, found: &[usize], expected: &[usize]) -> String {
    format!("{argument} has shape {found:?}, expected shape {expected:?}")
}
