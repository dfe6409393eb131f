//! Edits of clips.

use super::{clip, fails, model_argument, names, succeeds, write};
use osp::video::{Clip, ReadOptions, VideoInfo, read_clip, write_clip};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Runs an edit of the tiny model in few steps.
fn edit(folder: &Path, input: &str, args: &[&str]) {
    succeeds(folder, &arguments(input, args).iter().map(String::as_str).collect::<Vec<_>>());
}

fn arguments(input: &str, args: &[&str]) -> Vec<String> {
    let fixed = ["edit", input, "--model", &model_argument(), "--device", "cpu"].map(str::to_owned);
    let sampler = if args.contains(&"--sampler") { &[][..] } else { &["--sampler", "DDIM"] };
    let fixed = fixed.into_iter().chain(["--steps", "5"].iter().chain(sampler).map(|&word| word.to_owned()));
    fixed.chain(args.iter().map(|&arg| arg.to_owned())).collect()
}

/// Checks that an edit fails with one line.
#[track_caller]
fn refused(folder: &Path, input: &str, args: &[&str], code: i32, words: &[&str]) {
    let args = arguments(input, args);
    fails(folder, &args.iter().map(String::as_str).collect::<Vec<_>>(), code, words);
}

fn read(folder: &Path, name: &str) -> Clip {
    read_clip(&folder.join(name), &ReadOptions::default()).unwrap()
}

fn json(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
}

#[test]
fn size_rate_and_length_are_kept_and_what_is_cut_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("clip.y4m"), 9, 32, 48);
    edit(folder.path(), "clip.y4m", &["a cat", "-o", "out.y4m"]);
    let made = read(folder.path(), "out.y4m");
    assert_eq!((made.frames, made.height, made.width, made.fps), (9, 32, 48, clip(1, 8, 8).fps));
    let record = json(folder.path(), "out.y4m.json");
    assert_eq!((&record["edit"]["strength"], &record["model_calls"]), (&0.5.into(), &3.into()));
    assert_eq!(record["footage"]["input"], at("clip.y4m").to_str().unwrap());
    assert!(record["seconds"]["encode"].as_f64().unwrap() > 0.0);
    let stages: Vec<_> = record["memory"].as_array().unwrap().iter().map(|memory| memory["stage"].clone()).collect();
    assert_eq!(stages, ["text", "encode", "denoise", "decode"]);

    write(&at("odd.y4m"), 7, 35, 50);
    let args = arguments("odd.y4m", &["a cat", "-o", "odd.gif"]);
    let output = super::osp(folder.path()).args(args).assert().success().get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    for cut in ["using 5 of 7 frames", "using the middle 32x48 of 35x50 pixels"] {
        assert!(said.contains(cut), "{said}");
    }
    edit(folder.path(), "odd.y4m", &["a cat", "--size", "16x32", "--max-frames", "1", "--fps", "5", "-o", "image.png"]);
    assert_eq!(
        (read(folder.path(), "image.png").height, json(folder.path(), "image.png.json")["fps"].as_f64()),
        (16, Some(5.0))
    );
}

#[test]
fn outside_of_a_mask_pixels_are_the_input_s() {
    let folder = tempfile::tempdir().unwrap();
    let original = clip(5, 32, 48);
    write_clip(&folder.path().join("clip"), &original).unwrap();
    // The same mask in three forms.
    let inside = |t: usize, y: usize, x: usize| t > 0 && (8..24).contains(&y) && (16..40).contains(&x);
    let info = original.info();
    let white = |frames: usize, first: usize| {
        let byte = |i: usize| if inside(first + i / (32 * 48 * 3), i / 3 / 48 % 32, i / 3 % 48) { 255 } else { 0 };
        Clip::new(info, (0..frames * info.frame_bytes()).map(byte).collect()).unwrap()
    };
    write_clip(&folder.path().join("mask"), &white(5, 0)).unwrap();
    write_clip(&folder.path().join("mask.png"), &white(1, 1)).unwrap();
    let masked = |mask: &str, name: &str| {
        edit(folder.path(), "clip", &["a dog", "--mask", mask, "--feather", "2", "-o", name]);
        read(folder.path(), name)
    };
    let made = masked("16,8,24,16@1-4", "a");
    assert!(made.pixels == masked("mask", "b").pixels);
    let changed = |made: &Clip, t: usize, y: usize, x: usize| {
        let at = ((t * 32 + y) * 48 + x) * 3;
        made.pixels[at..at + 3] != original.pixels[at..at + 3]
    };
    let all = || (0..5 * 32 * 48).map(|i| [i / (32 * 48), i / 48 % 32, i % 48]);
    assert!(all().all(|[t, y, x]| inside(t, y, x) || !changed(&made, t, y, x)));
    assert!(all().filter(|&[t, y, x]| changed(&made, t, y, x)).count() > 100);
    let made = masked("mask.png", "c");
    assert!(all().all(|[t, y, x]| inside(1, y, x) || !changed(&made, t, y, x)), "an image is the mask of every frame");
    assert!(all().any(|[t, y, x]| t == 0 && changed(&made, t, y, x)));
    assert_eq!(json(folder.path(), "a.json")["footage"]["mask"], "16,8,24,16@1-4");
}

#[test]
fn a_clip_that_osp_made_says_what_it_shows() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("clip.y4m"), 5, 16, 32);
    edit(folder.path(), "clip.y4m", &["a cat", "--method", "delta", "--source", "a dog", "-o", "cat.gif"]);
    let record = json(folder.path(), "cat.gif.json");
    assert_eq!(record["edit"]["method"]["delta"]["source"], "a dog");
    let info = succeeds(folder.path(), &["info", "cat.gif"]);
    assert!(info.contains(", delta from \"a dog\", strength 0.5"), "{info}");
    // The GIF has the prompt that it was made of.
    edit(
        folder.path(),
        "cat.gif",
        &["a bird", "--method", "inversion", "--sampler", "PNDM", "--strength", "0.8", "-o", "bird.gif"],
    );
    assert_eq!(json(folder.path(), "bird.gif.json")["edit"]["method"]["inversion"]["source"], "a cat");
    edit(folder.path(), "cat.gif", &["--like", "bird.gif", "--sampler", "PNDM", "-o", "again.gif"]);
    assert!(fs::read(at("bird.gif")).unwrap() == fs::read(at("again.gif")).unwrap());
    // What is typed changes a part of what is repeated.
    edit(folder.path(), "clip.y4m", &["--like", "bird.gif", "--sampler", "PNDM", "--source", "a fox", "-o", "fox.gif"]);
    assert_eq!(json(folder.path(), "fox.gif.json")["edit"]["method"]["inversion"]["source"], "a fox");
    edit(folder.path(), "clip.y4m", &["--like", "bird.gif", "--method", "delta", "-o", "delta.gif"]);
    assert_eq!(json(folder.path(), "delta.gif.json")["edit"]["method"]["delta"]["source"], "a cat");
}

#[test]
fn edits_are_repeated_and_made_from_lists() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("clip.y4m"), 5, 16, 32);
    write(&at("other.y4m"), 5, 32, 32);
    write(&at("image.png"), 1, 16, 32);
    let asked = ["a cat", "--strength", "0.6", "--mask", "0,0,16,16", "--first-frame", "image.png", "--seed", "4"];
    edit(folder.path(), "clip.y4m", &[&asked[..], &["-o", "a.gif"]].concat());
    let info = succeeds(folder.path(), &["info", "a.gif"]);
    assert!(info.contains("DDIM in 5 steps, guidance") && info.contains(", strength 0.6, with a mask"), "{info}");
    let again = ["--like", "a.gif", "--mask", "0,0,16,16", "--first-frame", "image.png", "-o", "b.gif"];
    edit(folder.path(), "clip.y4m", &again);
    assert!(fs::read(at("a.gif")).unwrap() == fs::read(at("b.gif")).unwrap());
    let sample = ["sample", "--like", "a.gif", "--model", &model_argument(), "-o", "c.gif"];
    fails(folder.path(), &sample, 2, &["is an edit", "osp edit INPUT"]);

    fs::write(at("list.txt"), "a cat\na dog\n").unwrap();
    let list = ["--prompts", "list.txt", "-o", "l.gif"];
    edit(folder.path(), "clip.y4m", &list);
    let made = [fs::read(at("l-000.gif")).unwrap(), fs::read(at("l-001.gif")).unwrap()];
    assert!(made[0] != made[1]);
    // What is there is left, and another clip makes it anew.
    let dry = |input: &str| {
        let args = arguments(input, &[&list[..], &["--dry-run"]].concat());
        succeeds(folder.path(), &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(dry("clip.y4m").lines().all(|line| line.starts_with("leave  ") && line.ends_with(", strength 0.5")));
    assert!(dry("other.y4m").lines().all(|line| line.starts_with("make   ")));
    fs::write(at("sized.jsonl"), "{\"prompt\": \"a cat\", \"size\": \"16x16\"}").unwrap();
    let sized = ["--prompts", "sized.jsonl", "-o", "s.gif"];
    refused(folder.path(), "clip.y4m", &sized, 2, &["the clip decides the frames and the size"]);
}

#[test]
fn frames_are_added_behind_a_clip() {
    let folder = tempfile::tempdir().unwrap();
    let original = clip(17, 16, 32);
    write_clip(&folder.path().join("clip"), &original).unwrap();
    let args = arguments("clip", &["a cat", "--extend", "8", "-o", "longer"]);
    let output = super::osp(folder.path()).args(args).assert().success().get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("25 frames are made in spans of 17"), "{said}");
    let made = read(folder.path(), "longer");
    assert!(made.frames == 25 && made.pixels.starts_with(&original.pixels));
    let info = succeeds(folder.path(), &["info", "longer"]);
    assert!(info.contains("in spans of 17, the last 8 behind a clip"), "{info}");
    edit(folder.path(), "clip", &["--like", "longer", "--extend", "8", "-o", "again"]);
    assert!(read(folder.path(), "again").pixels == made.pixels);
    for (args, words) in [
        (&["--extend", "6"][..], &["a multiple of 4, such as 8"][..]),
        (&["--extend", "0"], &["a multiple of 4"]),
        (&["--extend", "4", "--strength", "0.5"], &["--extend", "--strength"]),
        (&["--extend", "4", "--mask", "0,0,4,4"], &["--extend", "--mask"]),
        (&["--span", "4"], &["--span"]),
        (&["--extend", "8", "--span", "6"], &["the nearest are 5 and 9"]),
    ] {
        refused(folder.path(), "clip", &[&["a cat", "-o", "out.gif"], args].concat(), 2, words);
    }
}

#[test]
fn videos_of_513_frames_are_made_in_spans() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_argument();
    let sample = ["sample", "a cat", "--model", &model, "--device", "cpu", "--steps", "2", "--sampler", "DDIM"];
    succeeds(folder.path(), &[&sample[..], &["--frames", "513", "--size", "16x16", "-o", "long.y4m"]].concat());
    assert_eq!(read(folder.path(), "long.y4m").frames, 513);
    let record = json(folder.path(), "long.y4m.json");
    assert_eq!((&record["frames"], &record["model_calls"]), (&513.into(), &2.into()));
}

#[test]
fn an_image_begins_a_video() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("image.png"), 1, 20, 30);
    write(&at("clip.y4m"), 5, 16, 32);
    let model = model_argument();
    let sample = ["sample", "a cat", "--model", &model, "--device", "cpu", "--steps", "4", "--init-image"];
    let sized = ["--frames", "5", "--size", "16x32", "-o", "out.gif"];
    succeeds(folder.path(), &[&sample[..], &["image.png"], &sized].concat());
    let record = json(folder.path(), "out.gif.json");
    assert_eq!(record["footage"]["init_image"], at("image.png").to_str().unwrap());
    assert_eq!((&record["edit"]["strength"], &record["model_calls"]), (&1.0.into(), &13.into()));
    let info = succeeds(folder.path(), &["info", "out.gif"]);
    assert!(info.contains(", from an image"), "{info}");
    fails(folder.path(), &[&sample[..], &["clip.y4m"], &sized].concat(), 1, &["clip.y4m", "several frames"]);
    fails(folder.path(), &[&sample[..], &["absent.png"], &sized].concat(), 1, &["absent.png"]);
    fails(folder.path(), &[&sample[..], &["image.png", "-o", "image.png"]].concat(), 2, &["image.png", "input"]);
}

#[test]
fn nonsense_is_refused_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("clip.y4m"), 5, 16, 32);
    write(&at("small.y4m"), 5, 8, 8);
    write(&at("long.y4m"), 3, 16, 32);
    let black = Clip::new(VideoInfo { height: 16, width: 32, ..clip(1, 8, 8).info() }, vec![0; 16 * 32 * 3]).unwrap();
    write_clip(&at("black.png"), &black).unwrap();
    fs::write(at("text.png"), "no image").unwrap();
    let out = ["-o", "out.gif"];
    for (args, code, words) in [
        (&["a cat", "--strength", "0"][..], 2, &["--strength", "above 0 and at most 1"][..]),
        (&["a cat", "--strength", "1.5"], 2, &["--strength", "1.5"]),
        (&["a cat", "--strength", "-1"], 2, &["--strength", "-1"]),
        (&["a cat", "--strength", "nan"], 2, &["--strength"]),
        (&["a cat", "--strength", "0.05"], 2, &["0.05 makes 0 of 5 steps", "0.1 or more"]),
        (&["a cat", "--sampler", "PNDM", "--strength", "0.5"], 2, &["PNDM needs 4", "0.7 or more"]),
        (&["a cat", "--method", "magic"], 2, &["--method", "magic", "inversion"]),
        (&["a cat", "--method", "delta"], 2, &["needs --source", "what the clip shows"]),
        (&["a cat", "--source", "a dog"], 2, &["--source serves the methods inversion and delta"]),
        (&["a cat", "--method", "delta", "--source", ""], 2, &["source prompt"]),
        (
            &["a cat", "--method", "inversion", "--source", "a dog", "--sampler", "DDIM"],
            2,
            &["DDIM adds noise or clamps", "EulerDiscrete"],
        ),
        (
            &["a cat", "--method", "delta", "--source", "a dog", "--cache", "taylor"],
            2,
            &["delta can reuse no prediction"],
        ),
        (&["a cat", "--method", "delta", "--source", "a dog", "--extend", "4"], 2, &["--extend", "--method"]),
        (&["a cat", "--mask", "0,0,0,5"], 2, &["--mask", "no pixels"]),
        (&["a cat", "--mask", "0,0,5,5@3-2"], 2, &["--mask", "@"]),
        (&["a cat", "--mask", "20,0,13,5"], 2, &["reaches beyond the input", "32 pixels wide and 16 high"]),
        (&["a cat", "--mask", "0,0,5,5@3-5"], 2, &["frames 3 to 5", "is 4"]),
        (&["a cat", "--mask", "absent.png"], 1, &["absent.png"]),
        (&["a cat", "--mask", "text.png"], 1, &["text.png"]),
        (&["a cat", "--mask", "small.y4m"], 1, &["small.y4m", "has 8x8 pixels", "16x32"]),
        (&["a cat", "--mask", "long.y4m"], 1, &["long.y4m", "has 3 frames", "the clip's 5 frames"]),
        (&["a cat", "--mask", "black.png"], 2, &["selects no pixel"]),
        (&["a cat", "--feather", "3"], 2, &["--mask"]),
        (&["a cat", "--first-frame", "clip.y4m"], 1, &["clip.y4m", "several frames"]),
        (&["a cat", "--size", "24x24"], 2, &["multiples of 16"]),
        (&["a cat", "--max-frames", "0"], 2, &["--max-frames 0"]),
        (&["--prompts", "absent.txt"], 1, &["absent.txt"]),
        (&[], 2, &["no prompt is given"]),
    ] {
        refused(folder.path(), "clip.y4m", &[args, &out].concat(), code, words);
    }
    refused(folder.path(), "absent.mp4", &["a cat", "-o", "out.gif"], 1, &["absent.mp4"]);
    refused(folder.path(), "small.y4m", &["a cat", "-o", "out.gif"], 1, &["8x8 pixels, expected at least 16x16"]);
    refused(folder.path(), "clip.y4m", &["a cat", "-o", "clip.y4m"], 2, &["clip.y4m", "input"]);
    refused(
        folder.path(),
        "clip.y4m",
        &["a cat", "--mask", "black.png", "-o", "black.png"],
        2,
        &["black.png", "input"],
    );
    assert_eq!(names(folder.path()).len(), 5);
}

#[test]
fn an_input_behind_its_prompt_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("clip.y4m"), 5, 32, 32);
    refused(folder.path(), "a dog", &["clip.y4m"], 2, &["no file \"a dog\"", "osp edit \"clip.y4m\" \"a dog\""]);
}

#[test]
fn an_edit_is_not_repeated_with_less_than_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("clip.y4m"), 5, 32, 32);
    write(&at("first.png"), 1, 32, 32);
    write(&at("mask.y4m"), 9, 32, 32);
    let noted = |input: &str, args: &[&str]| {
        let output = super::osp(folder.path()).args(arguments(input, args)).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    for (options, said) in [
        (["--mask", "0,0,16,16"], "the other video was made with a mask: give it with --mask"),
        (["--first-frame", "first.png"], "the other video was made with another first frame"),
        (["--extend", "4"], "the other video was made with frames behind the clip"),
    ] {
        edit(folder.path(), "clip.y4m", &["a dog", options[0], options[1], "-o", "a.gif"]);
        refused(folder.path(), "clip.y4m", &["--like", "a.gif", "-o", "b.gif"], 2, &[said]);
        assert!(!noted("clip.y4m", &["--like", "a.gif", "-o", "b.gif"]).contains("a repetition will differ"));
        edit(folder.path(), "clip.y4m", &["--like", "a.gif", options[0], options[1], "-o", "b.gif"]);
        assert!(fs::read(at("a.gif")).unwrap() == fs::read(at("b.gif")).unwrap(), "{options:?}");
    }
    // With other pixels it becomes another video.
    edit(folder.path(), "clip.y4m", &["a dog", "--mask", "0,0,16,16", "-o", "a.gif"]);
    let said = noted("first.png", &["--like", "a.gif", "--mask", "0,0,16,16", "-o", "b.png"]);
    assert!(said.contains("with another clip; a repetition will differ"), "{said}");
    let said = noted("clip.y4m", &["--like", "a.gif", "--mask", "mask.y4m", "-o", "b.gif"]);
    assert!(said.contains("with another mask; a repetition will differ"), "{said}");
    assert!(said.contains("mask.y4m: has more frames than the 5 of the clip"), "{said}");
    refused(folder.path(), "-", &["a dog", "--mask", "-", "-o", "b.gif"], 2, &["- is given twice"]);
}
