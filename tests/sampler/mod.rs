//! Golden data of PyTorch and diffusers: the JSON and the tensors of cases.

mod edits;
mod noise;
mod partial;
mod resumed;
mod schedules;
mod trajectories;

use osp::weights::{Files, Source};
use serde_json::Value;
use std::path::Path;

/// A folder of golden cases.
struct Golden {
    json: Value,
    tensors: Files,
}

impl Golden {
    fn open(folder: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
        let json = std::fs::read_to_string(folder.join("cases.json")).unwrap();
        let tensors = Files::open(&folder.join("cases.safetensors")).unwrap();
        Self { json: serde_json::from_str(&json).unwrap(), tensors }
    }

    /// The values of a tensor.
    fn tensor(&self, name: &str) -> Vec<f32> {
        self.tensors.tensor(name).unwrap().unwrap_or_else(|| panic!("the golden data has no {name}")).to_f32()
    }
}
