//! Shortcuts of the sampler and `osp calibrate`: what a run says about them, and what is refused.

use super::weights::copy_of_the_model;
use super::{fails, model_argument, osp, succeeds};
use serde_json::Value;
use std::fs;
use std::path::Path;

const REQUEST: [&str; 9] = ["sample", "a cat", "--sampler", "DDIM", "--steps", "8", "--guidance", "3", "--model"];

/// The record of a run with `more` options.
fn record(folder: &Path, model: &str, more: &[&str]) -> Value {
    let args = [&REQUEST[..], &[model, "--json"], more].concat();
    serde_json::from_str(&succeeds(folder, &args)).unwrap()
}

#[test]
fn records_say_what_was_left_out_and_latents_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let model = model_argument();
    let made = |output: &str, more: &[&str]| {
        let latent = format!("{output}.safetensors");
        record(folder.path(), &model, &[&["-o", output, "--save-latent", &latent], more].concat())
    };
    let exact = made("a.mp4", &[]);
    assert_eq!((&exact["evaluations"], exact.get("shortcuts")), (&16.into(), None));
    let zero = made("b.mp4", &["--cache", "teacache:0", "--guidance-reuse", "1"]);
    assert_eq!((&zero["evaluations"], &zero["shortcuts"]["cache"]["teacache"]["threshold"]), (&16.into(), &0.0.into()));
    assert_eq!(fs::read(path("a.mp4.safetensors")).unwrap(), fs::read(path("b.mp4.safetensors")).unwrap());
    let some = made("c.mp4", &["--cache", "taylor:3", "--guidance-interval", "0.2-1"]);
    assert_ne!(fs::read(path("a.mp4.safetensors")).unwrap(), fs::read(path("c.mp4.safetensors")).unwrap());
    // The two calls of the beginning, the fifth and the last are evaluated; the last has less noise than is guided.
    assert_eq!(some["evaluations"], 2 * 3 + 1);
    let info = succeeds(folder.path(), &["info", "c.mp4"]);
    assert!(info.contains("guidance 3, cache taylor:3, guided in 0.2-1"), "{info}");
    // A repetition takes the same shortcuts, unless others are asked for.
    let again = ["sample", "--like", "c.mp4", "--model", &model, "--json", "-o", "d.mp4"];
    let like: Value = serde_json::from_str(&succeeds(folder.path(), &again)).unwrap();
    assert_eq!((&like["shortcuts"], &like["fingerprint"]), (&some["shortcuts"], &some["fingerprint"]));
    let other = [&again[..], &["--cache", "taylor:1", "--guidance-interval", "0-1"]].concat();
    let other: Value = serde_json::from_str(&succeeds(folder.path(), &other)).unwrap();
    assert_eq!(other["evaluations"], 16);
}

#[test]
fn a_calibrated_model_has_coefficients_for_every_cache() {
    let (copy, folder) = (copy_of_the_model(), tempfile::tempdir().unwrap());
    let model = copy.path().to_str().unwrap();
    let caches = ["teacache", "magcache:0.5"];
    for cache in caches {
        let args = [&REQUEST[..], &[model, "--cache", cache, "-o", "out.mp4"]].concat();
        fails(folder.path(), &args, 2, &["no coefficients for", cache, "osp calibrate"]);
    }
    let calibrate = ["calibrate", "a cat", "a dog", "--sampler", "DDIM", "--steps", "8", "--model", model];
    let elsewhere = [&calibrate[..], &["-o", "cal.json", "--json"]].concat();
    let result: Value = serde_json::from_str(&succeeds(folder.path(), &elsewhere)).unwrap();
    assert_eq!((&result["pairs"], &result["output"]), (&14.into(), &"cal.json".into()));
    let printed = succeeds(folder.path(), &calibrate);
    let file = Path::new(printed.trim());
    assert!(file.ends_with("transformer/calibration.json"), "{printed}");
    assert_eq!(fs::read(file).unwrap(), fs::read(folder.path().join("cal.json")).unwrap());
    for cache in caches {
        let made = record(folder.path(), model, &["-o", "out.mp4", "--cache", cache]);
        assert!(made["shortcuts"]["cache"].is_object() && made["evaluations"].as_u64().unwrap() <= 16, "{made}");
    }
    // Anew, over the old file.
    succeeds(folder.path(), &calibrate);
    // A damaged file stops only a run that needs it, and can be replaced.
    fs::write(file, "{}").unwrap();
    succeeds(folder.path(), &[&REQUEST[..], &[model, "-o", "out.mp4"]].concat());
    let args = [&REQUEST[..], &[model, "-o", "out.mp4", "--cache", "teacache"]].concat();
    fails(folder.path(), &args, 5, &["calibration.json", "missing field", "osp calibrate"]);
    succeeds(folder.path(), &calibrate);
    succeeds(folder.path(), &args);
}

#[test]
fn shortcuts_that_make_no_sense_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_argument();
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--cache", "tea"], &["--cache", "expected teacache[:THRESHOLD]", "taylor[:CALLS]"]),
        (&["--cache", "teacache:x"], &["--cache", "expected teacache"]),
        (&["--cache", "taylor:0"], &["--cache", "1 to 1000 calls"]),
        (&["--cache", "magcache:-1"], &["--cache", "a threshold of at least 0"]),
        (&["--guidance-reuse", "0"], &["reused for 0 calls"]),
        (&["--guidance-reuse", "x"], &["--guidance-reuse"]),
        (&["--guidance-interval", "0.5"], &["--guidance-interval", "two shares"]),
        (&["--guidance-interval", "0.9-0.2"], &["between 0.9 and 0.2", "0 (clean) to 1 (noise)"]),
        (&["--guidance-interval", "0-2"], &["between 0 and 2"]),
    ];
    for (options, words) in cases {
        let args = [&REQUEST[..], &[&model, "-o", "out.mp4"], options].concat();
        fails(folder.path(), &args, 2, words);
    }
    let unguided = ["sample", "a cat", "--steps", "4", "--guidance", "1", "--guidance-reuse", "2", "--model", &model];
    let output = osp(folder.path()).args(unguided).args(["-o", "out.mp4"]).assert().success().get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("--guidance-interval change nothing without guidance"));
    let few = ["calibrate", "a cat", "--sampler", "DDIM", "--steps", "3", "--model", &model, "-o", "cal.json"];
    fails(folder.path(), &few, 2, &["2 pairs of steps are too few"]);
    let weights = ["calibrate", "a cat", "--model", &model, "-o", "cal.txt"];
    fails(folder.path(), &weights, 2, &["cal.txt", "json"]);
    osp(folder.path()).args(["sample", "--resume", "x.state", "--cache", "taylor"]).assert().code(2);
}
