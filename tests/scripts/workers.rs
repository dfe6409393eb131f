//! The start of PyTorch's worker: early, once more if it is slow, and not for ever.

use super::{Rehearsal, STAND_IN, TORCH};
use std::fs;

/// Makes a mock of PyTorch that begins with a statement of Python.
fn torch(rehearsal: &Rehearsal, first: &str) {
    fs::write(rehearsal.path("tools/torch.py"), format!("import os, time\n{first}\n{TORCH}")).unwrap();
}

#[test]
fn a_slow_start_is_tried_again_and_overlaps_the_selftests() {
    let rehearsal = Rehearsal::new("");
    let slow = "if not os.path.exists(__file__ + '.slow'):
    open(__file__ + '.slow', 'w').close()
    time.sleep(1000)";
    torch(&rehearsal, slow);
    let run = rehearsal.run("light", &["--step-limit", "4"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    run.is_whole();
    run.says("torch", "skip", "no answer after 4 s");
    run.says("torch", "pass", "torch 2.9.0");
    run.says("torch linear 34816x1152x3456: bias", "pass", "1 ms");
    let at = |step: &str| run.steps.iter().position(|(name, ..)| name == step).unwrap();
    assert!(at("torch") < at("verify latte f16"), "{}", run.stdout);
}

#[test]
fn a_worker_that_never_starts_costs_two_starts() {
    let rehearsal = Rehearsal::new("");
    torch(&rehearsal, "time.sleep(1000)");
    let run = rehearsal.run("light,speed", &["--step-limit", "2"]);
    run.is_whole();
    let starts = run.steps.iter().filter(|(name, verdict, _)| name == "torch" && verdict == "skip").count();
    assert_eq!(starts, 2, "{}", run.stdout);
    assert!(!run.has("torch linear 34816x1152x3456: bias"), "{}", run.stdout);
    // An error of PyTorch's own would be the same at the second try.
    torch(&rehearsal, "raise ImportError('libcudnn.so')");
    let run = rehearsal.run("light,speed", &[]);
    run.says("torch", "skip", "ImportError: libcudnn.so");
    assert_eq!(run.steps.iter().filter(|(name, ..)| name == "torch").count(), 1, "{}", run.stdout);
}

/// The memory in use beside a whole run is compared with its plan.
#[test]
fn whole_runs_have_the_gpu_for_themselves() {
    let rehearsal = Rehearsal::new("");
    torch(&rehearsal, "open(__file__ + '.pid', 'w').write(str(os.getpid()))");
    let asks = format!(
        "  sample*)\n    for pid in $(cat {}); do [ ! -d /proc/$pid ] || echo \"$*\" >>\"$here/beside\"; done\n",
        rehearsal.path("tools/torch.py.pid").display()
    );
    rehearsal.script("bin/osp", &STAND_IN.replace("  sample*)\n", &asks));
    let run = rehearsal.run("light,speed", &[]);
    run.is_whole();
    run.says("whole 65 frames, 2 steps", "pass", "");
    let beside = fs::read_to_string(rehearsal.path("bin/beside")).unwrap();
    // The worker of the stage before was there, and the next one times the rest.
    assert!(beside.lines().count() == 1 && !beside.contains("--frames"), "{beside}");
    run.says("torch linear 114688x1152x3456: bias", "pass", "1 ms");
}
