//! Ctrl-C, and the other signals that end a process.

use super::{CACHE, contents, model_argument, names, osp};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
#[cfg(target_os = "linux")]
use std::time::Instant;

/// Starts a run in `folder` that takes a while, and returns it with the lines of its stderr.
fn start(folder: &Path, output: &str, more: &[&str]) -> (Child, impl Iterator<Item = String>) {
    run(Command::new(osp(folder).get_program()), folder, output, more)
}

/// As [`start`], for the program `command`.
fn run(mut command: Command, folder: &Path, output: &str, more: &[&str]) -> (Child, impl Iterator<Item = String>) {
    let mut child = command
        .args(["sample", "a cat", "--frames", "17", "-o", output, "--model"])
        .arg(model_argument())
        .args(more)
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join(CACHE))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    (child, lines)
}

/// Waits until the run prints `word`, then presses Ctrl-C.
fn interrupt_at(word: &str, child: &Child, lines: &mut impl Iterator<Item = String>) {
    assert!(lines.any(|line| line.contains(word)), "the run never printed {word:?}");
    send("INT", child);
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn an_interrupted_run_leaves_the_folder_as_it_was_and_its_state() {
    // While the transformer computes, and while frames are written.
    for word in ["auto chose", "denoise: "] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("out.gif"), "precious").unwrap();
        let before = contents(folder.path());
        let (mut child, mut lines) = start(folder.path(), "out.gif", &["--size", "128x128", "--steps", "4"]);
        interrupt_at(word, &child, &mut lines);
        let said: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{said:?}");
        assert_eq!(said.last().map(String::as_str), Some("osp: error: interrupted"));
        let mut after = contents(folder.path());
        let state = after.remove(&folder.path().join("out.gif.state"));
        assert!(state.is_some_and(|state| !state.is_empty()) && after == before, "{word}");
    }
}

/// Longer than the time in which signals are one press, and much shorter than a tile of the decoder.
const ONE_PRESS: Duration = Duration::from_millis(250);

#[test]
fn a_program_that_signals_twice_presses_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = start(folder.path(), "out.gif", &["--size", "128x128", "--steps", "4"]);
    assert!(lines.any(|line| line.contains("auto chose")));
    // As `timeout` does: to the process, and then to its group.
    let twice = format!("kill -s TERM {0}; kill -s INT {0}; kill -s TERM {0}", child.id());
    assert!(Command::new("sh").args(["-c", &twice]).status().unwrap().success());
    let said: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("osp: error: interrupted"));
    assert_eq!(names(folder.path()), ["out.gif.state"]);
}

#[test]
fn a_second_press_ends_the_run_within_a_step_and_leaves_nothing() {
    for output in ["out.gif", "frames"] {
        let folder = tempfile::tempdir().unwrap();
        let size = ["--size", "256x256", "--steps", "1", "--sampler", "DDIM"];
        let (mut child, mut lines) = start(folder.path(), output, &size);
        interrupt_at("denoise: ", &child, &mut lines);
        assert!(lines.any(|line| line.contains("press Ctrl-C again")));
        std::thread::sleep(ONE_PRESS);
        send("INT", &child);
        assert_eq!(lines.next(), None, "a second Ctrl-C prints nothing");
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

/// A terminal sends Ctrl-C to all processes of a command. What reads the clip for osp may end first.
#[test]
fn ctrl_c_that_also_ends_ffmpeg_is_no_fault_of_the_clip() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    super::write(&at("clip.y4m"), 17, 64, 64);
    let convert = ["-v", "error", "-i", "clip.y4m", "-c:v", "ffv1", "clip.mkv"];
    match Command::new("ffmpeg").args(convert).current_dir(folder.path()).status() {
        Ok(status) if status.success() => {}
        other => return eprintln!("skipped: ffmpeg {convert:?}: {other:?}"),
    }
    // An ffmpeg that gives a frame and a part of the next one, and then takes its time.
    let paths = std::env::var("PATH").unwrap();
    let slow = format!(
        "#!/bin/sh\nPATH={paths}\ncase \"$*\" in\n*clip.mkv*yuv4mpegpipe*) ffmpeg \"$@\" | head -c 9000; touch waits; \
         exec sleep 60;;\n*) exec ffmpeg \"$@\";;\nesac\n"
    );
    fs::create_dir(at("tools")).unwrap();
    fs::write(at("tools/ffmpeg"), slow).unwrap();
    fs::set_permissions(at("tools/ffmpeg"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(osp(folder.path()).get_program());
    command.args(["encode", "clip.mkv", "-o", "out.safetensors", "--model", &model_argument()]);
    command.current_dir(folder.path()).env("PATH", format!("{}:{paths}", at("tools").display())).process_group(0);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !at("waits").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-s", "INT", "--", &group]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(130) && said.ends_with("osp: error: interrupted\n"), "{said}");
    assert!(!at("out.safetensors").exists());
}

/// Different signals at once are handled by different threads, and each ends the process.
#[test]
fn signals_that_end_the_process_at_once_leave_nothing_behind() {
    use std::os::unix::process::ExitStatusExt;
    let ends: [&[&str]; 2] = [&["QUIT", "ABRT", "XCPU"], &["TERM", "INT", "HUP"]];
    for round in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let size = ["--size", "64x64", "--steps", "1", "--sampler", "DDIM", "--tile-frames", "17"];
        // Without a dump of the memory, which some systems put into the folder.
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c 0; exec \"$0\" \"$@\""]).arg(osp(folder.path()).get_program());
        command.args(["sample", "a cat", "--frames", "257", "-o", "frames", "--model", &model_argument()]).args(size);
        command.args(["--guidance", "1", "--quiet"]).current_dir(folder.path());
        let mut child = command.env("XDG_CACHE_HOME", folder.path().join(CACHE)).spawn().unwrap();
        // Removing some frames takes a while, in which the other signals come.
        let files = |folder: &Path| fs::read_dir(folder).map_or(0, |files| files.flatten().count());
        while fs::read_dir(folder.path()).unwrap().flatten().map(|file| files(&file.path())).sum::<usize>() < 40 {
            assert!(child.try_wait().unwrap().is_none(), "it writes no frames");
            std::thread::sleep(Duration::from_millis(5));
        }
        let signals = ends[round % 2];
        if signals.contains(&"INT") {
            send("INT", &child);
            std::thread::sleep(ONE_PRESS);
        }
        let all: Vec<String> = signals.iter().map(|signal| format!("kill -s {signal} {}", child.id())).collect();
        // The first may have ended it already.
        Command::new("sh").args(["-c", &all.join("; ")]).stderr(Stdio::null()).status().unwrap();
        let status = child.wait().unwrap();
        let ended = match signals.contains(&"INT") {
            true => status.code() == Some(130),
            false => matches!(status.signal(), Some(libc::SIGQUIT | libc::SIGABRT | libc::SIGXCPU)),
        };
        assert!(ended, "{signals:?}: {status}");
        // Where the decoder was faster than the second press, the first one left a state.
        let left: Vec<String> = names(folder.path()).into_iter().filter(|name| name != "frames.state").collect();
        assert_eq!(left, [""; 0], "{signals:?}");
    }
}

#[test]
fn an_abort_leaves_nothing_behind() {
    use std::os::unix::process::ExitStatusExt;
    for (signal, number) in [("QUIT", 3), ("ABRT", 6)] {
        let folder = tempfile::tempdir().unwrap();
        let size = ["--size", "256x256", "--steps", "1", "--sampler", "DDIM"];
        let (mut child, mut lines) = start(folder.path(), "frames", &size);
        assert!(lines.any(|line| line.contains("denoise: ")));
        while names(folder.path()).is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        send(signal, &child);
        assert_eq!(child.wait().unwrap().signal(), Some(number));
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

/// Waits until the process has installed its handler of `SIGTERM`.
#[cfg(target_os = "linux")]
fn ready(child: &Child) {
    const TERM: u64 = 1 << (15 - 1);
    let caught = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & TERM != 0
    };
    while !caught() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_command_that_writes_nothing_ends_at_the_first_signal() {
    let folder = tempfile::tempdir().unwrap();
    let preset = ["--preset", "v1.1.0-221x512x512"];
    let golden = super::golden("");
    let cases: [&[&str]; 4] = [
        &[&["plan", "--memory", "3GiB"], &preset[..]].concat(),
        &[&["profile", "--device", "dry"], &preset[..]].concat(),
        &["verify", "--device", "emulated", golden.to_str().unwrap()],
        &["selftest", "--device", "emulated"],
    ];
    for args in cases {
        for signal in ["TERM", "HUP", "INT"] {
            let mut command = Command::new(osp(folder.path()).get_program());
            let child = command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            ready(&child);
            let start = Instant::now();
            send(signal, &child);
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), said.lines().last()), (Some(130), Some("osp: error: interrupted")));
            assert!(start.elapsed() < Duration::from_secs(1), "{args:?} took {:?}", start.elapsed());
        }
    }
}

/// The ticks of the processor that a child of a process has used; each of its threads may have started it.
#[cfg(target_os = "linux")]
fn ticks_of_its_child(child: &Child) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{}/task", child.id())).ok()?.flatten();
    let children: String =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok()).collect();
    let stat = fs::read_to_string(format!("/proc/{}/stat", children.split_whitespace().next()?)).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(11)?.parse().ok()
}

/// Tools end what takes too long with a signal, and then want to know where it was.
#[test]
#[cfg(target_os = "linux")]
fn an_interrupted_selftest_names_the_case_that_it_was_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(osp(folder.path()).get_program());
    command.args(["selftest", "conv3d", "--device", "emulated"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Only cases use the processor for so long.
    while ticks_of_its_child(&child).is_none_or(|ticks| ticks < 100) {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    send("TERM", &child);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("FAIL  conv3d, ") && last.contains(": interrupted, during ") && last.contains("16, sm"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(130));
}

/// A pipe that nobody fills would hold the run for ever, and nothing is made yet that could be kept.
#[test]
#[cfg(target_os = "linux")]
fn a_run_that_waits_for_its_input_ends_at_the_first_signal() {
    use std::os::unix::fs::OpenOptionsExt;
    let cases: [&[&str]; 7] = [
        &["decode", "pipe", "-o", "out.gif"],
        &["encode", "pipe", "-o", "out.safetensors"],
        &["edit", "clip.y4m", "a cat", "--mask", "pipe", "-o", "out.gif"],
        &["edit", "clip.y4m", "a cat", "--first-frame", "pipe", "-o", "out.gif"],
        &["sample", "--prompts", "pipe", "-o", "out.gif"],
        &["sample", "a cat", "--init-image", "pipe", "-o", "out.gif"],
        &["sample", "--like", "pipe", "-o", "out.gif"],
    ];
    let folder = tempfile::tempdir().unwrap();
    super::write(&folder.path().join("clip.y4m"), 5, 32, 32);
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for args in cases {
        let mut command = Command::new(osp(folder.path()).get_program());
        command.args(args).args(["--model", &model_argument()]).current_dir(folder.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // Such a pipe has an end for writing only when someone reads from it.
        let open = || fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&pipe);
        let held = loop {
            match open() {
                Ok(held) => break held,
                Err(_) => assert!(child.try_wait().unwrap().is_none(), "{args:?} does not read the pipe"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        send("TERM", &child);
        let output = child.wait_with_output().unwrap();
        drop(held);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().last()), (Some(130), Some("osp: error: interrupted")), "{said}");
        assert_eq!(names(folder.path()), ["clip.y4m", "pipe"], "{args:?}");
    }
}

#[test]
fn signals_that_were_ignored_stay_ignored() {
    let folder = tempfile::tempdir().unwrap();
    // As with `nohup`, or in a background job of a shell without job control.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' INT HUP TERM; exec \"$0\" \"$@\""]).arg(osp(folder.path()).get_program());
    let (mut child, mut lines) = run(command, folder.path(), "out.gif", &["--size", "64x64", "--steps", "4"]);
    assert!(lines.any(|line| line.contains("auto chose")));
    for signal in ["INT", "HUP", "TERM", "INT"] {
        send(signal, &child);
    }
    let said: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said:?}");
    assert_eq!(names(folder.path()), ["out.gif", "out.gif.json"]);
}

#[test]
fn absurd_numbers_of_threads_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [("RAYON_NUM_THREADS", "100000"), ("RAYON_NUM_THREADS", "two"), ("RAYON_RS_NUM_CPUS", "-1")] {
        let output = osp(folder.path()).env(name, value).arg("doctor").assert().code(2).get_output().clone();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("osp: error: ") && said.contains(name) && said.contains(value), "{said}");
        assert_eq!(said.lines().count(), 1);
    }
    for value in ["", "0", "3", "1024"] {
        osp(folder.path()).env("RAYON_NUM_THREADS", value).arg("doctor").assert().success();
    }
}
