//! Runs that are stopped or killed, and go on from their state with the same bits.

use super::{clip, fails, model_argument, names, osp, write};
use osp::Latent;
use osp::sampler::{SamplerKind, TorchRng};
use osp::state::{Progress, State};
use osp::video::write_clip;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The arguments of a video whose decoder has four windows.
fn request(output: &str, more: &[&str]) -> Vec<String> {
    let model = model_argument();
    let fixed = ["sample", "a cat", "--model", &model, "--tile-frames", "5", "-o", output];
    fixed.iter().chain(more).map(|&word| word.to_owned()).collect()
}

/// Starts the program.
fn start(folder: &Path, args: &[String]) -> Child {
    let mut command = Command::new(osp(folder).get_program());
    command.args(args).current_dir(folder).env("XDG_CACHE_HOME", folder.join(super::CACHE));
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run(folder: &Path, args: &[String]) {
    osp(folder).args(args).assert().success();
}

/// How far a state came, as a number that only rises: calls of the model, then frames.
fn reached(state: &Path) -> usize {
    // A state that is not there yet, or no more.
    let Ok(state) = State::read(state) else { return 0 };
    match state.progress {
        Progress::Begun => 0,
        Progress::Sampling { run, .. } => run.sampler.done,
        Progress::Decoding { .. } => 1000 + state.frames().len() / state.settings.frame_bytes(),
    }
}

/// Waits until the state came as far as `least`, and sends a signal. Returns whether the run was still there.
fn stop_at(least: usize, child: &mut Child, state: &Path, signal: &str) -> bool {
    let begin = Instant::now();
    while reached(state) < least {
        assert!(begin.elapsed() < Duration::from_secs(100), "the run never came to {least}");
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success()
}

/// Runs of each sampler that are killed; `OSP_KILLS` asks for more.
fn kills() -> u64 {
    std::env::var("OSP_KILLS").map_or(1, |count| count.parse().expect("OSP_KILLS is a number"))
}

/// Kills a run at a point that `seed` draws, lets it go on, and compares it with a run without a stop. Returns whether the
/// signal came in time.
fn survives(sampler: SamplerKind, device: &str, seed: u64) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // The emulator is slow, so it has several windows only in the long checks.
    let windows = device == "cpu" || kills() > 1;
    let frames = if windows { "17" } else { "5" };
    let device =
        ["--device", device, "--sampler", sampler.name(), "--steps", "7", "--guidance", "1", "--frames", frames];
    run(folder.path(), &request("whole.y4m", &[&device[..], &["--save-latent", "whole.safetensors"]].concat()));

    // Before the first call, between two calls, and between two windows.
    let points = if windows { &[0, 1, 2, 3, 4, 5, 6, 1000, 1005][..] } else { &[0, 1, 2, 3, 4, 5, 6] };
    let drawn = TorchRng::new(seed).randn(1)[0].to_bits() as usize;
    let point = points[drawn % points.len()];
    let mut child = start(folder.path(), &request("out.y4m", &[&device[..], &["--checkpoint-every", "1"]].concat()));
    while !at("out.y4m.state").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let alive = stop_at(point, &mut child, &at("out.y4m.state"), "KILL");
    child.wait().unwrap();
    let context = format!("{sampler}, killed at {point}");
    // The video may be complete before the signal comes.
    let stopped = alive && at("out.y4m.state").exists();
    if stopped {
        let resume = ["sample", "--resume", "out.y4m.state", "--save-latent", "out.safetensors"].map(str::to_owned);
        run(folder.path(), &resume);
        let latents = ["whole.safetensors", "out.safetensors"].map(|name| fs::read(at(name)).unwrap());
        assert!(latents[0] == latents[1], "{context}: the latents differ");
    }
    assert!(fs::read(at("whole.y4m")).unwrap() == fs::read(at("out.y4m")).unwrap(), "{context}: the videos differ");
    let left = names(folder.path()).into_iter().filter(|name| name.ends_with(".state"));
    assert_eq!(left.collect::<Vec<_>>(), [""; 0], "{context}");
    stopped
}

#[test]
fn every_sampler_survives_a_kill() {
    let runs = (0..10 * kills()).zip(SamplerKind::ALL.into_iter().cycle());
    let stopped = runs.filter(|&(seed, sampler)| survives(sampler, "cpu", seed)).count() as u64;
    assert!(stopped >= 5 * kills(), "only {stopped} signals came in time");
}

#[test]
fn kernels_survive_a_kill() {
    assert!(survives(SamplerKind::DpmSolverMultistep, "emulated", 100));
    assert!(survives(SamplerKind::EulerAncestralDiscrete, "emulated", 101));
}

#[test]
fn a_pressed_ctrl_c_keeps_the_state_and_says_how_to_go_on() {
    let args = ["--steps", "12", "--sampler", "DDPM", "--size", "64x64", "--save-latent"];
    let whole = tempfile::tempdir().unwrap();
    run(whole.path(), &request("out.gif", &[&args[..], &["a.safetensors"]].concat()));
    for point in [3, 1005] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("out.gif"), "precious").unwrap();
        let state = folder.path().join("out.gif.state");
        let checkpoint = [&args[..], &["a.safetensors", "--checkpoint-every", "1"]].concat();
        let mut child = start(folder.path(), &request("out.gif", &checkpoint));
        assert!(stop_at(point, &mut child, &state, "INT"), "{point}");
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{said}");
        let said: Vec<&str> = said.lines().collect();
        assert_eq!(said.last(), Some(&"osp: error: interrupted"));
        assert!(said[said.len() - 2].ends_with("to go on: osp sample --resume out.gif.state"), "{said:?}");
        assert!(reached(&state) >= point);
        assert_eq!(names(folder.path()), ["out.gif", "out.gif.state"]);
        assert_eq!(fs::read(folder.path().join("out.gif")).unwrap(), b"precious");

        // The number of threads changes no bit.
        let resume = ["sample", "--resume", "out.gif.state", "--save-latent", "a.safetensors"];
        osp(folder.path()).args(resume).env("RAYON_NUM_THREADS", "3").assert().success();
        for name in ["out.gif", "a.safetensors"] {
            let files = [&whole, &folder].map(|folder| fs::read(folder.path().join(name)).unwrap());
            assert!(files[0] == files[1], "{name} after a stop at {point}");
        }
        assert_eq!(names(folder.path()), ["a.safetensors", "out.gif", "out.gif.json"]);
    }
}

#[test]
fn a_stop_without_checkpoints_keeps_every_step_that_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let args = request("out.gif", &["--steps", "200", "--sampler", "DDIM", "--progress", "json"]);
    let mut child = start(folder.path(), &args);
    let mut events = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
    let step = |event: &serde_json::Value| {
        (event["event"] == "progress" && event["stage"] == "denoise").then(|| event["step"].as_u64().unwrap())
    };
    let seen = events.find_map(|event| step(&event).filter(|&step| step > 2)).unwrap();
    Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap();
    // More steps may end before the signal comes.
    let last = events.filter_map(|event| step(&event)).last().unwrap_or(seen);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(folder.path()), ["out.gif.state"]);
    let kept = reached(&folder.path().join("out.gif.state")) as u64;
    assert!((last..200).contains(&kept), "it had made {last} steps, the state has {kept}");
    run(folder.path(), &["sample", "--resume", "out.gif.state"].map(str::to_owned));
    run(folder.path(), &request("whole.gif", &["--steps", "200", "--sampler", "DDIM"]));
    assert!(fs::read(folder.path().join("out.gif")).unwrap() == fs::read(folder.path().join("whole.gif")).unwrap());
}

#[test]
fn the_state_of_another_run_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let args = ["--steps", "200", "--sampler", "DDIM", "--checkpoint-every", "1"];
    let mut child = start(folder.path(), &request("out.gif", &args));
    assert!(stop_at(5, &mut child, &at("out.gif.state"), "KILL"));
    child.wait().unwrap();
    let first = fs::read(at("out.gif.state")).unwrap();
    // The same command again, which begins anew.
    let mut child = start(folder.path(), &request("out.gif", &args));
    while !at("out.gif.earlier-1.state").exists() || !at("out.gif.state").exists() {
        assert!(child.try_wait().unwrap().is_none());
    }
    Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the state of the earlier run is now out.gif.earlier-1.state"), "{said}");
    assert!(fs::read(at("out.gif.earlier-1.state")).unwrap() == first);
    assert_eq!(names(folder.path()), ["out.gif.earlier-1.state", "out.gif.state"]);
    // A video of another request does not remove what is left of this one. To go on from it would replace that video, so it has another name.
    run(folder.path(), &request("out.gif", &["--steps", "2", "--sampler", "DDIM"]));
    let earlier = ["out.gif.earlier-1.state", "out.gif.earlier-2.state"];
    assert_eq!(names(folder.path()), ["out.gif", earlier[0], earlier[1], "out.gif.json"]);
    run(folder.path(), &["sample", "--resume", earlier[0], "-o", "other.gif"].map(str::to_owned));
    assert_eq!(names(folder.path()), ["other.gif", "other.gif.json", "out.gif", earlier[1], "out.gif.json"]);
    // A reader of stdout may be gone before the end.
    run(folder.path(), &["sample", "--resume", earlier[1], "-o", "-"].map(str::to_owned));
    assert!(at(earlier[1]).exists());
}

#[test]
fn a_run_that_goes_on_keeps_its_latent_and_its_silence() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let args = ["--steps", "200", "--sampler", "DDIM", "--checkpoint-every", "1"];
    let more = ["--no-metadata", "--save-latent", "latent.safetensors"];
    let mut child = start(folder.path(), &request("out.gif", &[&args[..], &more].concat()));
    assert!(stop_at(1, &mut child, &at("out.gif.state"), "KILL"));
    child.wait().unwrap();
    // A stranger's state does not choose a place for files.
    let state = State::read(&at("out.gif.state")).unwrap();
    for place in ["/elsewhere/latent.safetensors", "../latent.safetensors", "notes.txt"] {
        let mut changed = state.clone();
        changed.notes.insert("save_latent".into(), place.into());
        changed.write(&at("out.gif.state")).unwrap();
        fails(folder.path(), &["sample", "--resume", "out.gif.state"], 2, &[place, "--save-latent"]);
    }
    state.write(&at("out.gif.state")).unwrap();
    run(folder.path(), &["sample", "--resume", "out.gif.state"].map(str::to_owned));
    assert_eq!(names(folder.path()), ["latent.safetensors", "out.gif", "out.gif.json"]);
    assert_eq!(osp::video::description(&at("out.gif")).unwrap(), None);
}

#[test]
fn a_state_with_another_byte_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gif.state");
    let mut child = start(folder.path(), &request("out.gif", &["--steps", "50", "--checkpoint-every", "1"]));
    assert!(stop_at(3, &mut child, &path, "KILL"));
    child.wait().unwrap();
    let whole = fs::read(&path).unwrap();
    State::read(&path).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 100) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(State::read(&path).is_err(), "byte {at} of {}", whole.len());
    }
}

#[test]
fn of_several_videos_each_that_was_begun_has_a_state() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let args = ["a dog", "--steps", "20", "--sampler", "DDIM", "--checkpoint-every", "1"];
    let mut child = start(folder.path(), &request("out.gif", &args));
    assert!(stop_at(2, &mut child, &at("out-001.gif.state"), "INT"));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(folder.path()), ["out-000.gif.state", "out-001.gif.state"]);
    assert_eq!(reached(&at("out-000.gif.state")), 1000);
    for state in ["out-000.gif.state", "out-001.gif.state"] {
        run(folder.path(), &["sample", "--resume", state].map(str::to_owned));
    }
    let whole = tempfile::tempdir().unwrap();
    run(whole.path(), &request("out.gif", &args));
    for name in ["out-000.gif", "out-001.gif"] {
        assert!(fs::read(at(name)).unwrap() == fs::read(whole.path().join(name)).unwrap(), "{name}");
    }
}

/// The arguments of an edit of `clip.y4m` with a mask and a first frame.
fn edit(more: &[&str]) -> Vec<String> {
    let model = model_argument();
    let fixed =
        ["edit", "clip.y4m", "a cat", "--model", &model, "--device", "cpu", "--tile-frames", "5", "-o", "out.y4m"];
    let change = ["--mask", "0,0,16,16", "--first-frame", "first.png", "--steps", "30", "--sampler", "DDPM"];
    fixed.iter().chain(&change).chain(more).map(|&word| word.to_owned()).collect()
}

#[test]
fn an_edit_survives_a_kill_if_its_files_are_the_same() {
    let mut stopped = 0;
    for point in [2, 1000, 1005] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write(&at("clip.y4m"), 17, 16, 32);
        write(&at("first.png"), 1, 16, 32);
        run(folder.path(), &edit(&[]));
        fs::rename(at("out.y4m"), at("whole.y4m")).unwrap();
        let mut child = start(folder.path(), &edit(&["--checkpoint-every", "1"]));
        if !stop_at(point, &mut child, &at("out.y4m.state"), "KILL") {
            continue;
        }
        child.wait().unwrap();
        stopped += 1;
        let resume = ["sample", "--resume", "out.y4m.state"];
        // Files that changed, and files that are gone.
        for (name, frames) in [("clip.y4m", 17), ("first.png", 1)] {
            let whole = fs::read(at(name)).unwrap();
            let mut other = clip(frames, 16, 32);
            other.pixels.iter_mut().for_each(|byte| *byte = 255 - *byte);
            write_clip(&at(name), &other).unwrap();
            fails(folder.path(), &resume, 1, &["out.y4m.state", "other pixels"]);
            fs::remove_file(at(name)).unwrap();
            fails(folder.path(), &resume, 1, &[name]);
            fs::write(at(name), whole).unwrap();
        }
        // Its folder may get another name.
        let moved = folder.path().join("moved");
        fs::create_dir(&moved).unwrap();
        for name in ["clip.y4m", "first.png", "out.y4m.state"] {
            fs::rename(at(name), moved.join(name)).unwrap();
        }
        fails(&moved, &[&resume[..], &["-o", "clip.y4m"]].concat(), 2, &["clip.y4m", "an input"]);
        run(
            &moved,
            &[&resume[..], &["--model", &model_argument()]]
                .concat()
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>(),
        );
        assert!(fs::read(moved.join("out.y4m")).unwrap() == fs::read(at("whole.y4m")).unwrap(), "stopped at {point}");
        assert!(!moved.join("out.y4m.state").exists());
    }
    assert!(stopped >= 2, "only {stopped} signals came in time");
}

/// A folder with a state after some steps, and the state.
fn with_state() -> (tempfile::TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.y4m.state");
    let args = ["--steps", "30", "--sampler", "DPMSolverMultistep", "--device", "cpu", "--checkpoint-every", "1"];
    let mut child = start(folder.path(), &request("out.y4m", &args));
    assert!(stop_at(3, &mut child, &path, "INT"));
    child.wait().unwrap();
    let state = State::read(&path).unwrap();
    (folder, state)
}

#[test]
fn a_state_of_something_else_is_refused_with_the_difference() {
    let (folder, state) = with_state();
    let path = folder.path().join("out.y4m.state");
    let resume = ["sample", "--resume", "out.y4m.state"];
    let mut changed: Vec<(State, &str)> =
        vec![state.clone(); 4].into_iter().zip(["program", "transformer", "VAE", "text encoder"]).collect();
    changed[0].0.origin.program = "osp 0.0.1".into();
    changed[1].0.origin.transformer = "other".into();
    changed[2].0.origin.vae = "other".into();
    changed[3].0.origin.text_encoder = "other".into();
    for (changed, what) in changed {
        changed.write(&path).unwrap();
        fails(folder.path(), &resume, 1, &["out.y4m.state", what, "was made with"]);
    }
    state.write(&path).unwrap();
    fails(
        folder.path(),
        &[&resume[..], &["--device", "emulated"]].concat(),
        1,
        &["the device", "cpu", "choose the same device"],
    );
    fails(folder.path(), &[&resume[..], &["--steps", "4"]].concat(), 2, &["--resume", "--steps"]);
    fails(folder.path(), &[&resume[..], &["a dog"]].concat(), 2, &["--resume", "PROMPT"]);
    let args = request("-", &["--checkpoint-every", "1"]);
    fails(folder.path(), &args.iter().map(String::as_str).collect::<Vec<_>>(), 2, &["--checkpoint-every", "-o -"]);
    let args = request("a.gif", &["--checkpoint-every", "5m"]);
    fails(folder.path(), &args.iter().map(String::as_str).collect::<Vec<_>>(), 2, &["--checkpoint-every", "5min"]);
    fs::rename(&path, folder.path().join("renamed")).unwrap();
    fails(folder.path(), &["sample", "--resume", "renamed"], 2, &["renamed", "-o"]);
}

#[test]
fn a_damaged_state_is_refused_in_one_line() {
    let (folder, state) = with_state();
    let path = folder.path().join("out.y4m.state");
    let resume = ["sample", "--resume", "out.y4m.state"];
    let whole = fs::read(&path).unwrap();
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole.windows(from.len()).position(|found| found == from.as_bytes()).expect("the text is there");
        let mut bytes = whole.clone();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    for (bytes, word) in [
        (whole[..whole.len() - 1].to_vec(), "not a whole state"),
        (Vec::new(), "not a whole state"),
        (b"osp.state, but nothing else".to_vec(), "not a whole state"),
        (replaced("\\\"format\\\":2", "\\\"format\\\":3"), "format 3"),
        (replaced("\\\"factors\\\":[", "\\\"factors\\\":{"), "damaged"),
        (replaced("\\\"frames\\\":17", "\\\"frames\\\":13"), "expected"),
        (replaced("\\\"frames\\\":17", "\\\"frames\\\":16"), "damaged"),
        (replaced("\\\"steps\\\":30", "\\\"steps\\\":00"), "damaged"),
        (replaced("\\\"steps\\\":30", "\\\"steps\\\": 2"), "no state of the sampler"),
        (replaced("DPMSolverMultistep", "DPMSolverMultistap"), "damaged"),
        (replaced("\"history.0\"", "\"history.9\""), "no state of the sampler"),
        (replaced("\"sample\"", "\"simple\""), "no tensor sample"),
    ] {
        fs::write(&path, &bytes).unwrap();
        fails(folder.path(), &resume, 1, &["out.y4m.state", word]);
    }
    let mut infinite = state;
    let Progress::Sampling { run, .. } = &mut infinite.progress else { panic!("it samples") };
    run.sampler.sample[5] = f32::INFINITY;
    infinite.write(&path).unwrap();
    fails(folder.path(), &resume, 1, &["value 5 of tensor sample"]);
}

#[test]
fn a_state_decodes_to_a_draft() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.png.state");
    // The demo model, which has learned something.
    let request = ["sample", "a large red circle", "--frames", "1", "--steps", "300", "--sampler", "DDIM"];
    let more = ["--device", "cpu", "--checkpoint-every", "1", "-o", "out.png"];
    let mut child = start(folder.path(), &request.iter().chain(&more).map(|&word| word.to_owned()).collect::<Vec<_>>());
    assert!(stop_at(150, &mut child, &path, "INT"));
    child.wait().unwrap();
    let state = State::read(&path).unwrap();
    let decode = |from: &str| ["decode", from, "-o", "draft.png"].map(str::to_owned);
    run(folder.path(), &decode("out.png.state"));
    assert!(folder.path().join("draft.png").exists());
    // The draft is nearer to the result than the sample with its noise is.
    run(folder.path(), &["sample", "--resume", "out.png.state", "--save-latent", "end.safetensors"].map(str::to_owned));
    let end = Latent::read(&folder.path().join("end.safetensors")).unwrap().values;
    let distance = |values: &[f32]| values.iter().zip(&end).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let Progress::Sampling { run, draft } = &state.progress else { panic!("it samples") };
    assert!(
        distance(draft) < 0.5 * distance(&run.sampler.sample),
        "{} {}",
        distance(draft),
        distance(&run.sampler.sample)
    );

    let begun = State { progress: Progress::Begun, ..state };
    begun.write(&folder.path().join("begun.state")).unwrap();
    let args = decode("begun.state");
    fails(folder.path(), &args.iter().map(String::as_str).collect::<Vec<_>>(), 1, &["begun.state", "first step"]);
}

#[test]
fn only_a_state_is_replaced_by_a_state() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("out.gif.state"), "mine").unwrap();
    let args = request("out.gif", &["--steps", "4"]);
    fails(folder.path(), &args.iter().map(String::as_str).collect::<Vec<_>>(), 2, &["out.gif.state", "not a state"]);
    // An older state goes when its video is there, and nothing else does.
    let (folder, _) = with_state();
    fs::write(folder.path().join(".out.y4m.state"), "mine").unwrap();
    run(folder.path(), &request("out.y4m", &["--steps", "30", "--sampler", "DPMSolverMultistep", "--device", "cpu"]));
    assert_eq!(names(folder.path()), [".out.y4m.state", "out.y4m", "out.y4m.json"]);
    // That of another video stays.
    let (folder, _) = with_state();
    run(folder.path(), &request("out.y4m", &["--steps", "4"]));
    assert_eq!(names(folder.path()), ["out.y4m", "out.y4m.earlier-1.state", "out.y4m.json"]);
}

#[test]
fn a_state_is_an_input_that_no_output_replaces() {
    let (folder, _) = with_state();
    let at = |name: &str| folder.path().join(name);
    fs::rename(at("out.y4m.state"), at("state.y4m")).unwrap();
    for link in ["link.y4m", "l.safetensors"] {
        fs::hard_link(at("state.y4m"), at(link)).unwrap();
    }
    for more in [&["-o", "state.y4m"][..], &["-o", "link.y4m"], &["-o", "a.y4m", "--save-latent", "l.safetensors"]] {
        fails(folder.path(), &[&["sample", "--resume", "state.y4m"], more].concat(), 2, &["is an input"]);
    }
    osp(folder.path()).args(["sample", "--resume", "state.y4m", "-o", "a.y4m"]).assert().success();
    assert!(at("a.y4m").exists() && !at("state.y4m").exists());
}
