//! Models with one fault.

use super::{contents, fails, model, osp, succeeds};
use serde_json::Value;
use std::fs;
use std::path::Path;

const VAE: &str = "vae/diffusion_pytorch_model.safetensors";
const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";

/// A copy of the tiny model, without the files that the program does not read.
pub fn copy_of_the_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["vae", "transformer", "text_encoder"] {
        fs::create_dir(folder.path().join(part)).unwrap();
        for entry in fs::read_dir(model().join(part)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap();
            if ["json", "safetensors", "model"]
                .iter()
                .any(|ending| path.extension().is_some_and(|found| found == *ending))
            {
                fs::copy(&path, folder.path().join(part).join(name)).unwrap();
            }
        }
    }
    let _ = fs::remove_file(folder.path().join("text_encoder/cases.safetensors"));
    folder
}

/// Makes one fault in a model.
type Break = fn(&Path);

fn remove(file: &Path) {
    if file.is_dir() { fs::remove_dir_all(file).unwrap() } else { fs::remove_file(file).unwrap() }
}

fn set(file: &Path, key: &str, value: Value) {
    let mut config: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    config[key] = value;
    fs::write(file, config.to_string()).unwrap();
}

/// Sets the size of the training videos, in latents.
fn set_trained(model: &Path, frames: usize, side: usize) {
    let config = model.join("transformer/config.json");
    set(&config, "video_length", frames.into());
    set(&config, "sample_size", [side, side].as_slice().into());
}

fn cut(file: &Path) {
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() - 1000]).unwrap();
}

/// Replaces `from` by `to`, of the same length, in a safetensors header.
fn edit_header(file: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect("the header has it");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    fs::write(file, bytes).unwrap();
}

/// Sets the length that the header claims.
fn set_header_length(file: &Path, length: u64) {
    let mut bytes = fs::read(file).unwrap();
    bytes[..8].copy_from_slice(&length.to_le_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn each_fault_of_a_model_is_one_line_that_names_it() {
    let cases: [(Break, &[&str]); 41] = [
        (|model| remove(model), &["no such folder"]),
        (|model| remove(&model.join("vae")), &["vae", "missing"]),
        (|model| remove(&model.join("transformer")), &["no transformer"]),
        (|model| remove(&model.join("text_encoder")), &["text_encoder", "missing"]),
        (
            |model| fs::write(model.join("vae/config.json"), "{\"_class_name\": ").unwrap(),
            &["vae/config.json", "line 1"],
        ),
        (|model| fs::write(model.join("text_encoder/config.json"), "").unwrap(), &["text_encoder/config.json"]),
        (|model| remove(&model.join("vae/config.json")), &["vae/config.json", "missing"]),
        (
            |model| fs::write(model.join("transformer/config.json"), "[1, 2").unwrap(),
            &["transformer/config.json", "line 1"],
        ),
        (|model| set(&model.join("vae/config.json"), "encoder_attention", "SparseAttn".into()), &["SparseAttn"]),
        (|model| set(&model.join("transformer/config.json"), "norm_type", "layer_norm".into()), &["norm_type"]),
        (
            |model| set(&model.join("transformer/config.json"), "num_layers", 3.into()),
            &["transformer_blocks.2", "missing"],
        ),
        (|model| set(&model.join("vae/config.json"), "hidden_size", 64.into()), &["[64", "more problems"]),
        (|model| remove(&model.join(VAE)), &["vae", "no weights"]),
        (|model| fs::write(model.join(VAE), "").unwrap(), &[VAE, "0 bytes"]),
        (|model| fs::write(model.join(VAE), "not a safetensors file at all").unwrap(), &[VAE]),
        (|model| cut(&model.join(TRANSFORMER)), &[TRANSFORMER]),
        (|model| set_header_length(&model.join(TRANSFORMER), 1 << 40), &[TRANSFORMER]),
        (|model| edit_header(&model.join(VAE), "decoder.conv_in", "decoder.conv_on"), &["decoder.conv_"]),
        (
            |model| {
                remove(&model.join("text_encoder/tokenizer.json"));
                remove(&model.join("text_encoder/spiece.model"));
            },
            &["text_encoder", "tokenizer"],
        ),
        (|model| fs::write(model.join("text_encoder/spiece.model"), "spiece").unwrap(), &["spiece.model", "tokenizer"]),
        (
            |model| set(&model.join("text_encoder/config.json"), "vocab_size", 300.into()),
            &["shared.weight", "[300, 64]"],
        ),
        (|model| set(&model.join("transformer/config.json"), "model_max_length", 0.into()), &["model_max_length is 0"]),
        (|model| set(&model.join("transformer/config.json"), "num_layers", 0.into()), &["num_layers is 0"]),
        (|model| set(&model.join("transformer/config.json"), "video_length", 0.into()), &["video_length is 0"]),
        (
            |model| set(&model.join("transformer/config.json"), "num_layers", 1_000_000_000.into()),
            &["num_layers is 1000000000", "1 to 1000"],
        ),
        (
            |model| set(&model.join("transformer/config.json"), "num_attention_heads", u64::MAX.into()),
            &["num_attention_heads is 18446744073709551615"],
        ),
        (|model| set(&model.join("transformer/config.json"), "norm_eps", 1e39.into()), &["norm_eps is inf"]),
        (|model| set(&model.join("text_encoder/config.json"), "num_layers", u64::MAX.into()), &["num_layers is"]),
        (|model| set(&model.join("text_encoder/config.json"), "vocab_size", u64::MAX.into()), &["vocab_size is"]),
        (
            |model| set(&model.join("vae/config.json"), "hidden_size_mult", serde_json::json!([1, 2, 4, u64::MAX])),
            &["hidden_size_mult is"],
        ),
        (|model| set(&model.join("vae/config.json"), "num_res_blocks", u64::MAX.into()), &["num_res_blocks is"]),
        (|model| set_trained(model, 16_384, 8192), &["transformer/config.json", "video_length · sample_size"]),
        (|model| set_trained(model, 1000, 128), &["transformer/config.json", "3997x1024x1024", "at most 2147483648"]),
        (
            |model| set(&model.join("transformer/config.json"), "model_max_length", 65_536.into()),
            &["transformer/config.json", "model_max_length is 65536, expected at most"],
        ),
        (
            |model| {
                remove(&model.join(VAE));
                let table = r#"{"seed": 1, "tensors": {"x": [18446744073709551615, 2]}}"#;
                fs::write(model.join("vae/synthetic.json"), table).unwrap();
            },
            &["vae/synthetic.json", "tensor x", "18446744073709551615, 2"],
        ),
        (|model| sampling(model, r#"{"steps": 0}"#), &["sampling.json", "0 steps"]),
        (|model| sampling(model, r#"{"sampler": "PNDM", "steps": 3}"#), &["sampling.json", "PNDM"]),
        (|model| sampling(model, r#"{"guidance_scale": -1e39}"#), &["sampling.json", "guidance -inf"]),
        (|model| sampling(model, r#"{"sampler": "DDDIM"}"#), &["sampling.json", "DDDIM"]),
        (|model| sampling(model, r#"{"stepps": 5}"#), &["sampling.json", "stepps"]),
        (|model| fs::create_dir(model.join("sampling.json")).unwrap(), &["sampling.json", "cannot be read"]),
    ];
    for (break_it, words) in cases {
        let (model, folder) = (copy_of_the_model(), tempfile::tempdir().unwrap());
        break_it(model.path());
        fs::write(folder.path().join("out.gif"), "precious").unwrap();
        let path = model.path().to_str().unwrap();
        let args = ["sample", "a cat", "--model", path, "-o", "out.gif", "--steps", "4", "--sampler", "DDIM"];
        fails(folder.path(), &args, 5, words);
        info_says_so_too(model.path(), words);
        // The folder was removed in one case.
        fs::create_dir_all(model.path()).unwrap();
    }
}

#[test]
fn with_several_transformers_the_user_must_choose_one() {
    let (model, folder) = (copy_of_the_model(), tempfile::tempdir().unwrap());
    let [one, two] = ["17x32x32", "65x32x32"].map(|name| model.path().join(name));
    fs::rename(model.path().join("transformer"), &one).unwrap();
    fs::create_dir(&two).unwrap();
    for entry in fs::read_dir(&one).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), two.join(entry.file_name())).unwrap();
    }
    let path = model.path().to_str().unwrap();
    let args = ["sample", "a cat", "--model", path, "-o", "out.gif", "--steps", "4", "--sampler", "DDIM"];
    fails(folder.path(), &args, 2, &[path, "several transformers", "17x32x32, 65x32x32", "(--transformer)"]);
    let chosen = ["--frames", "1", "--size", "16x16", "--transformer", "65x32x32"];
    succeeds(folder.path(), &[&args[..], &chosen].concat());
}

fn sampling(model: &Path, text: &str) {
    fs::write(model.join("sampling.json"), text).unwrap();
}

/// Checks that `osp info` reports the fault, too.
#[track_caller]
fn info_says_so_too(model: &Path, words: &[&str]) {
    let output = osp(Path::new("/")).arg("info").arg(model).assert().code(5).get_output().clone();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    // `osp info` prints every problem; `osp sample` prints the first and counts the others.
    for word in words.iter().filter(|word| !["more problems", "no such folder"].contains(word)) {
        assert!(said.contains(word), "{said:?} does not say {word:?}");
    }
}

#[test]
fn configs_with_synthetic_weights_must_fit_each_other() {
    let (model, folder) = (copy_of_the_model(), tempfile::tempdir().unwrap());
    set(&model.path().join("text_encoder/config.json"), "vocab_size", 100.into());
    let path = model.path().to_str().unwrap();
    let args = ["sample", "a cat", "--model", path, "-o", "out.gif", "--weights", "synthetic:1"];
    let words = ["text_encoder/config.json", "vocab_size is 100, less than the", "spiece.model"];
    fails(folder.path(), &args, 5, &words);
}

#[test]
fn info_lists_all_faults_and_not_only_the_first() {
    let model = copy_of_the_model();
    set(&model.path().join("vae/config.json"), "encoder_attention", "SparseAttn".into());
    edit_header(&model.path().join(TRANSFORMER), "adaln_single.linear.bias", "adaln_single.linear.blas");
    let before = contents(model.path());
    let output = osp(model.path()).args(["info", "."]).assert().code(5).get_output().clone();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let problems: Vec<&str> = stdout.lines().filter(|line| line.contains("PROBLEM")).collect();
    assert_eq!(problems.len(), 3, "{stdout}");
    assert!(problems.iter().any(|line| line.contains("SparseAttn")), "{stdout}");
    assert!(problems.iter().any(|line| line.contains("adaln_single.linear.bias") && line.contains("missing")));
    assert!(problems.iter().any(|line| line.contains("adaln_single.linear.blas")), "{stdout}");
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("3 problems\n"));
    assert!(contents(model.path()) == before);
}
