//! `osp compare`: its figures, its picture, and clips that cannot be compared.

use super::{clip, fails, model_argument, names, osp, succeeds, write};
use osp::video::{Clip, FrameRate, ReadOptions, VideoInfo, read_clip, write_clip};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The record of a comparison.
fn compared(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&succeeds(folder, &[&["compare"], args, &["--json"]].concat())).unwrap()
}

/// Writes [`clip`] in a folder of PNGs, and the same with two frames changed, as `a` and `b`. The third frame is the worst.
fn pair(folder: &Path) {
    let (a, mut pixels) = (clip(5, 24, 32), clip(5, 24, 32).pixels);
    let frame = a.info().frame_bytes();
    pixels[frame..2 * frame].iter_mut().for_each(|level| *level ^= 1);
    pixels[2 * frame..3 * frame].iter_mut().step_by(7).for_each(|level| *level ^= 32);
    write_clip(&folder.join("a"), &a).unwrap();
    write_clip(&folder.join("b"), &Clip::new(a.info(), pixels).unwrap()).unwrap();
}

#[test]
fn the_table_has_every_frame_and_the_warp_error_of_both() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path());
    let text = succeeds(folder.path(), &["compare", "a", "b"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 5 + 1 + 2, "{text}");
    assert!(lines[0].contains("PSNR dB") && lines[0].contains("SSIM"), "{text}");
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["0", "inf", "1.0000"]);
    assert!(lines[2].contains("48.13") && lines[6].trim_start().starts_with("all"), "{text}");
    for (line, name) in [(lines[7], "a (A)"), (lines[8], "b (B)")] {
        assert!(line.starts_with("warp error ") && line.contains(name) && line.contains("motion of A"), "{text}");
    }
    assert_eq!(names(folder.path()), ["a", "b"]);
}

#[test]
fn json_has_both_measures_the_worst_frame_and_null_for_infinity() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path());
    let record = compared(folder.path(), &["a", "b"]);
    assert_eq!([&record["a"], &record["b"]], [&json!("a"), &json!("b")]);
    let size = [&record["frames"], &record["height"], &record["width"]].map(|value| value.as_u64().unwrap());
    assert_eq!((size, &record["fps"]), ([5, 24, 32], &json!([24.0, 24.0])));
    let psnr = &record["psnr"];
    assert_eq!([&psnr["frames"][0], &psnr["frames"][3], &psnr["frames"][4]], [&Value::Null; 3]);
    let decibels = |error: f64| 10.0 * (255.0 * 255.0 / error).log10();
    // Every seventh of 24·32·3 levels differs by 32.
    let of_third = 330.0 * 1024.0 / 2304.0;
    for (found, error) in
        [(&psnr["frames"][1], 1.0), (&psnr["frames"][2], of_third), (&psnr["overall"], (1.0 + of_third) / 5.0)]
    {
        assert!((found.as_f64().unwrap() - decibels(error)).abs() < 1e-9, "{psnr}");
    }
    assert_eq!((&record["worst_frame"], &record["ssim"]["frames"][0]), (&json!(2), &json!(1.0)));
    let [a, b] = ["a", "b"].map(|name| record["warp_error"][name].as_f64().unwrap());
    assert!(a < b, "B has errors that move with nothing: {a} {b}");
}

#[test]
fn the_figures_are_those_of_reconstruct() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("in.y4m"), 5, 32, 48);
    // A folder of PNGs loses nothing.
    let args = ["reconstruct", "in.y4m", "-o", "again", "--json", "--model", &model_argument()];
    let record: Value = serde_json::from_str(&succeeds(folder.path(), &args)).unwrap();
    let compared = compared(folder.path(), &["in.y4m", "again"]);
    for key in ["psnr", "ssim", "frames", "height", "width"] {
        assert_eq!(compared[key], record[key], "{key}");
    }
    assert!(record["psnr"]["overall"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_picture_has_both_curves_and_the_worst_frames() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path());
    let text = succeeds(folder.path(), &["compare", "a", "b", "--svg", "c.svg"]);
    assert_eq!(text, succeeds(folder.path(), &["compare", "a", "b"]));
    let svg = fs::read_to_string(folder.path().join("c.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<polyline").count(), 2);
    assert_eq!(svg.matches("href=\"data:image/png;base64,iVBORw0KGgo").count(), 3);
    for words in ["PSNR in dB", "SSIM", "frame 2", "infinite PSNR", "top edge", "∞", "|A − B| × 4"] {
        assert!(svg.contains(words), "{words}");
    }
    assert_eq!(names(folder.path()), ["a", "b", "c.svg"]);
    // Without infinite values the legend does not speak of them.
    fs::remove_dir_all(folder.path().join("b")).unwrap();
    let negative = clip(5, 24, 32).pixels.iter().map(|level| 255 - level).collect();
    write_clip(&folder.path().join("b"), &Clip::new(clip(5, 24, 32).info(), negative).unwrap()).unwrap();
    succeeds(folder.path(), &["compare", "a", "b", "--svg", "c.svg"]);
    let svg = fs::read_to_string(folder.path().join("c.svg")).unwrap();
    assert!(!svg.contains("infinite") && !svg.contains('∞') && !svg.contains("NaN"));
}

#[test]
fn names_of_files_cannot_break_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a<b>&\u{1}.png"), 1, 16, 16);
    succeeds(folder.path(), &["compare", "a<b>&\u{1}.png", "a<b>&\u{1}.png", "--svg", "c.svg"]);
    let svg = fs::read_to_string(folder.path().join("c.svg")).unwrap();
    assert!(svg.contains("a&lt;b&gt;&amp; .png") && !svg.contains('\u{1}') && !svg.contains("a<b>"), "{svg}");
}

#[test]
fn a_clip_is_equal_to_itself_and_an_image_has_no_warp_error() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.png"), 1, 16, 16);
    let record = compared(folder.path(), &["a.png", "a.png", "--svg", "c.svg"]);
    assert_eq!(record["psnr"], json!({ "overall": null, "frames": [null] }));
    assert_eq!(record["ssim"], json!({ "overall": 1.0, "frames": [1.0] }));
    assert_eq!((&record["warp_error"], &record["worst_frame"]), (&json!({ "a": null, "b": null }), &json!(0)));
    let text = succeeds(folder.path(), &["compare", "a.png", "a.png"]);
    assert!(text.contains("inf") && text.contains("none") && text.contains("one frame"), "{text}");
    let svg = fs::read_to_string(folder.path().join("c.svg")).unwrap();
    assert!(svg.contains("no difference") && !svg.contains("NaN"), "{svg}");
}

#[test]
fn one_clip_may_come_from_stdin() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.y4m"), 5, 16, 16);
    let bytes = fs::read(folder.path().join("a.y4m")).unwrap();
    for args in [["-", "a.y4m"], ["a.y4m", "-"]] {
        let mut command = osp(folder.path());
        let output = command.arg("compare").args(args).arg("--json").write_stdin(bytes.clone()).assert().success();
        let record: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
        assert_eq!((&record["psnr"]["overall"], &record["frames"]), (&Value::Null, &json!(5)));
    }
    fails(folder.path(), &["compare", "-", "-"], 2, &["-", "stdin", "name a file"]);
}

#[test]
fn frame_rates_that_differ_are_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(3, 16, 16);
    let fast = VideoInfo { fps: FrameRate::new(30, 1).unwrap(), ..clip.info() };
    write_clip(&folder.path().join("a.y4m"), &clip).unwrap();
    write_clip(&folder.path().join("b.y4m"), &Clip::new(fast, clip.pixels).unwrap()).unwrap();
    let output = osp(folder.path()).args(["compare", "a.y4m", "b.y4m"]).assert().success().get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("12 frames/s") && said.contains("30") && said.lines().count() == 1, "{said}");
    assert_eq!(compared(folder.path(), &["a.y4m", "b.y4m"])["fps"], json!([12.0, 30.0]));
}

#[test]
fn clips_of_other_sizes_and_lengths_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.y4m"), 5, 16, 24);
    write(&folder.path().join("turned.y4m"), 5, 24, 16);
    write(&folder.path().join("long.y4m"), 7, 16, 24);
    let sizes = ["turned.y4m", "24x16", "16x24", "a.y4m", "not resized"];
    fails(folder.path(), &["compare", "a.y4m", "turned.y4m", "--svg", "c.svg"], 1, &sizes);
    fails(folder.path(), &["compare", "a.y4m", "turned.y4m", "--max-frames", "1"], 1, &sizes);
    let lengths = ["long.y4m", "7 frames of 16x24", "5", "a.y4m", "--max-frames 5"];
    fails(folder.path(), &["compare", "a.y4m", "long.y4m", "--svg", "c.svg"], 1, &lengths);
    fails(folder.path(), &["compare", "long.y4m", "a.y4m", "--json"], 1, &["5 frames", "7", "--max-frames 5"]);
    fails(
        folder.path(),
        &["compare", "long.y4m", "a.y4m", "--max-frames", "6"],
        1,
        &["5 frames", "6 as from long.y4m"],
    );
    assert_eq!(compared(folder.path(), &["a.y4m", "long.y4m", "--max-frames", "5"])["frames"], 5);
    assert_eq!(compared(folder.path(), &["a.y4m", "long.y4m", "--max-frames", "2"])["frames"], 2);
}

#[test]
fn inputs_and_outputs_that_cannot_work_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("a.y4m"), 3, 16, 16);
    // The content decides what a file is.
    fs::copy(at("a.y4m"), at("a.svg")).unwrap();
    fs::hard_link(at("a.y4m"), at("hard.svg")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir(at("folder.svg")).unwrap();
    fs::write(at("nothing.mp4"), "").unwrap();
    fs::write(at("text.mp4"), "this is no video").unwrap();
    let whole = fs::read(at("a.y4m")).unwrap();
    fs::write(at("cut.y4m"), &whole[..whole.len() - 9]).unwrap();
    let cases: [(&[&str], i32, &[&str]); 15] = [
        (&[], 2, &["A", "B"]),
        (&["a.y4m"], 2, &["B"]),
        (&["a.y4m", "absent.mp4"], 1, &["cannot open", "absent.mp4"]),
        (&["absent.mp4", "a.y4m"], 1, &["cannot open", "absent.mp4"]),
        (&["a.y4m", "empty"], 1, &["empty", ".png"]),
        (&["a.y4m", "nothing.mp4"], 1, &["nothing.mp4", "0 bytes"]),
        (&["text.mp4", "a.y4m"], 1, &["text.mp4"]),
        (&["a.y4m", "cut.y4m"], 1, &["cut.y4m"]),
        (&["a.y4m", "a.y4m", "--max-frames", "0"], 2, &["--max-frames 0"]),
        (&["a.svg", "a.y4m", "--svg", "a.svg"], 2, &["a.svg", "is an input"]),
        (&["a.y4m", "a.svg", "--svg", "hard.svg"], 2, &["hard.svg", "is an input"]),
        (&["a.y4m", "a.y4m", "--svg", "absent/c.svg"], 2, &["absent"]),
        (&["a.y4m", "a.y4m", "--svg", "c.png"], 2, &["c.png", ".svg"]),
        (&["a.y4m", "a.y4m", "--svg", "folder.svg"], 2, &["folder.svg", "is a folder"]),
        (&["a.y4m", "a.y4m", "--size", "8x8"], 2, &["--size"]),
    ];
    for (args, code, words) in cases {
        fails(folder.path(), &[&["compare"], args].concat(), code, words);
    }
    assert_eq!(read_clip(&at("a.svg"), &ReadOptions::default()).unwrap().frames, 3);
}
