//! NaN or infinity anywhere in a model: an error that says where, and no output.

use super::weights::copy_of_the_model;
use super::{fails, golden, osp, succeeds, write};
use safetensors::{Dtype, SafeTensors};
use std::fs;
use std::ops::Range;
use std::path::Path;

const TEXT_ENCODER: &str = "text_encoder/model.safetensors";
const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

/// Replaces a value of a tensor.
fn put(file: &Path, tensor: &str, index: usize, value: f32) {
    put_all(file, tensor, index..index + 1, value);
}

/// Replaces some values of a tensor.
pub fn put_all(file: &Path, tensor: &str, range: Range<usize>, value: f32) {
    let mut bytes = fs::read(file).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let info = metadata.info(tensor).unwrap_or_else(|| panic!("{tensor} is in {}", file.display()));
    let value = match info.dtype {
        Dtype::F32 => value.to_le_bytes().to_vec(),
        Dtype::BF16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
        other => panic!("{tensor} is {other:?}"),
    };
    let start = 8 + header + info.data_offsets.0;
    let values =
        bytes[start + range.start * value.len()..start + range.end * value.len()].chunks_exact_mut(value.len());
    values.for_each(|place| place.copy_from_slice(&value));
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_weight_that_is_not_finite_ends_the_stage_that_uses_it() {
    let cases = [
        (TEXT_ENCODER, "encoder.block.0.layer.0.SelfAttention.q.weight", f32::NAN, "text: "),
        (TEXT_ENCODER, "encoder.final_layer_norm.weight", f32::INFINITY, "text: "),
        (TRANSFORMER, "transformer_blocks.0.attn1.to_q.weight", f32::NAN, "denoise, step 1 of 2: "),
        (TRANSFORMER, "proj_out.bias", f32::NEG_INFINITY, "denoise, step 1 of 2: "),
        (VAE, "decoder.conv_in.conv.weight", f32::NAN, "decode: "),
        (VAE, "decoder.conv_out.conv.bias", f32::INFINITY, "decode: "),
    ];
    for (file, tensor, value, stage) in cases {
        let (model, folder) = (copy_of_the_model(), tempfile::tempdir().unwrap());
        put(&model.path().join(file), tensor, 1, value);
        let path = model.path().to_str().unwrap();
        let args = ["sample", "a cat", "--model", path, "-o", "o.gif", "--save-latent", "l.safetensors"];
        let size = ["--frames", "5", "--size", "32x32", "--sampler", "DDIM", "--steps", "2"];
        let value = format!("value 1 is {value}");
        fails(folder.path(), &[&args[..], &size].concat(), 5, &[file, tensor, &value, stage, " 0, "]);
        let args = ["info", path, "--values"];
        let output = osp(folder.path()).args(args).assert().code(5).get_output().clone();
        let problems = String::from_utf8(output.stdout).unwrap();
        assert!(problems.contains(tensor) && problems.contains(&value), "{problems}");
    }
}

#[test]
fn a_weight_of_the_video_encoder_that_is_not_finite_ends_it() {
    let (model, folder) = (copy_of_the_model(), tempfile::tempdir().unwrap());
    put(&model.path().join(VAE), "encoder.conv_in.weight", 3, f32::NAN);
    write(&folder.path().join("in.png"), 1, 32, 32);
    let path = model.path().to_str().unwrap();
    let words = [VAE, "encoder.conv_in.weight", "value 3 is NaN", "encode"];
    fails(folder.path(), &["encode", "in.png", "-o", "l.safetensors", "--model", path], 5, &words);
    fails(folder.path(), &["reconstruct", "in.png", "-o", "o.png", "--model", path], 5, &words);
}

#[test]
fn kernels_detect_overflow_of_f16() {
    for (file, tensor, stage) in [
        (TRANSFORMER, "transformer_blocks.1.ff.net.2.weight", "denoise, step 2 of 2"),
        (VAE, "decoder.conv_out.conv.weight", "decode"),
    ] {
        let (model, folder) = (copy_of_the_model(), tempfile::tempdir().unwrap());
        // The weights are finite, but large enough that activations overflow f16.
        let bytes = fs::read(model.path().join(file)).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let len: usize = metadata.info(tensor).unwrap().shape.iter().product();
        put_all(&model.path().join(file), tensor, 0..len, 60_000.0);
        let path = model.path().to_str().unwrap();
        let args = ["sample", "a cat", "--model", path, "-o", "o.png", "--device", "emulated", "--dtype", "f16"];
        let size = ["--frames", "1", "--size", "16x16", "--sampler", "DDIM", "--steps", "2"];
        let stage = &stage[..stage.find(',').unwrap_or(stage.len())];
        fails(folder.path(), &[&args[..], &size].concat(), 1, &[stage, "NaN or infinite", "bf16"]);
    }
}

#[test]
fn convert_never_writes_a_value_that_is_not_finite() {
    for (value, dtype, words) in [
        (f32::NAN, "bf16", ["value 7 is NaN", "damaged"]),
        (f32::INFINITY, "f32", ["value 7 is inf", "damaged"]),
        (1e30, "f16", ["too large for f16", "choose bf16"]),
    ] {
        let (model, folder) = (copy_of_the_model(), tempfile::tempdir().unwrap());
        put(&model.path().join(TRANSFORMER), "proj_out.weight", 7, value);
        fs::create_dir(folder.path().join("out")).unwrap();
        fs::write(folder.path().join("out/config.json"), "an older one").unwrap();
        let args = ["convert", model.path().to_str().unwrap(), "-o", "out", "--force", "--dtype", dtype];
        fails(folder.path(), &args, 5, &[&[TRANSFORMER, "proj_out.weight"], &words[..]].concat());
    }
}

#[test]
fn a_cached_embedding_that_is_not_finite_is_computed_again() {
    let (model, folder) = (copy_of_the_model(), tempfile::tempdir().unwrap());
    let path = model.path().to_str().unwrap();
    let args = ["sample", "a cat", "--model", path, "-o", "o.png", "--sampler", "DDIM", "--steps", "1"];
    let args = [&args[..], &["--frames", "1", "--size", "16x16", "--quiet"]].concat();
    succeeds(folder.path(), &args);
    let expected = fs::read(folder.path().join("o.png")).unwrap();
    for entry in fs::read_dir(folder.path().join(".cache/osp/text")).unwrap() {
        put(&entry.unwrap().path(), "embeddings", 5, f32::NAN);
    }
    succeeds(folder.path(), &args);
    assert!(fs::read(folder.path().join("o.png")).unwrap() == expected);
}

#[test]
fn golden_data_and_its_models_must_be_finite() {
    for (name, file, tensor) in [
        ("noise", "cases.safetensors", "0.16.first"),
        ("latte_d64", "cases.safetensors", "video.latent"),
        ("samplers", "cases.safetensors", "initial_noise"),
        ("vae_v110", "trace.safetensors", "video"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(name)).unwrap();
        for entry in fs::read_dir(golden(name)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(name).join(path.file_name().unwrap())).unwrap();
        }
        put(&folder.path().join(name).join(file), tensor, 2, f32::NAN);
        let output = osp(folder.path()).args(["verify", "."]).assert().code(5).get_output().clone();
        let said = String::from_utf8(output.stderr).unwrap();
        for word in [file, tensor, "value 2 is NaN"] {
            assert!(said.contains(word), "{said:?} does not say {word:?}");
        }
    }
}
