//! `osp encode`, `decode` and `reconstruct` with the tiny model.

use super::{model_argument, names, osp, succeeds, write};
use osp::video::{ReadOptions, read_clip};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

#[test]
fn reconstruct_prints_a_line_for_each_frame_and_the_path() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("in.y4m"), 5, 32, 48);
    let text = succeeds(folder.path(), &["reconstruct", "in.y4m", "-o", "out.gif", "--model", &model_argument()]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 5 + 1 + 1, "{text}");
    assert!(lines[0].contains("PSNR") && lines[6].contains("all") && lines[7] == "out.gif", "{text}");
    let clip = read_clip(&folder.path().join("out.gif"), &ReadOptions::default()).unwrap();
    assert_eq!((clip.frames, clip.height, clip.width), (5, 32, 48));
    assert_eq!(names(folder.path()), ["in.y4m", "out.gif"]);
}

#[test]
fn reconstruct_reports_the_similarity_of_frames_as_json() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("in.png"), 1, 32, 32);
    let args = ["reconstruct", "in.png", "-o", "out.png", "--mean", "--json", "--model", &model_argument()];
    let record: Value = serde_json::from_str(&succeeds(folder.path(), &args)).unwrap();
    assert_eq!(record["psnr"]["frames"], serde_json::json!([record["psnr"]["overall"]]));
    assert!(record["psnr"]["overall"].as_f64().unwrap() > 0.0);
    assert!((-1.0..=1.0).contains(&record["ssim"]["overall"].as_f64().unwrap()));
    assert_eq!(record["seed"], Value::Null);
}

#[test]
fn inputs_are_cut_to_a_size_that_the_model_allows_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("in.y4m"), 7, 36, 32);
    let model = model_argument();
    let args = ["encode", "in.y4m", "-o", "l.safetensors", "--model", &model, "--json"];
    let run = |more: &[&str]| {
        let output = osp(folder.path()).args(args).args(more).assert().success().get_output().clone();
        let record: Value = serde_json::from_slice(&output.stdout).unwrap();
        (record, String::from_utf8(output.stderr).unwrap())
    };
    let size = |record: &Value| [&record["frames"], &record["height"], &record["width"]].map(|n| n.as_u64().unwrap());
    let (record, said) = run(&[]);
    assert_eq!(size(&record), [5, 32, 32]);
    assert!(said.contains("5 of 7 frames") && said.contains("32x32 of 36x32"), "{said}");
    let (record, said) = run(&["--size", "16x24", "--max-frames", "1"]);
    assert_eq!(size(&record), [1, 16, 24]);
    assert!(!said.contains("warning"), "{said}");
    let (record, _) = run(&["--size", "24x16", "--crop", "--quiet"]);
    assert_eq!(size(&record), [5, 24, 16]);
}

/// Writes a Y4M file of black frames as a sparse file.
fn write_long(path: &Path, frames: u64, height: u64, width: u64) {
    let mut file = File::create(path).unwrap();
    writeln!(file, "YUV4MPEG2 W{width} H{height} F24:1 Cmono").unwrap();
    for _ in 0..frames {
        file.write_all(b"FRAME\n").unwrap();
        file.seek(SeekFrom::Current((height * width) as i64)).unwrap();
    }
    let length = file.stream_position().unwrap();
    file.set_len(length).unwrap();
}

#[test]
fn the_size_and_length_of_the_input_cost_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let peak = |frames| {
        write_long(&folder.path().join("in.y4m"), frames, 1080, 1920);
        let model = model_argument();
        let args =
            ["encode", "in.y4m", "--size", "32x32", "-o", "l.safetensors", "--mean", "--json", "--model", &model];
        let record: Value = serde_json::from_str(&succeeds(folder.path(), &args)).unwrap();
        assert_eq!(record["frames"], frames);
        record["peak_rss_bytes"].as_u64()
    };
    // 49 frames of RGB are 305 MB.
    if let (Some(few), Some(many)) = (peak(1), peak(49)) {
        assert!(many < few + (128 << 20), "{} MiB, then {} MiB", few >> 20, many >> 20);
    }
}

#[test]
fn stdin_is_an_input_and_pixels_that_are_not_square_are_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/video/files/sar2.mp4");
    let model = model_argument();
    let args = ["encode", "-", "-o", "l.safetensors", "--json", "--model", &model];
    let output =
        osp(folder.path()).args(args).write_stdin(fs::read(clip).unwrap()).assert().success().get_output().clone();
    let (record, said): (Value, _) =
        (serde_json::from_slice(&output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!([&record["frames"], &record["height"], &record["width"]], [9, 64, 128]);
    assert!(said.contains("warning") && said.contains("not square"), "{said}");
}

#[test]
fn tmpdir_is_only_needed_for_pipes_and_an_error_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/video/files");
    let run = |input: &str, stdin: &str| {
        let model = model_argument();
        let args = ["encode", input, "-o", "l.safetensors", "--model", &model];
        let stdin = fs::read(files.join(stdin)).unwrap();
        let output = osp(folder.path()).args(args).env("TMPDIR", "/absent").write_stdin(stdin).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let webm = files.join("browser.webm");
    let (done, said) = run(webm.to_str().unwrap(), "browser.webm");
    assert!(done || said.contains("install ffmpeg"), "{said}");
    let (done, said) = run("-", "rot90.mp4");
    assert!(!done && said.contains("TMPDIR, /absent") && !said.contains("ffmpeg"), "{said}");
    // A video for stdout waits there until it is whole.
    let args = ["reconstruct", webm.to_str().unwrap(), "-o", "-", "--max-frames", "1", "--model", &model_argument()];
    let output = osp(folder.path()).args(args).env("TMPDIR", "/absent").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && (said.contains("TMPDIR, /absent") || said.contains("install ffmpeg")),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn an_ffmpeg_with_old_names_of_options_works() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let lookup = std::process::Command::new("sh").args(["-c", "command -v ffmpeg"]).output().unwrap();
    let ffmpeg = String::from_utf8(lookup.stdout).unwrap();
    if ffmpeg.is_empty() {
        eprintln!("skipped: ffmpeg is not installed");
        return;
    }
    let old = folder.path().join("ffmpeg");
    let refuse = "case \"$*\" in *fps_mode*) echo \"Unrecognized option 'fps_mode'.\" >&2; exit 1;; esac";
    fs::write(&old, format!("#!/bin/sh\n{refuse}\nexec {} \"$@\"\n", ffmpeg.trim())).unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    let webm = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/video/files/browser.webm");
    let model = model_argument();
    let args = ["encode", webm.to_str().unwrap(), "-o", "l.safetensors", "--json", "--model", &model];
    let output = osp(folder.path()).args(args).env("PATH", folder.path()).assert().success().get_output().clone();
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(record["frames"], 17);
}

#[test]
fn a_latent_file_has_channels_first_and_the_rate_and_decodes_again() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("in.y4m"), 5, 32, 48);
    let model = model_argument();
    let args = ["encode", "in.y4m", "-o", "l.safetensors", "--model", &model];
    assert_eq!(succeeds(folder.path(), &args), "l.safetensors\n");
    let bytes = fs::read(folder.path().join("l.safetensors")).unwrap();
    assert_eq!(SafeTensors::deserialize(&bytes).unwrap().tensor("latent").unwrap().shape(), [1, 4, 2, 4, 6]);

    succeeds(folder.path(), &["decode", "l.safetensors", "-o", "out.y4m", "--model", &model]);
    let clip = read_clip(&folder.path().join("out.y4m"), &ReadOptions::default()).unwrap();
    assert_eq!((clip.frames, clip.height, clip.width, clip.fps.as_f64()), (5, 32, 48, 12.0));
    succeeds(folder.path(), &["decode", "l.safetensors", "-o", "fast.y4m", "--fps", "30000/1001", "--model", &model]);
    let clip = read_clip(&folder.path().join("fast.y4m"), &ReadOptions::default()).unwrap();
    assert_eq!((clip.fps.numerator(), clip.fps.denominator()), (30_000, 1001));
}

#[test]
fn the_mean_is_always_equal_and_a_sample_follows_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("in.png"), 1, 32, 32);
    let model = model_argument();
    let latent = |more: &[&str]| {
        let args = [&["encode", "in.png", "-o", "l.safetensors", "--model", &model], more].concat();
        succeeds(folder.path(), &args);
        fs::read(folder.path().join("l.safetensors")).unwrap()
    };
    let mean = latent(&["--mean"]);
    assert!(mean == latent(&["--mean"]));
    assert!(latent(&[]) == latent(&["--seed", "0"]));
    assert!(latent(&["--seed", "1"]) != latent(&["--seed", "0"]));
    assert!(latent(&["--seed", "0"]) != mean);
}

#[test]
fn tiles_change_the_result_only_where_they_are_needed() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("in.png"), 1, 32, 64);
    let model = model_argument();
    let latent = |more: &[&str]| {
        let args = [&["encode", "in.png", "-o", "l.safetensors", "--mean", "--model", &model], more].concat();
        succeeds(folder.path(), &args);
        fs::read(folder.path().join("l.safetensors")).unwrap()
    };
    let whole = latent(&["--no-tiling"]);
    assert!(latent(&[]) == whole, "the clip fits into one tile");
    assert!(latent(&["--tile-size", "32", "--tile-overlap", "0.5"]) != whole);
}

#[test]
fn a_vae_without_other_components_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("in.png"), 1, 32, 32);
    let vae = super::model().join("vae");
    succeeds(folder.path(), &["reconstruct", "in.png", "-o", "out.png", "--model", vae.to_str().unwrap()]);
}
