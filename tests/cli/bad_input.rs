//! Requests and files that cannot work. Each gets one line that says what to change, and no output is half-written.

use super::{fails, model_argument, write};
use std::fs;
use std::path::Path;

/// A folder with outputs of an earlier run, which must survive.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("out.gif"), "precious").unwrap();
    fs::write(folder.path().join("out.json"), "precious too").unwrap();
    folder
}

#[test]
fn faults_that_need_no_model_are_found_before_the_model_is_opened() {
    // To clean it would take minutes.
    let long = "a.".repeat(10_000);
    let cases: [(&[&str], i32, &[&str]); 35] = [
        (&[], 2, &["no prompt"]),
        (&[&long], 2, &["the prompt has 20000 bytes", "at most 16384"]),
        (&["a cat", "--negative-prompt", &long], 2, &["the negative prompt has 20000 bytes"]),
        (&[""], 2, &["prompt is empty"]),
        (&["  \t "], 2, &["prompt is empty"]),
        (&["a cat", ""], 2, &["prompt is empty"]),
        (&["--prompts", "absent.txt"], 1, &["absent.txt"]),
        (&["--prompts", "empty.txt"], 2, &["empty.txt", "no prompts"]),
        (&["a cat", "--prompts", "empty.txt"], 2, &["--prompts"]),
        (&["--prompts", "ending.jsonl"], 2, &["ending.jsonl, line 2: output a.avi"]),
        (&["--prompts", "place.jsonl"], 2, &["place.jsonl, line 1: output absent/a.gif"]),
        (&["--prompts", "frames.jsonl"], 2, &["frames.jsonl, line 1: 4611686018427387905 frames are more than 65536"]),
        (&["--prompts", "stdout.jsonl"], 2, &["stdout.jsonl, line 1: output -: a line names a file"]),
        (&["--prompts", "twice.jsonl"], 2, &["twice.jsonl, line 2: output a.gif is also that of twice.jsonl, line 1"]),
        (&["--prompts", "steps.jsonl"], 2, &["steps.jsonl, line 2: no sampler", "0 steps"]),
        (&["a cat", "a dog", "--seed", "1,2,3"], 2, &["2 prompts", "3 seeds"]),
        (&["a cat", "--seed", "-9223372036854775809"], 2, &["-9223372036854775809"]),
        (&["a cat", "--seed", "1,-x"], 2, &["-x"]),
        (&["a cat", "--size", "0x0"], 2, &["0x0 has no pixels"]),
        (&["a cat", "--size", "large"], 2, &["large", "512x512"]),
        (&["a cat", "--frames", "0"], 2, &["frames is 0"]),
        (&["a cat", "--frames", "18446744073709551615"], 2, &["frames"]),
        (&["a cat", "--sampler", "DDDIM"], 2, &["DDDIM", "DDIM", "PNDM"]),
        (&["a cat", "--sampler", "PNDM", "--steps", "3"], 2, &["PNDM", "3", "4"]),
        (&["a cat", "--steps", "0"], 2, &["0 steps"]),
        (&["a cat", "--steps", "1001"], 2, &["no sampler", "1001 steps"]),
        (&["\u{7ea2}\u{8272}\u{7684}\u{5706}"], 2, &["nothing is left", "English"]),
        (&["https://example.com/cat"], 2, &["nothing is left"]),
        (&["a cat", "\u{65e5}\u{672c}"], 2, &["nothing is left"]),
        (&["<b></b>"], 2, &["nothing is left"]),
        (&["--no-clean-caption", "\u{a0} "], 2, &["prompt is empty"]),
        (&["a cat", "--guidance", "NaN"], 2, &["NaN"]),
        (&["a cat", "--guidance", "-1"], 2, &["-1"]),
        (&["a cat", "--fps", "0"], 2, &["rate"]),
        (&["a cat", "--no-tiling", "--tile-frames", "9"], 2, &["--no-tiling"]),
    ];
    let folder = folder();
    fs::write(folder.path().join("empty.txt"), "\n \n").unwrap();
    fs::write(folder.path().join("ending.jsonl"), "\n{\"prompt\": \"a dog\", \"output\": \"a.avi\"}").unwrap();
    fs::write(folder.path().join("place.jsonl"), "{\"prompt\": \"a cat\", \"output\": \"absent/a.gif\"}").unwrap();
    fs::write(folder.path().join("frames.jsonl"), "{\"prompt\": \"a cat\", \"frames\": 4611686018427387905}").unwrap();
    let twice = "{\"prompt\": \"a cat\", \"output\": \"a.gif\"}\n".repeat(2);
    fs::write(folder.path().join("twice.jsonl"), twice).unwrap();
    fs::write(folder.path().join("stdout.jsonl"), "{\"prompt\": \"a cat\", \"output\": \"-\"}").unwrap();
    fs::write(folder.path().join("steps.jsonl"), "\n{\"prompt\": \"a cat\", \"steps\": 0}").unwrap();
    for (args, code, words) in cases {
        let args = [&["sample", "--model", "absent", "-o", "out.gif"], args].concat();
        fails(folder.path(), &args, code, words);
    }
}

#[test]
fn sizes_that_the_model_does_not_allow_are_found_before_anything_is_loaded() {
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--size", "100x128"], &["100x128", "96x128"]),
        (&["--frames", "18"], &["18", "17", "21"]),
        (&["--tile-size", "100"], &["100", "multiple of 8"]),
        (&["--tile-overlap", "0.3"], &["0.3"]),
    ];
    let (folder, model) = (folder(), model_argument());
    for (args, words) in cases {
        let args = [&["sample", "a cat", "--model", &model, "-o", "out.gif"], args].concat();
        fails(folder.path(), &args, 2, words);
    }
}

#[test]
fn outputs_that_cannot_be_written_are_found_before_the_model_is_opened() {
    let folder = folder();
    fs::create_dir(folder.path().join("folder.mp4")).unwrap();
    fs::create_dir(folder.path().join("full")).unwrap();
    fs::write(folder.path().join("full/thesis.txt"), "precious").unwrap();
    let cases: [(&[&str], i32, &[&str]); 10] = [
        (&["-o", "absent/out.mp4"], 2, &["absent"]),
        (&["-o", "out.avi"], 2, &[".avi", ".mp4"]),
        (&["-o", ".mp4"], 2, &[".mp4 has no name before its ending"]),
        (&["-o", "/dev/null"], 2, &["/dev/null is neither a file nor a folder"]),
        (&["-o", "folder.mp4"], 2, &["folder.mp4", "is a folder"]),
        (&["-o", "full"], 2, &["full", "thesis.txt"]),
        (&["-o", "out.png", "--frames", "5"], 2, &["PNG", "one frame"]),
        (&["-o", "out.gif", "--save-latent", "latent.npy"], 2, &["latent.npy", ".safetensors"]),
        (&["-o", "out.gif", "--save-latent", "absent/l.safetensors"], 2, &["absent"]),
        (&["-o", ""], 2, &["output"]),
    ];
    for (args, code, words) in cases {
        let args = [&["sample", "a cat", "--model", "absent"], args].concat();
        fails(folder.path(), &args, code, words);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_folder_that_is_not_writable_is_named() {
    // Even root cannot write there.
    fails(folder().path(), &["sample", "a cat", "--model", "absent", "-o", "/proc/out.gif"], 1, &["/proc"]);
}

#[test]
fn devices_that_this_build_lacks_have_their_own_exit_code() {
    for device in ["cuda:1", "tpu", ""] {
        let args = ["sample", "a cat", "--model", "absent", "-o", "out.gif", "--device", device];
        fails(folder().path(), &args, 3, &["no device", device]);
    }
}

#[test]
fn inputs_that_cannot_be_decoded_are_named() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    write(&at("whole.mp4"), 9, 32, 32);
    let whole = fs::read(at("whole.mp4")).unwrap();
    fs::write(at("cut.mp4"), &whole[..whole.len() / 3]).unwrap();
    fs::write(at("empty.mp4"), "").unwrap();
    fs::write(at("text.mp4"), "this is no video").unwrap();
    write(&at("tiny.png"), 1, 4, 4);
    fs::create_dir(at("empty")).unwrap();
    let model = model_argument();
    for name in ["absent.mp4", "empty.mp4", "text.mp4", "cut.mp4", "tiny.png", "empty"] {
        for command in ["encode", "reconstruct"] {
            let output = if command == "encode" { "latent.safetensors" } else { "out.gif" };
            fails(folder.path(), &[command, name, "-o", output, "--model", &model], 1, &[name]);
        }
    }
}

#[test]
fn frames_and_sizes_that_cannot_be_encoded_are_refused() {
    let folder = folder();
    write(&folder.path().join("clip.gif"), 5, 32, 32);
    let cases: [(&[&str], i32, &[&str]); 6] = [
        (&["--size", "30x32"], 2, &["30x32", "32x32"]),
        (&["--size", "64x64", "--crop"], 1, &["64x64", "--crop"]),
        (&["--crop"], 2, &["--size"]),
        (&["--max-frames", "0"], 2, &["--max-frames 0"]),
        (&["--mean", "--seed", "1"], 2, &["--seed"]),
        (&["-o", "out.png"], 2, &["cannot be used multiple times"]),
    ];
    let model = model_argument();
    for (args, code, words) in cases {
        let args = [&["reconstruct", "clip.gif", "-o", "out.gif", "--model", &model], args].concat();
        fails(folder.path(), &args, code, words);
    }
    let args = ["reconstruct", "clip.gif", "-o", "out.png", "--model", &model];
    fails(folder.path(), &args, 2, &["PNG", "one frame"]);
}

#[test]
fn files_that_are_not_latents_are_refused() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let zeros = |shape: &[usize]| vec![0.0f32; shape.iter().product()];
    save(&at("axes.safetensors"), "latent", &[4, 2, 4, 4], &zeros(&[4, 2, 4, 4]));
    save(&at("batch.safetensors"), "latent", &[2, 4, 1, 4, 4], &zeros(&[2, 4, 1, 4, 4]));
    save(&at("none.safetensors"), "latent", &[1, 4, 0, 4, 4], &[]);
    save(&at("name.safetensors"), "noise", &[1, 4, 1, 4, 4], &zeros(&[1, 4, 1, 4, 4]));
    save(&at("nan.safetensors"), "latent", &[1, 4, 1, 1, 1], &[0.0, f32::NAN, 0.0, 0.0]);
    save(&at("large.safetensors"), "latent", &[1, 4, 1, 1, 1], &[0.0, 0.5, -3e38, f32::NAN]);
    fs::write(at("empty.safetensors"), "").unwrap();
    fs::write(at("text.safetensors"), "this is no safetensors file").unwrap();
    let whole = fs::read(at("batch.safetensors")).unwrap();
    fs::write(at("cut.safetensors"), &whole[..whole.len() - 1]).unwrap();
    let cases = [
        ("absent", "cannot read"),
        ("empty", "not a whole safetensors file"),
        ("text", "not a whole safetensors file"),
        ("cut", "not a whole safetensors file"),
        ("axes", "[4, 2, 4, 4]"),
        ("batch", "[2, 4, 1, 4, 4]"),
        ("none", "[1, 4, 0, 4, 4]"),
        ("name", "holds the tensor noise, but no `latent`"),
        ("nan", "NaN"),
        ("large", "300000000000000000000000000000000000000"),
    ];
    let model = model_argument();
    for (name, word) in cases {
        let file = format!("{name}.safetensors");
        fails(folder.path(), &["decode", &file, "-o", "out.gif", "--model", &model], 1, &[&file, word]);
    }
    save(&at("channels.safetensors"), "latent", &[1, 3, 2, 4, 4], &zeros(&[1, 3, 2, 4, 4]));
    let args = ["decode", "channels.safetensors", "-o", "out.gif", "--model", &model];
    fails(folder.path(), &args, 2, &["has 3 channels, the VAE takes 4"]);
}

fn save(path: &Path, name: &str, shape: &[usize], values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &bytes).unwrap();
    fs::write(path, safetensors::serialize([(name, view)], None).unwrap()).unwrap();
}
