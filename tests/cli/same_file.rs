//! Outputs that are also inputs, under any name, and outputs that would replace each other.

use super::{fails, golden, model_argument, osp, succeeds, write};
use std::fs;
use std::path::Path;

/// The words of all refusals to replace an input.
const READ: &str = "is an input";

/// A folder with clips, a folder of frames, latents, prompts and a model.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("in.y4m"), 1, 16, 16);
    write(&at("in.png"), 1, 16, 16);
    write(&at("frames"), 1, 16, 16);
    fs::write(at("p.png.json"), "a cat").unwrap();
    fs::write(at("p.gif"), "a cat").unwrap();
    for name in ["vae", "transformer", "text_encoder"] {
        fs::create_dir_all(at("model").join(name)).unwrap();
        for file in fs::read_dir(golden("pipeline").join(name)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), at("model").join(name).join(file.file_name())).unwrap();
        }
    }
    folder
}

#[test]
fn an_input_is_never_replaced() {
    let folder = folder();
    let model = model_argument();
    succeeds(folder.path(), &["encode", "in.png", "-o", "l.safetensors", "--model", &model]);
    fs::rename(folder.path().join("l.safetensors"), folder.path().join("l.gif")).unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let absolute = folder.path().join("in.y4m");
    let cases: [&[&str]; 9] = [
        &["reconstruct", "in.y4m", "-o", "in.y4m"],
        &["reconstruct", "in.y4m", "-o", "./in.y4m"],
        &["reconstruct", "in.y4m", "-o", "empty/../in.y4m"],
        &["reconstruct", "in.y4m", "-o", absolute.to_str().unwrap()],
        &["reconstruct", "frames", "-o", "frames"],
        &["reconstruct", "frames", "-o", "frames/"],
        &["reconstruct", "frames/frame_00000.png", "-o", "frames"],
        &["reconstruct", "frames", "-o", "frames/frame_00000.png"],
        &["decode", "l.gif", "-o", "l.gif"],
    ];
    for args in cases {
        fails(folder.path(), &[args, &["--model", &model]].concat(), 2, &[args[3], READ]);
    }
    // An output may be written beside an input, in the input's folder.
    succeeds(folder.path(), &["reconstruct", "frames", "-o", "frames/new.y4m", "--model", &model]);
    succeeds(folder.path(), &["reconstruct", "frames", "-o", "frames/new.y4m", "--model", &model]);
}

#[test]
fn prompts_are_never_replaced_not_even_by_a_record() {
    let folder = folder();
    let model = model_argument();
    let sample = |prompts: &str, more: &[&str]| {
        let args = ["sample", "--prompts", prompts, "--frames", "1", "--steps", "4", "--model", &model];
        fails(folder.path(), &[&args[..], more].concat(), 2, &[prompts]);
    };
    sample("p.gif", &["-o", "p.gif"]);
    sample("p.png.json", &["-o", "p.png"]);
    fs::write(folder.path().join("l.safetensors"), "a cat").unwrap();
    sample("l.safetensors", &["-o", "a.png", "--save-latent", "l.safetensors"]);
    fs::write(folder.path().join("x-001.gif"), "a cat\na dog").unwrap();
    sample("x-001.gif", &["-o", "x.gif"]);
    fs::write(folder.path().join("y-grid.gif"), "a cat\na dog").unwrap();
    sample("y-grid.gif", &["-o", "y.gif"]);
}

#[test]
fn a_file_of_options_is_never_replaced() {
    let folder = folder();
    fs::write(folder.path().join("a.json"), "steps = 4\n").unwrap();
    let small = ["--frames", "1", "--size", "16x16", "--model", "model"];
    let profile = ["profile", "--config", "a.json", "--trace", "a.json", "--device", "cpu"];
    fails(folder.path(), &[&profile[..], &small].concat(), 2, &["a.json", READ]);
    fs::rename(folder.path().join("a.json"), folder.path().join("a.png")).unwrap();
    let sample = ["sample", "a cat", "--config", "a.png", "-o", "a.png"];
    fails(folder.path(), &[&sample[..], &small].concat(), 2, &["a.png", READ]);
}

#[test]
fn files_of_the_model_are_never_replaced() {
    let folder = folder();
    let weights = "model/vae/diffusion_pytorch_model.safetensors";
    let config = "model/vae/config.json";
    let small = ["--frames", "1", "--size", "16x16"];
    let cases: [&[&str]; 6] = [
        &["encode", "in.png", "-o", weights, "--model", "model"],
        &["encode", "in.png", "-o", weights, "--model", "model/vae"],
        &["sample", "a cat", "-o", "a.png", "--model", "model", "--save-latent", weights],
        &["profile", "--device", "cpu", "--model", "model", "--trace", config],
        &["convert", "model", "-o", "model/vae", "--force"],
        &["convert", "model/vae/config.json", "-o", "model/vae", "--force"],
    ];
    for args in cases {
        let sized = matches!(args[0], "sample" | "profile");
        fails(folder.path(), &[args, if sized { &small } else { &[] }].concat(), 2, &["model/vae", READ]);
    }
    let other = folder.path().join("other");
    fs::rename(folder.path().join("model/text_encoder"), &other).unwrap();
    let args = ["--text-encoder", "other", "--save-latent", "other/model.safetensors", "--model", "model"];
    fs::write(other.join("model.safetensors"), "weights").unwrap();
    fails(folder.path(), &[&["sample", "a cat", "-o", "a.png"], &small[..], &args].concat(), 2, &[READ]);
}

#[test]
#[cfg(unix)]
fn links_do_not_hide_an_input() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::hard_link(at("in.y4m"), at("hard.y4m")).unwrap();
    symlink("in.y4m", at("soft.y4m")).unwrap();
    symlink("frames", at("soft")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(folder.path(), elsewhere.path().join("here")).unwrap();
    let around = elsewhere.path().join("here/in.y4m");
    // As in a cache of the hub: names are links to files in other folders.
    let weights = "model/vae/diffusion_pytorch_model.safetensors";
    fs::rename(at(weights), at("blob.safetensors")).unwrap();
    symlink("../../blob.safetensors", at(weights)).unwrap();
    let cases = [
        ["reconstruct", "in.y4m", "-o", "hard.y4m"],
        ["reconstruct", "in.y4m", "-o", "soft.y4m"],
        ["reconstruct", "soft.y4m", "-o", "in.y4m"],
        ["reconstruct", "in.y4m", "-o", around.to_str().unwrap()],
        ["reconstruct", "frames", "-o", "soft"],
        ["reconstruct", "soft", "-o", "frames"],
        ["encode", "in.png", "-o", "blob.safetensors"],
        ["encode", "in.png", "-o", weights],
    ];
    for args in cases {
        fails(folder.path(), &[&args[..], &["--model", "model"]].concat(), 2, &[args[3], READ]);
    }
}

#[test]
fn outputs_do_not_replace_each_other() {
    let folder = folder();
    let sample = |more: &[&str]| {
        let args = ["sample", "a cat", "--frames", "1", "--steps", "4", "--model", "absent"];
        fails(folder.path(), &[&args[..], more].concat(), 2, &["would replace output"]);
    };
    fs::create_dir(folder.path().join("shots")).unwrap();
    sample(&["-o", "shots", "--save-latent", "shots/l.safetensors"]);
    #[cfg(unix)]
    {
        fs::write(folder.path().join("l.safetensors"), "old").unwrap();
        std::os::unix::fs::symlink("l.safetensors", folder.path().join("b.png")).unwrap();
        sample(&["-o", "b.png", "--save-latent", "l.safetensors"]);
    }
}

#[test]
fn outputs_with_one_stem_have_separate_records() {
    let folder = folder();
    let model = model_argument();
    for name in ["k.png", "k.gif", "k"] {
        let args = ["sample", "a cat", "--frames", "1", "--steps", "4", "--model", &model, "-o", name];
        // The second run replaces the record, too.
        succeeds(folder.path(), &args);
        succeeds(folder.path(), &args);
    }
    for name in ["k.png", "k.gif", "k"] {
        let text = fs::read_to_string(folder.path().join(format!("{name}.json"))).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["output"], name);
    }
}

#[test]
fn a_json_file_that_is_not_a_record_is_not_replaced() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let sample = |words: &[&str], more: &[&str]| {
        let args = ["sample", "--frames", "1", "--steps", "4", "--model", "absent"];
        fails(folder.path(), &[&args[..], more].concat(), 2, words);
    };
    for text in ["", "{", "[]", r#"{"output": "k.gif", "weights": {}}"#, "\u{1}\u{2}"] {
        fs::write(at("k.gif.json"), text).unwrap();
        sample(&["k.gif.json", "is not a record"], &["a cat", "-o", "k.gif"]);
    }
    fs::write(at("k-grid.gif.json"), "{}").unwrap();
    sample(&["k-grid.gif.json", "is not a record"], &["a cat", "a dog", "-o", "k.gif"]);
    fs::create_dir(at("m.gif.json")).unwrap();
    sample(&["m.gif.json", "is a folder"], &["a cat", "-o", "m.gif"]);
    fs::create_dir(at("n-grid.gif.json")).unwrap();
    sample(&["n-grid.gif.json", "is a folder"], &["a cat", "a dog", "-o", "n.gif"]);
    assert!(Path::new(&at("n-grid.gif.json")).is_dir());
}

#[test]
#[cfg(unix)]
fn a_lock_that_is_a_link_to_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/nowhere", folder.path().join("out.gif.lock")).unwrap();
    let output = osp(folder.path())
        .args(["sample", "a cat", "-o", "out.gif", "--model", "absent"])
        .timeout(std::time::Duration::from_secs(60))
        .assert()
        .code(2)
        .get_output()
        .clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("out.gif.lock is a link to nothing"), "{said}");
}
