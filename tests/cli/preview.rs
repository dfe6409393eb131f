//! `osp sample --preview`: pictures of a video while it is made.

use super::weights::copy_of_the_model;
use super::{CACHE, fails, model_argument, names, osp, succeeds};
use osp::Clip;
use osp::video::{ReadOptions, read_clip};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a small `osp sample` with the model in `model`; returns its stderr.
fn sample(folder: &Path, model: &str, more: &[&str]) -> String {
    let args = ["sample", "--model", model, "--frames", "5", "--sampler", "DDIM", "--steps", "4"];
    let output = osp(folder).args(args).args(more).assert().success().get_output().clone();
    String::from_utf8(output.stderr).unwrap()
}

fn read(path: &Path) -> Clip {
    read_clip(path, &ReadOptions::default()).unwrap()
}

/// Whether a run said that it fitted the colours to the VAE.
fn fitted(said: &str) -> bool {
    said.contains("osp: previews: the VAE encodes a few small images")
}

/// A `preview.json` that draws the first three of four channels.
const COLOURS: &str = r#"{"weights": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], "bias": [0.5, 0.5, 0.5]}"#;

#[test]
fn a_preview_is_a_sheet_of_frames_and_changes_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = model_argument();
    sample(folder.path(), &model, &["a cat", "-o", "plain.y4m"]);
    assert!(fitted(&sample(folder.path(), &model, &["a cat", "-o", "seen.y4m", "--preview", "p.png"])));
    assert!(fs::read(at("plain.y4m")).unwrap() == fs::read(at("seen.y4m")).unwrap());
    // Two latent frames of 4x4 positions, each 8 pixels a side.
    let first = read(&at("p.png"));
    assert_eq!((first.frames, first.height, first.width), (1, 32, 2 * 32 + 4));
    assert!(first.pixels.iter().min() < first.pixels.iter().max());
    assert_eq!(names(folder.path()), ["p.png", "plain.y4m", "plain.y4m.json", "seen.y4m", "seen.y4m.json"]);
    // The colours come from the cache now, and an older preview is replaced.
    fs::write(at("p.png"), "old").unwrap();
    assert!(!fitted(&sample(folder.path(), &model, &["a cat", "-o", "seen.y4m", "--preview", "p.png"])));
    assert_eq!(read(&at("p.png")), first);
    assert!(fitted(&sample(folder.path(), &model, &["a cat", "-o", "seen.y4m", "--preview", "p.png", "--no-cache"])));
    assert_eq!(fs::read_dir(at(CACHE).join("osp/preview")).unwrap().count(), 1);
}

#[test]
fn the_last_preview_of_the_demo_model_looks_like_its_image() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["sample", "a large red circle on a blue background", "--frames", "1", "--steps", "10"];
    let output = osp(folder.path()).args(args).args(["-o", "a.png", "--preview", "p.png"]).assert().success();
    // The demo model comes with its colours.
    assert!(!fitted(&String::from_utf8_lossy(&output.get_output().stderr)));
    let [image, preview] = ["a.png", "p.png"].map(|name| read(&folder.path().join(name)));
    assert_eq!((preview.height, preview.width), (image.height, image.width));
    let found = correlation(&image.pixels, &preview.pixels);
    assert!(found > 0.8, "correlation {found:.3}");
}

/// Pearson's correlation of bytes.
fn correlation(a: &[u8], b: &[u8]) -> f64 {
    let mean = |of: &[u8]| of.iter().map(|byte| f64::from(*byte)).sum::<f64>() / of.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product = |x: &[u8], mean_x: f64, y: &[u8], mean_y: f64| {
        x.iter().zip(y).map(|(x, y)| (f64::from(*x) - mean_x) * (f64::from(*y) - mean_y)).sum::<f64>()
    };
    product(a, mean_a, b, mean_b) / (product(a, mean_a, a, mean_a) * product(b, mean_b, b, mean_b)).sqrt()
}

#[test]
fn several_videos_have_numbered_previews() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_argument();
    sample(folder.path(), &model, &["a cat", "a dog", "--preview", "p.png", "-o", "x.gif"]);
    let pictures = |folder: &Path| names(folder).into_iter().filter(|name| name.ends_with(".png")).collect::<Vec<_>>();
    assert_eq!(pictures(folder.path()), ["p-000.png", "p-001.png"]);
    let [cat, dog] = ["p-000.png", "p-001.png"].map(|name| read(&folder.path().join(name)));
    assert_ne!(cat, dog);
    // A list in a file, whose second video has another size.
    let list = "{\"prompt\": \"a cat\"}\n{\"prompt\": \"a dog\", \"size\": \"16x32\"}\n";
    fs::write(folder.path().join("list.jsonl"), list).unwrap();
    sample(folder.path(), &model, &["--prompts", "list.jsonl", "--preview", "q.png", "-o", "y.gif"]);
    assert_eq!(pictures(folder.path()), ["p-000.png", "p-001.png", "q-000.png", "q-001.png"]);
    assert_eq!(read(&folder.path().join("q-000.png")), cat);
    assert_eq!(read(&folder.path().join("q-001.png")).height, 16);
}

#[test]
fn previews_that_cannot_be_shown_are_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("list.png"), "a cat").unwrap();
    fs::create_dir(folder.path().join("folder.png")).unwrap();
    let model = model_argument();
    let small = ["sample", "--model", &model, "--frames", "1", "--size", "16x16", "--steps", "4"];
    let cases: [(&[&str], &[&str]); 8] = [
        (&["a cat", "--preview", "p.gif"], &["p.gif", ".png"]),
        (&["a cat", "--preview", "p"], &["'p'", ".png file, or terminal"]),
        (&["a cat", "--preview", "-"], &["'-'"]),
        (&["a cat", "--preview", "absent/p.png"], &["absent", "does not exist"]),
        (&["a cat", "--preview", "folder.png"], &["folder.png is a folder"]),
        (&["a cat", "--preview", "a.png"], &["output a.png would replace output a.png"]),
        (&["--prompts", "list.png", "--preview", "list.png"], &["list.png", "is an input"]),
        // Output of tests is no terminal.
        (
            &["a cat", "--preview", "terminal"],
            &["--preview terminal", "stderr", "not a terminal", "--preview FILE.png"],
        ),
    ];
    for (args, words) in cases {
        fails(folder.path(), &[&small, args, &["-o", "a.png"]].concat(), 2, words);
    }
    let mut command = osp(folder.path());
    let output = command.env("NO_COLOR", "1").args(small).args(["a cat", "--preview", "terminal"]).assert().code(2);
    let said = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(said.starts_with("osp: error: --preview terminal") && said.contains("NO_COLOR"), "{said}");
    let events = [&small[..], &["a cat", "--preview", "terminal", "--progress", "json"]].concat();
    let output = osp(folder.path()).args(events).assert().code(2);
    assert!(String::from_utf8_lossy(&output.get_output().stderr).contains("holds events"));
}

#[test]
fn the_colours_beside_the_vae_are_used_checked_and_converted() {
    let model = copy_of_the_model();
    let (folder, file) = (tempfile::tempdir().unwrap(), model.path().join("vae/preview.json"));
    let path = model.path().to_str().unwrap();
    fs::write(&file, COLOURS).unwrap();
    assert!(!fitted(&sample(folder.path(), path, &["a cat", "--preview", "p.png", "-o", "a.gif"])));
    assert!(!folder.path().join(CACHE).join("osp/preview").exists());
    succeeds(folder.path(), &["convert", path, "-o", "converted"]);
    assert_eq!(fs::read_to_string(folder.path().join("converted/vae/preview.json")).unwrap(), COLOURS);
    // A file of the model is never replaced.
    let args = ["sample", "a cat", "--model", path, "--preview", "p.png", "-o", "new.gif"];
    for (damaged, words) in [
        (COLOURS.replace("[1, 0, 0, 0]", "[1, 0, 0]"), "weights of red are 3, but the VAE's latents have 4 channels"),
        (COLOURS.replace("0.5, 0.5, 0.5", "0.5, 0.5"), "invalid length 2"),
        (COLOURS.replace("0.5, 0.5, 0.5", "0.5, 0.5, 1e39"), "a number is too large"),
        (COLOURS.replace("bias", "base"), "unknown field `base`"),
        (COLOURS[..40].to_owned(), "EOF"),
    ] {
        fs::write(&file, &damaged).unwrap();
        fails(folder.path(), &args, 5, &["preview.json", words]);
        fails(folder.path(), &["convert", path, "-o", "again"], 5, &["preview.json", words]);
    }
    // Without previews nothing reads it.
    sample(folder.path(), path, &["a cat", "-o", "a.gif"]);
}

#[test]
fn a_cache_that_is_not_writable_and_a_preview_in_the_way_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(CACHE), "a file").unwrap();
    let said = sample(folder.path(), &model_argument(), &["a cat", "--preview", "p.png", "-o", "a.gif"]);
    let warnings = said.lines().filter(|line| line.contains("warning: the colours of previews are not cached"));
    assert_eq!(warnings.count(), 1, "{said}");
    assert!(folder.path().join("p.png").exists());
    fs::remove_file(folder.path().join(CACHE)).unwrap();

    // Somebody puts a folder in the place of the preview while the run works.
    let place = folder.path().join("q.png");
    let mut command = Command::new(osp(folder.path()).get_program());
    command.args(["sample", "a cat", "--model", &model_argument(), "--sampler", "DDIM", "--steps", "100"]);
    command.args(["-o", "b.gif", "--preview", "q.png"]).current_dir(folder.path()).stderr(Stdio::piped());
    let child = command.env("XDG_CACHE_HOME", folder.path().join(CACHE)).stdout(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while !place.is_dir() {
        assert!(begin.elapsed() < Duration::from_secs(100), "there never was a preview");
        if fs::remove_file(&place).is_ok() {
            // If the next preview is faster, it is removed, too.
            let _ = fs::create_dir(&place);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("warning: there are no more previews")).count(), 1, "{said}");
    assert!(folder.path().join("b.gif").exists());
}
