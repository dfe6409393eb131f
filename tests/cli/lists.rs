//! Lists of videos: what is there is not made again, one that fails does not stop the others, and processes share the work.

use super::{fails, model_argument, names, osp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder with a list of these lines.
fn with(list: &str, lines: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(list), lines.join("\n")).unwrap();
    folder
}

fn arguments(list: &str, more: &[&str]) -> Vec<String> {
    let model = model_argument();
    let fixed = ["sample", "--prompts", list, "--model", &model, "--device", "cpu", "--guidance", "1", "--frames", "5"];
    fixed.iter().chain(more).map(|&word| word.to_owned()).collect()
}

/// Runs the program, and returns its exit code and the lines of stderr.
fn run(folder: &Path, args: &[String]) -> (i32, Vec<String>) {
    let output = osp(folder).args(args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said.lines().map(str::to_owned).collect())
}

/// Runs a list that succeeds, and returns the last line: what became of the videos.
fn summary(folder: &Path, args: &[String]) -> String {
    let (code, said) = run(folder, args);
    assert_eq!(code, 0, "{said:?}");
    said.last().unwrap().clone()
}

/// The videos in a folder, without the grid.
fn videos(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let found = names(folder).into_iter().filter(|name| name.ends_with(".y4m") && name != "x-grid.y4m");
    found.map(|name| (name.clone(), fs::read(folder.join(&name)).unwrap())).collect()
}

/// Starts the program.
fn start(folder: &Path, args: &[String]) -> Child {
    let mut command = Command::new(osp(folder).get_program());
    command.args(args).current_dir(folder).env("XDG_CACHE_HOME", folder.join(super::CACHE));
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The lines that a program said on stderr.
fn said(child: Child) -> Vec<String> {
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect()
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(begin.elapsed() < Duration::from_secs(100), "{what} never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_line_says_what_differs_from_the_options() {
    let folder = with(
        "list.jsonl",
        &[
            r#"{"prompt": "a cat"}"#,
            "",
            r#"{"prompt": "a dog", "seed": -1, "size": "16x32", "steps": 4, "output": "dog.y4m"}"#,
            r#"{"prompt": "a cow", "frames": 1, "guidance": 2.5, "sampler": "EulerDiscrete", "negative_prompt": "a cat"}"#,
        ],
    );
    let more = ["--steps", "3", "--sampler", "DDIM", "--size", "16x16", "--seed", "7", "-o", "x.y4m"];
    let (code, said) = run(folder.path(), &arguments("list.jsonl", &more));
    assert_eq!((code, said.last().unwrap().as_str()), (0, "osp: 3 of 3 videos made"), "{said:?}");
    let record =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(folder.path().join(name)).unwrap()).unwrap() };
    let (cat, dog, cow) = (record("x-000.y4m.json"), record("dog.y4m.json"), record("x-002.y4m.json"));
    assert_eq!((&cat["seed"], &cat["steps"], &cat["sampler"]), (&7.into(), &3.into(), &"DDIM".into()));
    assert_eq!((&dog["seed"], &dog["steps"], &dog["width"]), (&u64::MAX.into(), &4.into(), &32.into()));
    assert_eq!((&cow["frames"], &cow["sampler"]), (&1.into(), &"EulerDiscrete".into()));
    assert_eq!((&cow["guidance"], &cow["negative_prompt"]), (&2.5.into(), &"a cat".into()));
    // Videos of different sizes make no grid.
    let expected =
        ["dog.y4m", "dog.y4m.json", "list.jsonl", "x-000.y4m", "x-000.y4m.json", "x-002.y4m", "x-002.y4m.json"];
    assert_eq!(names(folder.path()), expected);

    // Each has the bits of a run alone.
    let model = model_argument();
    let alone =
        ["sample", "a dog", "--seed", "-1", "--size", "16x32", "--steps", "4", "-o", "alone.y4m", "--model", &model];
    let alone = [&alone[..], &["--sampler", "DDIM", "--guidance", "1", "--frames", "5", "--device", "cpu"]].concat();
    osp(folder.path()).args(alone).assert().success();
    let videos = videos(folder.path());
    assert!(videos["alone.y4m"] == videos["dog.y4m"]);
}

#[test]
fn what_is_there_is_not_made_again() {
    let folder = with("list.txt", &["a cat", "a dog", "a cow"]);
    let args = |more: &[&str]| arguments("list.txt", &[&["--steps", "4", "-o", "x.y4m"], more].concat());
    let (code, said) = run(folder.path(), &args(&[]));
    assert_eq!((code, said.last().unwrap().as_str()), (0, "osp: 3 of 3 videos made"));
    // It is true of all three, and said once.
    assert_eq!(said.iter().filter(|line| line.contains("5 frames may look worse")).count(), 1, "{said:?}");
    let made = videos(folder.path());
    assert_eq!(summary(folder.path(), &args(&[])), "osp: 0 of 3 videos made, 3 were there");
    // An output that is lost, one without a record, and another seed.
    fs::remove_file(folder.path().join("x-001.y4m")).unwrap();
    let (code, said) = run(folder.path(), &args(&[]));
    assert_eq!((code, said.last().unwrap().as_str()), (0, "osp: 1 of 3 videos made, 2 were there"));
    let grid = "osp: x-grid.y4m is not written: this run made 1 of its 3 videos; with --again it makes all";
    assert!(said.iter().any(|line| line == grid), "{said:?}");
    fs::remove_file(folder.path().join("x-002.y4m.json")).unwrap();
    assert_eq!(summary(folder.path(), &args(&[])), "osp: 1 of 3 videos made, 2 were there");
    assert!(videos(folder.path()) == made);
    assert_eq!(summary(folder.path(), &args(&["--seed", "0,1,0"])), "osp: 1 of 3 videos made, 2 were there");
    assert_eq!(summary(folder.path(), &args(&["--again"])), "osp: 3 of 3 videos made");
    assert!(videos(folder.path()) == made);
    // A latent that is asked for must be there, too.
    let latents = args(&["--save-latent", "l.safetensors"]);
    assert_eq!(summary(folder.path(), &latents), "osp: 3 of 3 videos made");
    assert_eq!(summary(folder.path(), &latents), "osp: 0 of 3 videos made, 3 were there");
}

#[test]
fn a_video_that_its_record_does_not_describe_is_made_again() {
    let folder = with("list.txt", &["a cat"]);
    let args = arguments("list.txt", &["-o", "x.gif", "--seed", "1"]);
    let at = |name: &str| folder.path().join(name);
    assert_eq!(made(&summary(folder.path(), &args)), 1);
    let (video, record) = (fs::read(at("x.gif")).unwrap(), fs::read(at("x.gif.json")).unwrap());
    // What a run left that was killed between its video and its record.
    assert_eq!(made(&summary(folder.path(), &arguments("list.txt", &["-o", "x.gif", "--seed", "2"]))), 1);
    assert!(fs::read(at("x.gif")).unwrap() != video);
    fs::write(at("x.gif.json"), record).unwrap();
    assert_eq!(made(&summary(folder.path(), &args)), 1);
    assert!(fs::read(at("x.gif")).unwrap() == video);
    assert_eq!(made(&summary(folder.path(), &args)), 0);
}

#[test]
fn outputs_that_were_emptied_or_replaced_are_made_again() {
    for name in ["x.mp4", "x.gif", "x.y4m", "x.png", "x"] {
        let folder = with("list.txt", &["a cat"]);
        let args = arguments("list.txt", &["-o", name]);
        let frames = if name == "x.png" { ["--frames", "1"] } else { ["--frames", "5"] };
        let args: Vec<String> =
            args.iter().filter(|word| !["--frames", "5"].contains(&word.as_str())).cloned().collect();
        let args = [args, frames.map(str::to_owned).to_vec()].concat();
        assert_eq!(made(&summary(folder.path(), &args)), 1);
        assert_eq!(made(&summary(folder.path(), &args)), 0);
        let path = folder.path().join(name);
        let cut = |path: &Path| fs::write(path, &fs::read(path).unwrap()[..50]).unwrap();
        let emptied: [&dyn Fn(); 3] = if name == "x" {
            [
                &|| fs::remove_file(path.join("frame_00002.png")).unwrap(),
                &|| cut(&path.join("frame_00002.png")),
                &|| {
                    fs::remove_dir_all(&path).unwrap();
                    fs::create_dir(&path).unwrap();
                },
            ]
        } else {
            [&|| fs::write(&path, "").unwrap(), &|| cut(&path), &|| fs::write(&path, "other").unwrap()]
        };
        for empty in emptied {
            empty();
            assert_eq!(made(&summary(folder.path(), &args)), 1, "{name}");
        }
    }
}

#[test]
fn an_output_that_cannot_be_replaced_costs_its_own_video() {
    let lines = [r#"{"prompt": "a cat", "output": "frames"}"#, r#"{"prompt": "a dog", "output": "dog.gif"}"#];
    let folder = with("list.jsonl", &lines);
    fs::create_dir(folder.path().join("frames")).unwrap();
    fs::write(folder.path().join("frames/note.txt"), "mine").unwrap();
    let (code, said) = run(folder.path(), &arguments("list.jsonl", &["--steps", "4", "-o", "x.gif"]));
    assert_eq!((code, said.last().unwrap().as_str()), (1, "osp: error: 1 of 2 videos could not be made"), "{said:?}");
    assert!(said.iter().any(|line| line.contains("list.jsonl, line 1: ") && line.contains("note.txt")), "{said:?}");
    assert_eq!(names(folder.path()), ["dog.gif", "dog.gif.json", "frames", "list.jsonl"]);
}

#[test]
fn other_weights_make_other_videos() {
    let folder = with("list.txt", &["a cat"]);
    super::faults::copy(&super::model(), &folder.path().join("model"));
    let args = ["sample", "--prompts", "list.txt", "--model", "model", "--steps", "4", "-o", "x.y4m"];
    let args =
        [&args[..], &["--frames", "1", "--device", "cpu"]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(summary(folder.path(), &args), "osp: 1 of 1 videos made");
    assert_eq!(summary(folder.path(), &args), "osp: 0 of 1 videos made, 1 were there");
    let weights = folder.path().join("model/vae/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    // The first values of each tensor tell weights apart.
    let first = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[first..first + 4].copy_from_slice(&0.25_f32.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    assert_eq!(summary(folder.path(), &args), "osp: 1 of 1 videos made");
}

#[test]
fn a_video_that_cannot_be_made_does_not_stop_the_others() {
    let folder = with(
        "list.jsonl",
        &[
            r#"{"prompt": "你好"}"#,
            r#"{"prompt": "a cat"}"#,
            r#"{"prompt": "a dog", "size": "17x16"}"#,
            r#"{"prompt": "a cow"}"#,
        ],
    );
    let args = arguments("list.jsonl", &["--steps", "4", "--quiet", "-o", "x.y4m"]);
    let (code, said) = run(folder.path(), &args);
    assert_eq!((code, said.len()), (1, 3), "{said:?}");
    assert!(said[0].starts_with("osp: error: list.jsonl, line 1: nothing is left of the prompt"), "{said:?}");
    assert!(said[1].starts_with("osp: error: list.jsonl, line 3: size 17x16"), "{said:?}");
    assert_eq!(said[2], "osp: error: 2 of 4 videos could not be made");
    let made: Vec<String> = videos(folder.path()).into_keys().collect();
    assert_eq!(made, ["x-001.y4m", "x-003.y4m"]);

    // A mistake that concerns all of them, or the list itself, is one of usage.
    let before = names(folder.path());
    for (list, more, words) in
        [("a cat\na dog", &["--steps", "0"][..], &["steps"][..]), ("\n \n", &[], &["holds no prompts"])]
    {
        fs::write(folder.path().join("list.txt"), list).unwrap();
        let args = arguments("list.txt", more);
        fails(folder.path(), &args.iter().map(String::as_str).collect::<Vec<_>>(), 2, words);
        fs::remove_file(folder.path().join("list.txt")).unwrap();
    }
    fs::write(folder.path().join("list.jsonl"), "{\"prompt\": \"a cat\"}\n{\"prompts\": \"a dog\"}").unwrap();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    fails(folder.path(), &args, 2, &["list.jsonl, line 2, column 10", "unknown field `prompts`", "`prompt`"]);
    fs::write(folder.path().join("list.jsonl"), "{\"prompt\": \"a cat\"}\n{\"prompt\": \"a dog\"}").unwrap();
    fs::write(folder.path().join("x-001.y4m.lock"), "precious").unwrap();
    let dry: Vec<&str> = [&args[..], &["--dry-run"]].concat();
    let output = osp(folder.path()).args(dry).assert().code(1).get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("x-001.y4m.lock is not a lock"), "{output:?}");
    fs::remove_file(folder.path().join("x-001.y4m.lock")).unwrap();
    assert_eq!(names(folder.path()), before);
    fails(folder.path(), &["sample", "a cat", "--again"], 2, &["--again", "PROMPT"]);
    fails(folder.path(), &["sample", "--again"], 2, &["--prompts"]);
    fails(folder.path(), &["sample", "a cat", "--shard", "1/2"], 2, &["--shard", "PROMPT"]);
    fails(folder.path(), &["sample", "--prompts", "list.jsonl", "--shard", "3/2"], 2, &["--shard", "1/4 to 4/4"]);
}

const FIVE: [&str; 5] = ["a cat", "a dog", "a cow", "a horse", "a mouse"];

/// The videos of [`FIVE`].
fn whole(more: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let folder = with("list.txt", &FIVE);
    assert_eq!(summary(folder.path(), &arguments("list.txt", more)), "osp: 5 of 5 videos made");
    videos(folder.path())
}

/// Numbers in a summary: made, and what was there.
fn made(summary: &str) -> usize {
    summary.strip_prefix("osp: ").and_then(|text| text.split(' ').next()).unwrap().parse().expect(summary)
}

#[test]
fn a_list_that_was_stopped_goes_on() {
    let more = ["--steps", "30", "--sampler", "DDIM", "-o", "x.y4m"];
    let whole = whole(&more);
    for signal in ["INT", "KILL"] {
        let folder = with("list.txt", &FIVE);
        let args = arguments("list.txt", &[&more[..], &["--checkpoint-every", "1"]].concat());
        let mut child = start(folder.path(), &args);
        let state = folder.path().join("x-002.y4m.state");
        wait_for("the third video", || state.exists() || child.try_wait().unwrap().is_some());
        Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        let code = child.wait().unwrap().code();
        let said = said(child);
        assert_eq!(code, if signal == "INT" { Some(130) } else { None }, "{said:?}");
        assert!(signal == "KILL" || said[said.len() - 2].ends_with("the same command goes on"), "{said:?}");
        assert!(videos(folder.path()).len() < 5);
        // A dry run knows the states that the same command goes on from, and those of other requests.
        let dry = |more: &[&str]| {
            let output = osp(folder.path()).args(&args).arg("--dry-run").args(more).output().unwrap();
            String::from_utf8(output.stdout).unwrap().contains("go on  x-")
        };
        assert!(dry(&[]) && !dry(&["--negative-prompt", "a dog"]));
        let (code, said) = run(folder.path(), &args);
        assert_eq!(code, 0, "{said:?}");
        // The first states were made, and are not made again.
        let record: Value = serde_json::from_slice(&fs::read(folder.path().join("x-000.y4m.json")).unwrap()).unwrap();
        assert_eq!(record["resumed"], true);
        assert!(videos(folder.path()) == whole, "{signal}: {:?}", names(folder.path()));
        let left = names(folder.path()).into_iter().filter(|name| name.ends_with(".state") || name.ends_with(".lock"));
        assert_eq!(left.collect::<Vec<_>>(), [""; 0]);
    }
}

#[test]
fn processes_that_share_a_list_lose_and_repeat_nothing() {
    let more = ["--steps", "30", "--sampler", "DDIM", "-o", "x.y4m"];
    let whole = whole(&more);
    let folder = with("list.txt", &FIVE);
    let args = arguments("list.txt", &more);
    let both = [(); 2].map(|()| start(folder.path(), &args));
    let summaries = both.map(|child| said(child).last().unwrap().clone());
    assert_eq!(summaries.iter().map(|summary| made(summary)).sum::<usize>(), 5, "{summaries:?}");
    assert!(videos(folder.path()) == whole, "{:?}", names(folder.path()));
    assert!(!names(folder.path()).iter().any(|name| name.ends_with(".lock")));

    // One is killed while it makes a video; the other makes that one, too.
    let folder = with("list.txt", &FIVE);
    let mut killed = start(folder.path(), &args);
    let lock = folder.path().join("x-000.y4m.lock");
    wait_for("the lock", || fs::metadata(&lock).is_ok_and(|facts| facts.len() > 0));
    let other = start(folder.path(), &args);
    wait_for("the other's lock", || names(folder.path()).iter().any(|name| name == "x-001.y4m.lock"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let said = said(other);
    assert!(made(said.last().unwrap()) > 0, "{said:?}");
    assert!(said.iter().any(|line| line.contains("y4m was left by process")), "{said:?}");
    assert!(videos(folder.path()) == whole);
    assert!(!names(folder.path()).iter().any(|name| name.ends_with(".lock")));
}

#[test]
fn a_stop_while_another_machine_is_waited_for_is_no_success() {
    let folder = with("list.txt", &["a cat", "a dog"]);
    let lock = r#"{"machine": "other", "boot": "other", "process": 1, "since": 0}"#;
    fs::write(folder.path().join("x-000.y4m.lock"), lock).unwrap();
    let child = start(folder.path(), &arguments("list.txt", &["--steps", "4", "-o", "x.y4m"]));
    wait_for("the other video", || folder.path().join("x-001.y4m.json").exists());
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().last()), (Some(130), Some("osp: error: interrupted")), "{said}");
    assert_eq!(fs::read_to_string(folder.path().join("x-000.y4m.lock")).unwrap(), lock);
}

#[test]
fn a_list_is_split_by_numbers_or_by_the_launcher() {
    let folder = with("list.txt", &FIVE);
    let args = |shard: &str| arguments("list.txt", &["--steps", "4", "-o", "x.y4m", "--shard", shard]);
    assert_eq!(summary(folder.path(), &args("2/2")), "osp: 2 of 2 videos made");
    let made: Vec<String> = videos(folder.path()).into_keys().collect();
    assert_eq!(made, ["x-001.y4m", "x-003.y4m"]);
    let output = osp(folder.path()).args(args("auto")).env("RANK", "0").env("WORLD_SIZE", "2").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.ends_with("osp: 3 of 3 videos made\n"), "{said}");
    assert_eq!(videos(folder.path()).len(), 5);
    assert_eq!(summary(folder.path(), &arguments("list.txt", &["--steps", "4", "-o", "x.y4m"])), {
        "osp: 0 of 5 videos made, 5 were there"
    });
    let (code, said) = run(folder.path(), &args("auto"));
    assert_eq!(code, 2);
    assert!(said[0].contains("SLURM_ARRAY_TASK_ID"), "{said:?}");
}
