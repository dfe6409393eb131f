//! Files that fail: a disk that is full at any write, folders that take no file, reads that fail. `tests/failing_files` makes them.

use super::kills::{Files, Place};
use super::lost::terminal;
use super::{CACHE, contents, model, names, osp};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Calls that fail, as `KIND:ERRNO`, with the error numbers of Linux.
const DISK_FULL: [&str; 2] = ["write", "28"];
const NO_NEW_FILE: [&str; 2] = ["open", "28"];
const READ_ONLY: [&str; 2] = ["open", "30"];
const BAD_DISK: [&str; 2] = ["read", "5"];
const NO_NEW_FOLDER: [&str; 2] = ["create", "28"];
const NOT_SYNCHRONISED: [&str; 2] = ["sync", "5"];
const NO_THREAD: [&str; 2] = ["thread", "11"];

/// The layer between the program and its files.
pub fn layer() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_osp"));
    let layer = program.parent().unwrap().join("examples/libfailing_files.so");
    assert!(layer.exists(), "first run `cargo build --example failing_files`");
    layer
}

/// The arguments of a small sample.
pub fn sample<'a>(model: &'a Path, args: &[&'a str]) -> Vec<&'a str> {
    let all = ["sample", "--size", "16x32", "--steps", "4", "--device", "cpu", "--model", model.to_str().unwrap()];
    [&all, args].concat()
}

/// The program, of which call `number` of a kind, and all later ones, fail for files whose paths begin with `beginning`. It writes the number
/// of calls to `counted`.
pub fn failing(
    folder: &Path,
    beginning: &Path,
    [kind, effect]: [&str; 2],
    number: impl Display,
    counted: &Path,
) -> assert_cmd::Command {
    let mut command = osp(folder);
    command.env("LD_PRELOAD", layer()).env("OSP_FAILING_CALLS", counted);
    command.env("OSP_FAILING", format!("{kind}:{number}:{effect}:{}", beginning.display()));
    command
}

/// Runs [`failing`], and returns the number of calls, too.
fn run(folder: &Path, args: &[&str], beginning: &Path, kind: [&str; 2], number: impl Display) -> (Output, usize) {
    let counted = tempfile::NamedTempFile::new().unwrap();
    let output = failing(folder, beginning, kind, number, counted.path()).args(args).output().unwrap();
    let calls = fs::read_to_string(counted.path()).unwrap();
    let calls = calls.parse().unwrap_or_else(|_| panic!("{calls:?}: {}", String::from_utf8_lossy(&output.stderr)));
    (output, calls)
}

/// Checks that a failure is one line, and no crash.
#[track_caller]
fn one_line(output: &Output, what: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    let errors = stderr.lines().filter(|line| line.contains("error: ")).count();
    assert!(matches!(code, Some(1..=6)) && errors == 1, "{what}: {code:?}, {stderr}");
}

/// Lets each call of a kind fail that a sample makes for its outputs. Whatever fails, each output is the older one or the new one, and
/// nothing else is left but the state of the work.
fn each_output_is_whole_or_the_older_one(kind: [&str; 2], args: &[&str]) {
    let (home, model) = (tempfile::tempdir().unwrap(), model());
    let folder = home.path().canonicalize().unwrap();
    let [first, then] =
        ["1", "2"].map(|seed| sample(&model, &[args, &["a cat", "--frames", "5", "--seed", seed]].concat()));
    osp(&folder).args(&first).assert().success();
    let old = contents(&folder);
    // The text is encoded anew, as in the runs below.
    fs::remove_dir_all(folder.join(CACHE)).unwrap();
    let (output, calls) = run(&folder, &then, &folder, kind, 0);
    assert!(output.status.success() && calls > 0, "{kind:?}: {calls} calls");
    let new = contents(&folder);
    assert!(old.keys().eq(new.keys()) && old != new, "the second run replaces what the first one made");
    let mut failed = 0;
    for number in 1..=calls {
        let _ = fs::remove_dir_all(folder.join(CACHE));
        restore(&old);
        let (output, _) = run(&folder, &then, &folder, kind, number);
        let what = format!("{kind:?}, call {number} of {calls}");
        let mut left = contents(&folder);
        let is_state = |path: &Path| path.extension().is_some_and(|ending| ending == "state");
        for state in left.keys().filter(|path| is_state(path)) {
            osp(&folder).args([Path::new("info"), state]).assert().success();
            fs::remove_file(state).unwrap();
        }
        left.retain(|path, _| !is_state(path));
        assert!(left.keys().eq(old.keys()), "{what}: {:?}", left.keys());
        if output.status.success() {
            assert!(is_all_of_one(&left, [&new, &new]), "{what}: a success that is none");
        } else {
            one_line(&output, &what);
            assert!(is_all_of_one(&left, [&old, &new]), "{what}: some files are older, some newer, or neither");
            failed += 1;
        }
    }
    assert!(failed > 0, "{args:?}: no {kind:?} matters");
}

/// Whether all files are those of one of two runs. Records hold times, and the seed of their run.
fn is_all_of_one(files: &Files, runs: [&Files; 2]) -> bool {
    let is_record = |path: &Path| path.extension().is_some_and(|ending| ending == "json");
    let seed =
        |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok().map(|record| record["seed"].clone());
    let same = |path: &Path, a: &[u8], b: &[u8]| if is_record(path) { seed(a) == seed(b) } else { a == b };
    runs.iter().any(|run| files.iter().all(|(path, bytes)| same(path, bytes, &run[path])))
}

pub fn restore(files: &BTreeMap<PathBuf, Vec<u8>>) {
    files.iter().filter(|(path, _)| path.is_file()).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
}

#[test]
fn a_disk_that_is_full_at_any_write_costs_no_output() {
    for out in ["a.mp4", "frames", "a.gif", "a.y4m"] {
        each_output_is_whole_or_the_older_one(DISK_FULL, &["-o", out]);
    }
    each_output_is_whole_or_the_older_one(DISK_FULL, &["-o", "a.mp4", "--save-latent", "a.safetensors"]);
}

/// Some file systems say only then that the disk is full.
#[test]
fn a_disk_that_takes_nothing_when_it_is_synchronised_costs_no_output() {
    each_output_is_whole_or_the_older_one(NOT_SYNCHRONISED, &["-o", "a.mp4", "--checkpoint-every", "2"]);
    each_output_is_whole_or_the_older_one(NOT_SYNCHRONISED, &["-o", "frames"]);
    let place = Place::new();
    for (older, args) in REPLACED {
        each_output_of_a_command_is_whole_or_the_older_one(&place, NOT_SYNCHRONISED, older, args);
    }
}

#[test]
fn a_folder_that_takes_no_file_at_any_moment_costs_no_output() {
    for kind in [NO_NEW_FILE, READ_ONLY] {
        each_output_is_whole_or_the_older_one(kind, &["-o", "a.mp4", "--save-latent", "a.safetensors"]);
    }
    each_output_is_whole_or_the_older_one(NO_NEW_FOLDER, &["-o", "frames"]);
}

/// Takes the permission to write from a folder, or gives it back.
fn protect(folder: &Path, protected: bool) {
    let mode = if protected { 0o555 } else { 0o755 };
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
}

/// The older frames could not be removed after the exchange, and they are protected for a reason.
#[test]
fn a_folder_of_frames_that_is_write_protected_is_refused_before_the_work() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
    fs::create_dir(at("frames")).unwrap();
    fs::write(at("frames/frame_00000.png"), "precious").unwrap();
    let before = contents(folder.path());
    protect(&at("frames"), true);
    let args = sample(&model, &["a cat", "--frames", "1", "-o", "frames"]);
    let output = osp(folder.path()).args(args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = "osp: error: cannot replace the files in frames: ";
    assert!(output.status.code() == Some(1) && said.starts_with(expected) && said.lines().count() == 1, "{said}");
    assert!(contents(folder.path()) == before);
    protect(&at("frames"), false);
}

#[test]
fn a_model_that_is_write_protected_is_not_replaced() {
    let (home, model) = (tempfile::tempdir().unwrap(), model());
    let folder = home.path().canonicalize().unwrap();
    let args = ["convert", model.to_str().unwrap(), "-o", "half", "--dtype", "f16", "--force"];
    osp(&folder).args(args).assert().success();
    let before = contents(&folder);
    for protected in ["half", "half/vae"] {
        protect(&folder.join(protected), true);
        let output = osp(&folder).args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = format!("osp: error: cannot replace the files in {protected}: ");
        assert!(output.status.code() == Some(1) && said.starts_with(&expected) && said.lines().count() == 1, "{said}");
        assert!(contents(&folder) == before);
        protect(&folder.join(protected), false);
    }
}

#[test]
fn a_clock_that_jumps_by_years_changes_nothing() {
    let model = model();
    let args =
        sample(&model, &["a cat", "-o", "a.gif", "--frames", "1", "--seed", "1,2", "--checkpoint-every", "1min"]);
    let [expected, folder] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    osp(expected.path()).args(&args).assert().success();
    // The second time, the texts come from the cache, whose entries have times.
    for _ in 0..2 {
        let mut command = osp(folder.path());
        command.args(&args).env("LD_PRELOAD", layer()).env("OSP_CLOCK_JUMPS", "100000000").assert().success();
    }
    assert_eq!(names(folder.path()), names(expected.path()));
    for name in names(folder.path()).iter().filter(|name| name.ends_with(".gif")) {
        assert!(fs::read(folder.path().join(name)).unwrap() == fs::read(expected.path().join(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_list_is_made_once_whatever_the_clock_says() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let list = ["a", "b"].map(|name| format!("{{\"prompt\": \"a cat\", \"output\": \"{name}.gif\"}}\n"));
    fs::write(folder.path().join("list.jsonl"), list.concat()).unwrap();
    let args = sample(&model, &["--prompts", "list.jsonl", "--frames", "1"]);
    let jumping = || {
        let mut command = osp(folder.path());
        command.args(&args).env("LD_PRELOAD", layer()).env("OSP_CLOCK_JUMPS", "100000000").assert().success();
        contents(folder.path())
    };
    let made = jumping();
    let [a, b] = ["a.gif.json", "b.gif.json"].map(|name| folder.path().join(name));
    assert!(made.contains_key(&a) && made.contains_key(&b), "{:?}", names(folder.path()));
    // Records hold times, so that a video which is made again has another one.
    assert!(jumping() == made);
}

/// Commands that make an output, and others that replace it.
pub const REPLACED: [(&[&str], &[&str]); 7] = [
    (
        &["encode", "clip.y4m", "-o", "b.safetensors", "--max-frames", "1"],
        &["encode", "clip.y4m", "-o", "b.safetensors"],
    ),
    (&["decode", "clip.safetensors", "-o", "b.mp4", "--fps", "50"], &["decode", "clip.safetensors", "-o", "b.mp4"]),
    (
        &["reconstruct", "clip.y4m", "-o", "frames", "--max-frames", "1"],
        &["decode", "clip.safetensors", "-o", "frames"],
    ),
    (&["reconstruct", "clip.y4m", "-o", "c.gif", "--max-frames", "1"], &["reconstruct", "clip.y4m", "-o", "c.gif"]),
    (
        &["convert", "model", "-o", "half", "--dtype", "f16"],
        &["convert", "model", "-o", "half", "--dtype", "bf16", "--force"],
    ),
    (
        &["edit", "clip.y4m", "a cat", "-o", "d.mp4", "--seed", "1"],
        &["edit", "clip.y4m", "a cat", "-o", "d.mp4", "--seed", "2"],
    ),
    (&["edit", "clip.y4m", "a cat", "-o", "cats", "--max-frames", "1"], &["edit", "clip.y4m", "a cat", "-o", "cats"]),
];

/// Lets each call of a kind fail that a command makes, and all later ones. Whatever fails, each output is the older one or the new one, and
/// nothing else is left.
fn each_output_of_a_command_is_whole_or_the_older_one(place: &Place, kind: [&str; 2], older: &[&str], args: &[&str]) {
    place.runs(older);
    let old = place.files();
    let (output, calls) = run(&place.folder, &Place::whole(args), &place.folder, kind, 0);
    assert!(output.status.success() && calls > 0, "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let new = place.files();
    let [before, after] = [&old, &new].map(|files| place.outputs(files));
    assert!(before.keys().eq(after.keys()) && before != after, "{args:?} replaces what {older:?} made");
    let mut failed = 0;
    for number in 1..=calls {
        place.reset(&old);
        let (output, _) = run(&place.folder, &Place::whole(args), &place.folder, kind, number);
        let what = format!("{args:?}, {kind:?}, call {number} of {calls}");
        let left = place.outputs(&place.files());
        if output.status.success() {
            assert!(left == after, "{what}: a success that is none");
            continue;
        }
        one_line(&output, &what);
        failed += 1;
        let is_state = |name: &Path| name.extension().is_some_and(|ending| ending == "state");
        assert!(left.keys().filter(|name| !is_state(name)).eq(before.keys()), "{what}: {:?}", left.keys());
        for (name, files) in left.iter().filter(|(name, _)| !is_state(name)) {
            assert!(before[name] == *files || after[name] == *files, "{what}: {} is neither", name.display());
        }
    }
    assert!(failed > 0, "{args:?}: no {kind:?} matters");
    place.reset(&old);
}

#[test]
fn a_disk_that_is_full_at_any_write_of_other_commands_costs_no_output() {
    let place = Place::new();
    for (older, args) in REPLACED {
        each_output_of_a_command_is_whole_or_the_older_one(&place, DISK_FULL, older, args);
    }
}

#[test]
fn a_thread_that_the_system_refuses_at_any_moment_costs_no_output() {
    each_output_is_whole_or_the_older_one(NO_THREAD, &["-o", "a.mp4", "--save-latent", "a.safetensors"]);
    let place = Place::new();
    let convert = ["-v", "error", "-i", "clip.y4m", "-c:v", "ffv1", "clip.mkv"];
    match Command::new("ffmpeg").args(convert).current_dir(&place.folder).status() {
        Ok(status) if status.success() => {}
        other => return eprintln!("skipped: ffmpeg {convert:?}: {other:?}"),
    }
    let encode = ["encode", "clip.mkv", "-o", "b.safetensors"];
    each_output_of_a_command_is_whole_or_the_older_one(
        &place,
        NO_THREAD,
        &[&encode[..], &["--max-frames", "1"]].concat(),
        &encode,
    );
}

/// On a terminal there are bars, too.
#[test]
fn a_thread_that_the_system_refuses_on_a_terminal_is_one_line_or_no_matter() {
    let (home, model) = (tempfile::tempdir().unwrap(), model());
    let folder = home.path().canonicalize().unwrap();
    let args = sample(&model, &["a cat", "-o", "a.png", "--frames", "1"]);
    let counted = folder.join("calls");
    let run = |number: usize| {
        let [mut ours, its] = terminal();
        let mut command = Command::new(env!("CARGO_BIN_EXE_osp"));
        command.args(&args).current_dir(&folder).env("XDG_CACHE_HOME", folder.join(CACHE)).env("TERM", "xterm");
        command.env("LD_PRELOAD", layer()).env("OSP_FAILING_CALLS", &counted);
        let mut child = command
            .env("OSP_FAILING", format!("thread:{number}:11:"))
            .stdout(Stdio::null())
            .stderr(its)
            .spawn()
            .unwrap();
        // The end of the program closes the terminal, which is an error here.
        drop(command);
        let mut said = Vec::new();
        let _ = ours.read_to_end(&mut said);
        (child.wait().unwrap().code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = run(0);
    assert!(code == Some(0) && said.contains('\u{2591}'), "a bar: {code:?}, {said}");
    let calls: usize = fs::read_to_string(&counted).unwrap().parse().unwrap();
    for number in 1..=calls {
        let (code, said) = run(number);
        let errors = said.matches("error: ").count();
        assert!((code, errors) == (Some(0), 0) || (code, errors) == (Some(4), 1), "thread {number}: {code:?}, {said}");
    }
}

/// The self-test runs processes, and a thread reads what each of them says.
#[test]
fn a_thread_that_the_system_refuses_to_the_self_test_is_one_line() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().canonicalize().unwrap();
    let args = ["selftest", "sampler", "--quick", "--device", "emulated"];
    let (output, calls) = run(&folder, &args, Path::new(""), NO_THREAD, 0);
    assert!(output.status.success() && calls > 0, "{calls}: {}", String::from_utf8_lossy(&output.stderr));
    for number in 1..=calls {
        let (output, _) = run(&folder, &args, Path::new(""), NO_THREAD, number);
        one_line(&output, &format!("thread {number} of {calls}"));
    }
}

/// A run of which the first write that it cannot do without finds the disk full. Its state does not: it is small.
fn full_for_one_write(folder: &Path, args: &[&str]) -> Output {
    let before = contents(folder);
    for number in 1..10 {
        let (output, _) = run(folder, args, &folder.join(".osp-"), DISK_FULL, format!("{number}x"));
        if !output.status.success() {
            return output;
        }
        // Whether an output can be written is tried with a write that may fail.
        fs::remove_dir_all(folder.join(CACHE)).unwrap();
        let made = contents(folder).into_keys().filter(|path| !before.contains_key(path));
        made.for_each(|path| fs::remove_file(path).unwrap());
    }
    panic!("no write of {args:?} matters");
}

#[test]
fn work_that_a_full_disk_stops_goes_on_from_its_state() {
    let model = model();
    let args = sample(&model, &["a cat", "-o", "a.y4m", "--frames", "5"]);
    let [whole, stopped] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    osp(whole.path()).args(&args).assert().success();
    let folder = stopped.path().canonicalize().unwrap();
    one_line(&full_for_one_write(&folder, &args), "the first frame");
    assert_eq!(names(&folder), ["a.y4m.state"]);
    osp(&folder).args(["sample", "--resume", "a.y4m.state"]).assert().success();
    assert!(fs::read(folder.join("a.y4m")).unwrap() == fs::read(whole.path().join("a.y4m")).unwrap());
}

#[test]
fn a_full_disk_ends_a_list_and_the_same_command_goes_on() {
    let (home, model) = (tempfile::tempdir().unwrap(), model());
    let folder = home.path().canonicalize().unwrap();
    let list = ["a", "b", "c"].map(|name| format!("{{\"prompt\": \"a cat\", \"output\": \"{name}.y4m\"}}\n"));
    fs::write(folder.join("list.jsonl"), list.concat()).unwrap();
    let args = sample(&model, &["--prompts", "list.jsonl", "--frames", "1"]);
    one_line(&full_for_one_write(&folder, &args), "the first video");
    let made = names(&folder).into_iter().filter(|name| name.ends_with(".y4m")).count();
    assert_eq!(made, 0, "{:?}", names(&folder));
    osp(&folder).args(&args).assert().success();
    for name in ["a", "b", "c"].map(|name| format!("{name}.y4m")) {
        assert!(names(&folder).contains(&name), "{:?}", names(&folder));
    }
}

#[test]
fn reads_that_fail_are_named() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().canonicalize().unwrap();
    let model = folder.join("model");
    copy(&super::model(), &model);
    let args = sample(&model, &["a cat", "-o", "a.png", "--frames", "1"]);
    let place = folder.join("run");
    fs::create_dir(&place).unwrap();
    let (output, calls) = run(&place, &args, &model, BAD_DISK, 0);
    assert!(output.status.success() && calls > 0, "{}", String::from_utf8_lossy(&output.stderr));
    let whole = fs::read(place.join("a.png")).unwrap();
    let mut failed = 0;
    for number in 1..=calls {
        fs::remove_dir_all(&place).unwrap();
        fs::create_dir(&place).unwrap();
        let (output, _) = run(&place, &args, &model, BAD_DISK, number);
        let what = format!("read {number} of {calls}");
        // What a reader may do without, such as a marker of a format, may fail.
        if !output.status.success() {
            one_line(&output, &what);
            assert!(contents(&place).is_empty(), "{what}: {:?}", contents(&place).keys());
            failed += 1;
        } else {
            assert!(fs::read(place.join("a.png")).unwrap() == whole, "{what}");
        }
    }
    assert!(2 * failed > calls, "only {failed} of {calls} reads matter");
}

/// Copies the files of a model.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for (path, bytes) in contents(from) {
        let place = to.join(path.strip_prefix(from).unwrap());
        if path.is_dir() { fs::create_dir_all(place).unwrap() } else { fs::write(place, bytes).unwrap() }
    }
}
