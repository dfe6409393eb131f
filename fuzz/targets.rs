//! Parsers of bytes that come from strangers. A fuzzer feeds them; a test gives them all of `corpus/` again.
//!
//! Whatever the bytes are, a parser must return: no panic, no endless loop, no memory beyond a small multiple of the bytes. An error is one
//! line without control characters.

use super::{hub, list};
use osp::checkpoint::{Component, ComponentConfig, Need, Opening, WeightSource};
use osp::engine::SavedSettings;
use osp::model::latte::LatteConfig;
use osp::model::t5::T5Config;
use osp::model::vae::VaeConfig;
use osp::state::{State, is_state};
use osp::text::caption;
use osp::text::tokenizer::Tokenizer;
use osp::video::{ReadOptions, Reader, description};
use osp::weights::{Files, Source};
use osp::{Latent, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A parser.
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Parses the bytes. The folder is for files of this parser alone.
    pub run: fn(&[u8], &Path),
}

/// All parsers.
pub const TARGETS: [Target; 21] = [
    Target { name: "safetensors", run: |bytes, folder| weights(&file(folder, "model.safetensors", bytes)) },
    Target { name: "pickle", run: |bytes, folder| weights(&file(folder, "model.ckpt", bytes)) },
    Target { name: "index", run: index },
    Target { name: "config-t5", run: config::<T5Config> },
    Target { name: "config-latte", run: config::<LatteConfig> },
    Target { name: "config-vae", run: config::<VaeConfig> },
    Target { name: "sampling", run: |bytes, folder| model("sampling.json", bytes, folder) },
    Target { name: "calibration", run: |bytes, folder| model("transformer/calibration.json", bytes, folder) },
    Target { name: "preview", run: |bytes, folder| model("vae/preview.json", bytes, folder) },
    Target { name: "hub", run: |bytes, _| files_of_hub(bytes) },
    Target { name: "spiece", run: |bytes, folder| tokenizer(&file(folder, "spiece.model", bytes)) },
    Target { name: "tokenizer", run: |bytes, folder| tokenizer(&file(folder, "tokenizer.json", bytes)) },
    Target { name: "mp4", run: video },
    Target { name: "y4m", run: video },
    Target { name: "images", run: video },
    Target { name: "h264", run: h264 },
    Target { name: "state", run: state },
    Target { name: "made", run: |bytes, _| made(bytes) },
    Target { name: "latent", run: |bytes, folder| one_line(Latent::read(&file(folder, "a.safetensors", bytes))) },
    Target { name: "list", run: videos },
    Target { name: "caption", run: |bytes, _| drop(caption::clean(&String::from_utf8_lossy(bytes))) },
];

/// Writes the bytes to a file.
fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("the folder takes files");
    path
}

/// Checks that an error is one line, and controls no terminal.
fn one_line<T>(result: Result<T>) {
    if let Err(error) = result {
        let said = error.to_string();
        assert!(!said.contains(char::is_control), "an error that is not one line: {said:?}");
    }
}

/// Opens a checkpoint, and reads its first tensors.
fn weights(path: &Path) {
    one_line(Files::open(path).and_then(|files| {
        let names: Vec<String> = files.entries().into_iter().take(8).map(|entry| entry.name).collect();
        names.iter().try_for_each(|name| files.tensor(name).map(drop))
    }));
}

/// An index of shards, one of which is there.
fn index(bytes: &[u8], folder: &Path) {
    let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let shard = [&(header.len() as u64).to_le_bytes(), &header[..], &[0; 4]].concat();
    file(folder, "shard.safetensors", &shard);
    one_line(Files::open(&file(folder, "model.safetensors.index.json", bytes)));
}

/// A component without weights.
fn config<C: ComponentConfig>(bytes: &[u8], folder: &Path) {
    file(folder, "config.json", bytes);
    one_line(Component::<C>::open(folder, WeightSource::Shapes));
}

/// A model without weights, one of whose files has these bytes.
fn model(name: &str, bytes: &[u8], folder: &Path) {
    const CONFIGS: [(&str, &[u8]); 3] = [
        ("text_encoder", include_bytes!("../tests/golden/pipeline/text_encoder/config.json")),
        ("transformer", include_bytes!("../tests/golden/pipeline/transformer/config.json")),
        ("vae", include_bytes!("../tests/golden/pipeline/vae/config.json")),
    ];
    for (part, config) in CONFIGS {
        fs::create_dir_all(folder.join(part)).expect("the folder takes folders");
        file(&folder.join(part), "config.json", config);
    }
    file(folder, name, bytes);
    let opening = Opening { weights: WeightSource::Shapes, need: Need::Models, ..Opening::default() };
    one_line(opening.open(folder).and_then(|model| {
        model.defaults.calibration.known()?;
        model.need_vae()?.projection().map(drop)
    }));
}

/// What a hub says of a model's files.
fn files_of_hub(bytes: &[u8]) {
    let files = hub::Model::of(bytes).and_then(|model| model.wanted(&[]));
    let leads_out = |path: &str| path.starts_with('/') || path.split('/').any(|part| part == "..");
    assert!(!files.into_iter().flatten().any(|file| leads_out(&file.path)));
}

/// What a video says of how it was made.
fn made(bytes: &[u8]) {
    drop(serde_json::from_slice::<SavedSettings>(bytes).ok().and_then(SavedSettings::settings));
}

/// The tokenizer of the folder of `path`.
fn tokenizer(path: &Path) {
    let folder = path.parent().expect("the file lies in a folder");
    one_line(Tokenizer::open(folder).and_then(|tokenizer| tokenizer.encode_padded("a Red circle, ½ ﬁ", 16)));
}

/// Some frames of a video or an image, and what it says about itself.
fn video(bytes: &[u8], folder: &Path) {
    let path = file(folder, "clip", bytes);
    one_line(description(&path));
    let options = ReadOptions { start: 1, max_frames: Some(4), ffmpeg: false };
    one_line(Reader::open(&path, &options).and_then(|mut reader| {
        assert!(reader.info().frame_bytes() > 0, "frames without pixels");
        reader.try_for_each(|frame| frame.map(drop))
    }));
}

/// A whole MP4 whose H.264 headers, from the first on, are these bytes.
fn h264(bytes: &[u8], folder: &Path) {
    const WHOLE: &[u8] = include_bytes!("../tests/video/files/full_range_bt601.mp4");
    let mut file = WHOLE.to_vec();
    let headers = file.windows(4).position(|name| name == b"avcC").expect("it has headers") + 12;
    let end = file.len().min(headers + bytes.len());
    file[headers..end].copy_from_slice(&bytes[..end - headers]);
    video(&file, folder);
}

/// A list of videos, in both forms.
fn videos(bytes: &[u8], folder: &Path) {
    for name in ["list.jsonl", "list.txt"] {
        one_line(list::read(&file(folder, name, bytes)));
    }
}

fn state(bytes: &[u8], folder: &Path) {
    let path = file(folder, "a.state", bytes);
    is_state(&path);
    one_line(State::read(&path));
}
