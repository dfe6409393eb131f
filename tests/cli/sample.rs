//! `osp sample` with the tiny model: formats, names, records, repeatability.

use super::{fails, model_argument, names, osp, succeeds};
use osp::video::{ReadOptions, read_clip};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Runs `osp sample` with few steps.
fn sample(folder: &Path, args: &[&str]) -> String {
    let model = model_argument();
    succeeds(folder, &[&["sample", "--model", &model, "--sampler", "DDIM", "--steps", "2"], args].concat())
}

fn record(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_ending_decides_the_format_and_stdout_is_the_path() {
    let folder = tempfile::tempdir().unwrap();
    for (name, frames) in [("a.mp4", 5), ("b.gif", 5), ("c.y4m", 5), ("d", 5), ("e.png", 1)] {
        let args = ["a cat", "--frames", &frames.to_string(), "--guidance", "1", "-o", name];
        assert_eq!(sample(folder.path(), &args), format!("{name}\n"));
        let clip = read_clip(&folder.path().join(name), &ReadOptions::default()).unwrap();
        assert_eq!((clip.frames, clip.height, clip.width), (frames, 32, 32), "{name}");
    }
    let expected =
        ["a.mp4", "a.mp4.json", "b.gif", "b.gif.json", "c.y4m", "c.y4m.json", "d", "d.json", "e.png", "e.png.json"];
    assert_eq!(names(folder.path()), expected);
}

#[test]
fn defaults_follow_the_model_and_the_name_follows_the_prompt() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(sample(folder.path(), &["A red circle, moving!", "--seed", "7"]), "a-red-circle-moving-seed7.mp4\n");
    let record = record(&folder.path().join("a-red-circle-moving-seed7.mp4.json"));
    let expect = |key: &str, value: Value| assert_eq!(record[key], value, "{key}");
    expect("prompt", "A red circle, moving!".into());
    expect("cleaned_prompt", "a red circle, moving!".into());
    expect("frames", 17.into());
    expect("height", 32.into());
    expect("width", 32.into());
    expect("guidance", 7.5.into());
    expect("sampler", "DDIM".into());
    expect("steps", 2.into());
    expect("model_calls", 2.into());
    expect("seed", 7.into());
    expect("fps", 24.0.into());
    assert!(record["weights"]["vae"].as_str().unwrap().starts_with("safetensors:"));
    assert!(record["seconds"]["denoise"].as_f64().unwrap() > 0.0);
    #[cfg(target_os = "linux")]
    assert!(record["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn several_prompts_make_numbered_files_and_a_grid() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("prompts.txt"), "\u{feff}a cat\r\n\r\n  a dog  \na cow").unwrap();
    let args = ["--prompts", "prompts.txt", "--frames", "5", "--guidance", "1", "-o", "x.gif", "--json"];
    let lines: Vec<Value> =
        sample(folder.path(), &args).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outputs: Vec<&str> = lines.iter().map(|line| line["output"].as_str().unwrap()).collect();
    assert_eq!(outputs, ["x-000.gif", "x-001.gif", "x-002.gif", "x-grid.gif"]);
    assert_eq!([&lines[0]["prompt"], &lines[1]["prompt"], &lines[2]["prompt"]], ["a cat", "a dog", "a cow"]);
    assert_eq!(lines[3]["shows"], serde_json::json!(["x-000.gif", "x-001.gif", "x-002.gif"]));
    assert_eq!(record(&folder.path().join("x-001.gif.json")), lines[1]);
    let grid = read_clip(&folder.path().join("x-grid.gif"), &ReadOptions::default()).unwrap();
    assert_eq!((grid.frames, grid.height, grid.width), (5, 2 * 32 + 4, 2 * 32 + 4));
}

#[test]
fn the_same_seed_gives_the_same_video_and_another_seed_another() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["a cat", "--frames", "5", "--guidance", "1"];
    sample(folder.path(), &[&args[..], &["--seed", "3,4", "-o", "a.y4m"]].concat());
    sample(folder.path(), &[&args[..], &["--seed", "3", "-o", "b.y4m"]].concat());
    let bytes = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert!(bytes("a-000.y4m") == bytes("b.y4m"));
    assert!(bytes("a-001.y4m") != bytes("b.y4m"));
}

#[test]
fn a_saved_latent_decodes_to_the_same_video_at_the_same_rate() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["a cat", "--frames", "5", "--fps", "12", "--save-latent", "l.safetensors", "-o", "a.y4m"];
    sample(folder.path(), &args);
    succeeds(folder.path(), &["decode", "l.safetensors", "-o", "b.y4m", "--model", &model_argument()]);
    let bytes = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert!(bytes("a.y4m") == bytes("b.y4m"));
}

#[test]
fn quiet_runs_leave_stderr_empty_and_others_name_the_device_and_every_stage() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_argument();
    let args = ["sample", "a cat", "--model", &model, "--frames", "5", "--steps", "4", "-o", "a.mp4", "--no-cache"];
    let stderr = |more: &[&str]| {
        let output = osp(folder.path()).args(args).args(more).assert().success().stdout("a.mp4\n").get_output().clone();
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(stderr(&["--quiet"]), "");
    let said = stderr(&[]);
    for word in ["auto chose cpu", "text: ", "denoise: 13 steps in ", "decode: 1 tile in "] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(said.lines().all(|line| line.starts_with("osp: ")) && !said.contains('\x1b'), "{said}");
}

#[test]
fn an_older_output_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.png"), "old").unwrap();
    sample(folder.path(), &["a cat", "--frames", "1", "-o", "a.png"]);
    assert!(fs::read(folder.path().join("a.png")).unwrap().starts_with(b"\x89PNG"));
}

/// Makes a model with only configs and a tokenizer, for synthetic weights.
fn configs(folder: &Path) {
    for file in
        ["vae/config.json", "transformer/config.json", "text_encoder/config.json", "text_encoder/tokenizer.json"]
    {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(super::model().join(file), path).unwrap();
    }
}

#[test]
fn synthetic_weights_need_only_configs_and_a_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    configs(&folder.path().join("model"));
    let args = ["sample", "a cat", "--model", "model", "--weights", "synthetic:1", "--frames", "1", "--steps", "4"];
    let args = [&args[..], &["-o", "a.png", "--json"]].concat();
    let record: Value = serde_json::from_str(&succeeds(folder.path(), &args)).unwrap();
    assert_eq!(record["weights"]["transformer"], "synthetic:1");
}

#[test]
fn the_environment_can_name_the_model_and_a_model_has_settings_and_a_notice() {
    let folder = tempfile::tempdir().unwrap();
    configs(&folder.path().join("model"));
    let settings =
        r#"{"sampler": "EulerDiscrete", "steps": 3, "guidance_scale": 1.5, "notice": "Untrained: expect noise."}"#;
    fs::write(folder.path().join("model/sampling.json"), settings).unwrap();
    let run = |more: &[&str]| {
        let args = ["sample", "a cat", "--weights", "synthetic:1", "--frames", "1", "-o", "a.png", "--json"];
        let mut command = osp(folder.path());
        let output = command.env("OSP_MODEL", "model").args(args).args(more).assert().success().get_output().clone();
        (serde_json::from_slice::<Value>(&output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (record, said) = run(&[]);
    assert!(said.contains("Untrained: expect noise."), "{said}");
    let settings = |record: &Value| ["sampler", "steps", "guidance"].map(|key| record[key].clone());
    assert_eq!(settings(&record), ["EulerDiscrete".into(), 3.into(), Value::from(1.5)]);
    let (record, said) = run(&["--quiet", "--steps", "2"]);
    assert_eq!((settings(&record)[1].as_u64(), said.as_str()), (Some(2), ""));
}

#[test]
fn the_emulated_gpu_samples_nearly_the_same_frames_as_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let frames = |device: &str| {
        let name = format!("{device}.y4m");
        sample(folder.path(), &["a cat", "--frames", "5", "--device", device, "-o", &name]);
        assert_eq!(
            record(&folder.path().join(format!("{device}.y4m.json")))["device"].as_str().unwrap().split(' ').next(),
            Some(device)
        );
        read_clip(&folder.path().join(name), &ReadOptions::default()).unwrap()
    };
    let scores = osp::video::metrics::psnr(&frames("cpu"), &frames("emulated")).unwrap();
    assert!(scores.overall >= 35.0, "PSNR {:.1} dB", scores.overall);
}

#[test]
fn the_demo_model_is_the_default_and_draws_more_than_one_colour() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["sample", "a large red circle on a black background", "--frames", "1", "--steps", "5", "-o", "a.png"];
    succeeds(folder.path(), &args);
    let image = read_clip(&folder.path().join("a.png"), &ReadOptions::default()).unwrap();
    let (least, most) = (image.pixels.iter().min().unwrap(), image.pixels.iter().max().unwrap());
    assert!(most - least > 64, "bytes from {least} to {most}");
}

#[test]
fn seeds_prompts_and_models_are_read_as_users_write_them() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("old.txt"), "a red circle\ra blue square\r").unwrap();
    let args = ["--frames", "1", "--size", "16x16", "--sampler", "DDIM", "--steps", "1", "--json"];
    let run = |more: &[&str]| {
        let mut command = osp(folder.path());
        command.args(["sample", "--model", &model_argument()]).args(args).args(more);
        let output = command.assert().success().get_output().clone();
        let records = String::from_utf8(output.stdout).unwrap();
        let records: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (records, String::from_utf8(output.stderr).unwrap())
    };
    // Line ends of old systems.
    let (records, _) = run(&["--prompts", "old.txt", "-o", "old.png"]);
    assert_eq!(records[0]["prompt"], "a red circle");
    assert_eq!(records[1]["prompt"], "a blue square");
    // As in PyTorch, -1 is the largest number of 64 bits.
    run(&["a cat", "--seed", "-1", "-o", "a.png"]);
    run(&["a cat", "--seed", "18446744073709551615", "-o", "b.png"]);
    let [a, b] = ["a.png", "b.png"].map(|name| fs::read(folder.path().join(name)).unwrap());
    assert!(a == b);
    // A caption of one sign, and a caption without known tokens.
    let (_, said) = run(&[".", "-o", "c.png"]);
    assert!(said.contains("warning: the caption is \".\" and nothing more"), "{said}");
    let (_, said) = run(&["\u{1f408}", "-o", "d.png"]);
    assert!(said.contains("unknown to the text encoder"), "{said}");
    let (_, said) = run(&["a cat", "--negative-prompt", "\u{7ea2}", "-o", "e.png"]);
    assert!(said.contains("warning: nothing is left of the negative prompt"), "{said}");
    // An empty variable does not name a model.
    let mut command = osp(folder.path());
    command.env("OSP_MODEL", "").args(["sample", "a cat", "-o", "f.png"]).args(args).assert().success();
}

#[test]
fn the_error_for_too_few_steps_names_the_models_sampler() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["sample", "a cat", "--steps", "3", "-o", "o.gif", "--model", &model_argument()];
    fails(folder.path(), &args, 2, &["PNDM cannot sample in 3 steps"]);
}
