//! Faults that can be found before the work are not found after it.

use super::{fails, model_argument, names, osp, succeeds, write};
use osp::video::{ReadOptions, read_clip};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Arguments of `osp sample` for a small image, and `more`.
fn sample<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["sample", "--model", model, "--sampler", "DDIM", "--steps", "1", "--guidance", "1"], more].concat()
}

#[test]
fn names_too_long_for_their_record_or_state_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_argument();
    let name = |length: usize| format!("{}.png", "n".repeat(length - 4));
    // The longest name: systems allow 255 bytes, and the state's name has 6 more.
    let longest = name(249);
    assert_eq!(
        succeeds(folder.path(), &sample(&model, &["a cat", "--frames", "1", "-o", &longest])),
        format!("{longest}\n")
    );
    assert_eq!(names(folder.path()), [longest.clone(), format!("{longest}.json")]);
    for length in 250..=256 {
        fails(folder.path(), &sample("absent", &["a cat", "--frames", "1", "-o", &name(length)]), 2, &["too long"]);
    }
    // With several videos, names get a number or `-grid`.
    for length in 246..=249 {
        let several = ["a cat", "a dog", "--frames", "1", "-o", &name(length)];
        fails(folder.path(), &sample("absent", &several), 2, &["too long"]);
    }
    write(&folder.path().join("in.png"), 1, 16, 16);
    for (command, ending) in [("encode", "safetensors"), ("reconstruct", "gif"), ("reconstruct", "mp4")] {
        let fits = format!("{}.{ending}", "m".repeat(254 - ending.len()));
        succeeds(folder.path(), &[command, "in.png", "-o", &fits, "--model", &model]);
        fails(folder.path(), &[command, "in.png", "-o", &format!("m{fits}"), "--model", "absent"], 2, &["too long"]);
    }
    let folders = "m".repeat(256);
    fails(folder.path(), &["convert", &model, "-o", &folders], 2, &["too long"]);
    fails(folder.path(), &["plan", "--preset", "v1.1.0", "--svg", &format!("{folders}.svg")], 2, &["too long"]);
}

#[test]
fn a_grid_fits_its_format_or_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_argument();
    // If the clips shrank as the grid requires, they would have 8 rows: too few for an MP4.
    let flat = ["a cat", "a dog", "--frames", "1", "--size", "16x1104", "-o", "flat.mp4"];
    succeeds(folder.path(), &sample(&model, &flat));
    let grid = read_clip(&folder.path().join("flat-grid.mp4"), &ReadOptions::default()).unwrap();
    assert_eq!((grid.height, grid.width), (16, 2 * 552 + 4));
    // The clips of a grid stay in memory until the last is made, so a large batch has none.
    let seeds = (0..65).map(|seed| seed.to_string()).collect::<Vec<_>>().join(",");
    let many = ["a cat", "--seed", &seeds, "--frames", "1", "--size", "16x16", "-o", "many.mp4"];
    succeeds(folder.path(), &sample(&model, &many));
    let made = |name: &str| folder.path().join(name).exists();
    assert!(made("many-064.mp4") && !made("many-grid.mp4"));
}

#[test]
fn a_folder_in_the_place_of_a_record_is_found_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.png.json", "b-001.png.json", "c-grid.png.json"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for (output, place) in [("a.png", "a.png.json"), ("b.png", "b-001.png.json"), ("c.png", "c-grid.png.json")] {
        let prompts: &[&str] = if output == "a.png" { &["a cat"] } else { &["a cat", "a dog"] };
        let args = [prompts, &["--frames", "1", "-o", output]].concat();
        fails(folder.path(), &sample("absent", &args), 2, &[place, "is a folder"]);
    }
}

#[test]
fn a_rate_with_fine_ticks_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/video/files/vfr_fine_ticks.mp4");
    for name in ["o.mp4", "o.gif", "o.y4m"] {
        let model = model_argument();
        succeeds(folder.path(), &["reconstruct", input.to_str().unwrap(), "-o", name, "--model", &model]);
        let clip = read_clip(&folder.path().join(name), &ReadOptions::default()).unwrap();
        assert!((clip.fps.as_f64() - 10.0).abs() < 1e-3, "{name}: {}", clip.fps);
    }
}

#[test]
fn a_record_holds_the_frame_rate_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_argument();
    let run = |args: &[&str]| {
        let output = osp(folder.path()).args(args).arg("--json").assert().success().get_output().clone();
        let text = String::from_utf8(output.stdout).unwrap();
        let rates = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["fps"].as_f64().unwrap());
        (rates.collect::<Vec<_>>(), String::from_utf8(output.stderr).unwrap())
    };
    let fast = ["a cat", "a dog", "--frames", "5", "--fps", "60", "--save-latent", "l.safetensors"];
    let (rates, said) = run(&sample(&model, &[&fast[..], &["-o", "a.gif"]].concat()));
    assert_eq!(rates, [50.0; 3]);
    assert_eq!(said.matches("plays at 50 frames/s").count(), 1, "{said}");
    for name in ["a-000.gif", "a-grid.gif"] {
        assert_eq!(read_clip(&folder.path().join(name), &ReadOptions::default()).unwrap().fps.as_f64(), 50.0);
    }
    let (rates, said) = run(&sample(&model, &[&fast[..], &["-o", "a.mp4"]].concat()));
    assert!(rates == [60.0; 3] && !said.contains("plays at"), "{said}");
    // The latent keeps the exact rate.
    let (rates, said) = run(&["decode", "l-000.safetensors", "-o", "b.gif", "--model", &model]);
    assert!(rates == [50.0] && said.contains("plays at 50 frames/s"), "{said}");
    let (rates, said) = run(&["decode", "l-000.safetensors", "-o", "b.y4m", "--model", &model]);
    assert!(rates == [60.0] && !said.contains("plays at"), "{said}");
    let (rates, said) = run(&["reconstruct", "b.y4m", "-o", "c.gif", "--model", &model]);
    assert!(rates == [50.0] && said.contains("plays at 50 frames/s"), "{said}");
}
