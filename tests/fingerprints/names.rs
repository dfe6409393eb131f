//! The layers of a model's parameters, which a backend receives without names.

use osp::tensor::Tensor;
use osp::weights::Source;
use osp::weights::synthetic::splitmix64;
use std::collections::HashMap;

/// Finds a parameter's layer by its values.
pub struct Names(HashMap<u64, String>);

impl Names {
    /// The names in a checkpoint. Of tensors with equal values, the first counts.
    pub fn of(source: &dyn Source) -> Self {
        let mut names = HashMap::new();
        for entry in source.entries() {
            let tensor = source.tensor(&entry.name).unwrap().expect("an entry of the source");
            names.entry(key(&tensor)).or_insert_with(|| layer(&entry.name));
        }
        Self(names)
    }

    /// The layer of a parameter.
    pub fn layer(&self, tensor: &Tensor) -> String {
        self.0.get(&key(tensor)).expect("a tensor of the checkpoint").clone()
    }
}

/// The number of values and a sum over their bits: the device's layout has the values in another order.
fn key(tensor: &Tensor) -> u64 {
    let values = tensor.to_f32();
    let sum = |sum: u64, value: &f32| sum.wrapping_add(splitmix64(u64::from(value.to_bits()), 0));
    values.iter().fold(values.len() as u64, sum)
}

/// The layer of a tensor, such as `transformer_blocks.1.attn2` of `transformer_blocks.1.attn2.to_out.0.weight`.
fn layer(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    // The layers of T5 and of the VAE lie two levels deeper than those of the transformer.
    let most = if ["encoder", "decoder"].contains(&parts[0]) { 5 } else { 3 };
    parts[..most.min(parts.len() - 1).max(1)].join(".")
}
