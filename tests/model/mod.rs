//! Properties of whole models that no single golden case shows.

mod ahead;
mod devices;
mod savings;
mod threads;
mod windows;

use osp::checkpoint::{Component, ComponentConfig, WeightSource};
use std::path::Path;

/// The component in a golden folder.
fn component<C: ComponentConfig>(name: &str) -> Component<C> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    Component::open(&folder, WeightSource::Files).unwrap()
}

/// Pseudo-random values in [−1, 1).
fn values(len: usize) -> Vec<f32> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}
