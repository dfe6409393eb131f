//! Damages every file that a command reads in every way: the command never succeeds, and always names the file.

use super::strange::put_all;
use super::weights::copy_of_the_model;
use super::{golden, osp};
use safetensors::{Dtype, SafeTensors};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Ways to damage a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    /// The second half is missing.
    Cut,
    /// The file is empty.
    Empty,
    /// The first byte is changed.
    Flip,
    /// The file is missing.
    Delete,
    /// The file is a link to nothing, as after an interrupted download into a cache.
    Dangle,
    /// All values of the first tensor are NaN.
    NotANumber,
    /// The file is a pipe that nobody writes to.
    Pipe,
    /// The file is a link to a device without an end.
    Endless,
}

use Damage::{Cut, Dangle, Delete, Empty, Endless, Flip, NotANumber, Pipe};

const ALL: [Damage; 6] = [Cut, Empty, Flip, Delete, Dangle, NotANumber];

/// What an archive can hold in place of a file. To open it would wait for ever, or never end.
const NO_FILES: [Damage; 2] = [Pipe, Endless];

impl Damage {
    /// Damages `file`; false if it cannot be damaged in this way.
    fn inflict(self, file: &Path) -> bool {
        let mut bytes = fs::read(file).unwrap();
        match self {
            Cut => bytes.truncate(bytes.len() / 2),
            Empty => bytes.clear(),
            // A text is no longer UTF-8; in other files a length or a field changes.
            Flip => bytes[0] ^= 0x80,
            Delete | Dangle | Pipe | Endless => fs::remove_file(file).unwrap(),
            NotANumber => return not_a_number(file),
        }
        match self {
            Delete => {}
            Dangle => symlink("nothing", file).unwrap(),
            Pipe => assert!(Command::new("mkfifo").arg(file).status().unwrap().success()),
            Endless => symlink("/dev/zero", file).unwrap(),
            _ => fs::write(file, bytes).unwrap(),
        }
        true
    }
}

/// Sets all values of the first tensor of floats to NaN.
fn not_a_number(file: &Path) -> bool {
    if file.extension().is_none_or(|ending| ending != "safetensors") {
        return false;
    }
    let bytes = fs::read(file).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let floats = |dtype| matches!(dtype, Dtype::F32 | Dtype::BF16);
    let mut tensors: Vec<_> = metadata.tensors().into_iter().filter(|(_, info)| floats(info.dtype)).collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets.0);
    let (name, info) = tensors.first().expect("there are floats");
    put_all(file, name, 0..info.shape.iter().product(), f32::NAN);
    true
}

/// Files with damage that does not have to be detected.
type Harmless<'a> = &'a [(&'a str, Damage)];

/// Runs `args` in a copy of `folder` for each of `files` and each damage, except those in `harmless`. Every run must
/// fail with a line that has the names of the file and of its folder; for captions, only of the folder.
fn never_succeeds(folder: &Path, args: &[&str], files: &[&str], harmless: Harmless<'_>) {
    never_succeeds_with(&ALL, folder, args, files, harmless);
}

/// As [`never_succeeds`], for these kinds of damage.
fn never_succeeds_with(damages: &[Damage], folder: &Path, args: &[&str], files: &[&str], harmless: Harmless<'_>) {
    for file in files {
        for damage in damages.iter().copied().filter(|damage| !harmless.contains(&(file, *damage))) {
            let place = tempfile::tempdir().unwrap();
            copy(folder, &place.path().join("it"));
            if !damage.inflict(&place.path().join("it").join(file)) {
                continue;
            }
            let output = osp(place.path()).args(args).timeout(Duration::from_secs(100)).output().unwrap();
            let said =
                [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
            let code = output.status.code();
            assert!(matches!(code, Some(1 | 2 | 5)), "{args:?} with {file} {damage:?}: {code:?}, {said}");
            let words: Vec<&str> = file.split('/').filter(|word| *word != "captions.json").collect();
            let named = said.lines().any(|line| words.iter().all(|word| line.contains(word)));
            assert!(named, "{args:?} with {file} {damage:?}: {said}");
            let left: Vec<PathBuf> = super::paths(place.path()).filter(|path| !path.ends_with("it")).collect();
            assert!(left.is_empty(), "{args:?} with {file} {damage:?} left {left:?}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(drop).unwrap() }
    }
}

const MODEL: [&str; 9] = [
    "sampling.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/spiece.model",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vae/preview.json",
];

/// The makers' recommended settings and the colours of previews are optional.
const OPTIONAL: [(&str, Damage); 2] = [("sampling.json", Delete), ("vae/preview.json", Delete)];

/// A model with one tokenizer, the settings that its makers recommend, and the colours of its previews.
fn model() -> tempfile::TempDir {
    let model = copy_of_the_model();
    for name in ["tokenizer.json", "tokens.json", "cases.json"] {
        fs::remove_file(model.path().join("text_encoder").join(name)).unwrap();
    }
    fs::write(model.path().join("sampling.json"), r#"{"sampler": "DDIM", "steps": 1}"#).unwrap();
    let colours = r#"{"weights": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], "bias": [0.5, 0.5, 0.5]}"#;
    fs::write(model.path().join("vae/preview.json"), colours).unwrap();
    model
}

#[test]
fn a_damaged_model_is_never_sampled() {
    let args = ["sample", "a cat", "--model", "it", "-o", "o.png", "--frames", "1", "--size", "16x16"];
    let (files, of_previews) = MODEL.split_at(8);
    never_succeeds(model().path(), &args, files, &OPTIONAL);
    // The colours of previews are read only if there are previews.
    never_succeeds(model().path(), &[&args[..], &["--preview", "p.png"]].concat(), of_previews, &OPTIONAL);
}

#[test]
fn info_never_accepts_a_damaged_model() {
    never_succeeds(model().path(), &["info", "it", "--values"], &MODEL, &OPTIONAL);
}

#[test]
fn a_damaged_model_is_never_converted() {
    // Weights without a tokenizer can be converted.
    let harmless = [&OPTIONAL[..], &[("text_encoder/spiece.model", Delete)]].concat();
    never_succeeds(model().path(), &["convert", "it", "-o", "out"], &MODEL, &harmless);
}

#[test]
fn damaged_golden_data_never_passes() {
    let table = ["cases.json", "cases.safetensors"];
    let transformer = ["cases.json", "cases.safetensors", "config.json", "synthetic.json"];
    let manifests = ["t5_v1_1_xxl.json", "vae_v1.1.0.json"];
    let encoder =
        ["cases.json", "cases.safetensors", "config.json", "model.safetensors", "spiece.model", "tokens.json"];
    // A missing manifest, or missing token ids, are not damage; weights and tokenizer exist in a second format.
    let fewer = manifests.map(|name| (name, Delete));
    let other = [("tokens.json", Delete), ("spiece.model", Delete), ("model.safetensors", Delete)];
    let folders: [(&str, &[&str], Harmless<'_>); 6] = [
        ("captions", &["captions.json"], &[]),
        ("noise", &table, &[]),
        ("samplers", &table, &[]),
        ("latte_d64", &transformer, &[]),
        ("manifests", &manifests, &fewer),
        ("pipeline/text_encoder", &encoder, &other),
    ];
    for (name, files, harmless) in folders {
        let folder = tempfile::tempdir().unwrap();
        let (above, inside) = (folder.path().join("root"), Path::new(name).file_name().unwrap());
        fs::create_dir(&above).unwrap();
        copy(&golden(name), &above.join(inside));
        // Another folder, which is not damaged.
        copy(&golden("captions"), &above.join("other"));
        let files: Vec<String> = files.iter().map(|file| format!("{}/{file}", inside.to_str().unwrap())).collect();
        let harmless: Vec<(String, Damage)> =
            harmless.iter().map(|(file, damage)| (format!("{}/{file}", inside.to_str().unwrap()), *damage)).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let harmless: Vec<(&str, Damage)> = harmless.iter().map(|(file, damage)| (file.as_str(), *damage)).collect();
        never_succeeds(&above, &["verify", "it"], &files, &harmless);
    }
}

#[test]
fn pipes_and_devices_in_place_of_files_are_refused_at_once() {
    let model = model();
    let configs = ["text_encoder/config.json", "transformer/config.json", "vae/config.json", "vae/preview.json"];
    let files = [&configs[..], &["sampling.json", "vae/diffusion_pytorch_model.safetensors"]].concat();
    let sample = ["sample", "a cat", "--model", "it", "-o", "o.png", "--frames", "1", "--size", "16x16"];
    let previewed = [&sample[..], &["--preview", "p.png"]].concat();
    for args in [&["info", "it"][..], &["convert", "it", "-o", "out"], &previewed] {
        never_succeeds_with(&NO_FILES, model.path(), args, &files, &[]);
    }
    never_succeeds_with(&NO_FILES, model.path(), &sample, &["text_encoder/spiece.model"], &[]);
    let golden_folders: [(&str, &[&str]); 4] = [
        ("captions", &["captions.json"]),
        ("noise", &["cases.json", "cases.safetensors"]),
        ("latte_d64", &["cases.json", "config.json", "synthetic.json"]),
        ("pipeline/text_encoder", &["cases.json", "tokens.json"]),
    ];
    for (name, files) in golden_folders {
        never_succeeds_with(&NO_FILES, &golden(name), &["verify", "it"], files, &[]);
    }
}
