//! The cache of text embeddings.

use super::{CACHE, golden, model_argument, osp};
use serde_json::Value;
use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

/// Runs a small `osp sample --json`; returns its record and its stderr.
fn sample(folder: &Path, model: &str, more: &[&str]) -> (Value, String) {
    let args = ["sample", "a cat", "--model", model, "--frames", "1", "--sampler", "DDIM", "--steps", "1"];
    let args = [&args[..], &["-o", "a.png", "--json"], more].concat();
    let output = osp(folder).args(args).assert().success().get_output().clone();
    (serde_json::from_slice(&output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder.join(CACHE).join("osp/text")).map_or(0, Iterator::count)
}

#[test]
fn a_caption_is_encoded_once_and_the_image_stays_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let (record, said) = sample(folder.path(), &model_argument(), more);
        let encoded = said.lines().any(|line| line.contains("osp: text: "));
        assert_eq!(record["text_cached"], !encoded, "{said}");
        (encoded, fs::read(folder.path().join("a.png")).unwrap())
    };
    let (encoded, first) = run(&[]);
    // The caption and the negative prompt.
    assert!(encoded && files(folder.path()) == 2);
    assert!(run(&[]) == (false, first.clone()));
    assert!(run(&["--no-cache"]) == (true, first));
    assert!(run(&["--negative-prompt", "a dog"]).0 && !run(&["--negative-prompt", "a dog", "--guidance", "3"]).0);
    assert_eq!(files(folder.path()), 3);
}

#[test]
fn without_the_cache_nothing_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(sample(folder.path(), &model_argument(), &["--no-cache"]).0["text_cached"], false);
    assert!(!folder.path().join(CACHE).exists());
}

#[test]
fn other_weights_have_other_embeddings_even_if_only_the_files_time_differs() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["vae", "transformer", "text_encoder"] {
        let to = folder.path().join("model").join(part);
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(golden("pipeline").join(part)).unwrap() {
            let from = entry.unwrap().path();
            if from.is_file() {
                fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
            }
        }
    }
    let cached = || sample(folder.path(), "model", &[]).0["text_cached"].clone();
    assert!(cached() == false && cached() == true);
    let weights = folder.path().join("model/text_encoder/model.safetensors");
    let mut permissions = fs::metadata(&weights).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a temporary copy of our own")]
    permissions.set_readonly(false);
    fs::set_permissions(&weights, permissions).unwrap();
    File::options().append(true).open(weights).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(cached() == false && cached() == true);
}

#[test]
fn a_cache_that_is_not_writable_gives_one_warning() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(CACHE), "a file").unwrap();
    let (record, said) = sample(folder.path(), &model_argument(), &[]);
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("warning: ")).collect();
    assert!(matches!(warnings[..], [line] if line.contains("cached") && line.contains("osp/text")), "{said}");
    assert_eq!(record["text_cached"], false);
    let (_, said) = sample(folder.path(), &model_argument(), &["--quiet"]);
    assert_eq!(said, "");
}
