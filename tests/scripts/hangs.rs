//! Kernels that hang: which steps show it, and what no longer runs afterwards.

use super::hopper::DOCTOR;
use super::{Rehearsal, root};
use std::process::Command;

/// Runs a program of Python that has a session `s` of gpu-check on the mock program. Its steps take turns.
pub fn with_a_session(rehearsal: &Rehearsal, program: &str) -> String {
    let before = "import dataclasses, sys\nfrom pathlib import Path\nsys.path.insert(0, 'scripts')\n\
                  from gpu_check import commands, deep, report, speed, stages\n\
                  from gpu_check.session import Session\nfrom gpu_check.steps import Result, Step\n\
                  s = Session(Path('.').resolve(), 'cuda', 500.0)\ns.alone = 'one at a time'\n\
                  s.begin(Path(sys.argv[1]) / 'bin/osp', Path(sys.argv[1]) / 'work')\ns.play([commands.doctor(s)])\n";
    let output = Command::new("python3")
        .args(["-B", "-c", &format!("{before}{program}")])
        .arg(rehearsal.path(""))
        .current_dir(root())
        .output()
        .expect("python3 is needed for scripts/gpu-check");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn two_hangs_of_the_kernels_for_hopper_are_the_last() {
    let rehearsal = Rehearsal::new(&format!("{DOCTOR}verify*bf16*sm90*) exec sleep 1000 ;;\n"));
    let said = with_a_session(
        &rehearsal,
        "s.play(commands.selftest(s, stem) for stem in commands.TWINS)
short = lambda steps: [dataclasses.replace(step, limit=2.0) for step in steps]
assert commands.newest(s) == commands.SM90
s.play([short(stages.verifications(s))])
assert not commands.tries_hopper(s) and commands.newest(s) == []
s.play([commands.profile(s, 'profile of sm90', 65, commands.SM90), commands.profile(s, 'profile of sm80', 65, commands.SM80)])
print(report.kernels(s))
print([target for target in deep.suspects(s)])
",
    );
    let count = |words: &str| said.lines().filter(|line| line.contains(words)).count();
    assert_eq!(count("ended after 2 s"), 2, "{said}");
    assert!(count("it would hang, as verify ") > 3, "{said}");
    // Other verifications of the same variant had begun before, or are of other kernels.
    assert!(said.contains("pass  verify vae_v110 f16 ") && said.contains("pass  verify captions f16 "), "{said}");
    assert!(said.contains("skip  profile of sm90 ") && said.contains("sm90 hung in verify "), "{said}");
    assert!(said.contains("pass  profile of sm80 "), "{said}");
    assert!(said.contains("kernels sm80, because sm90 hung in verify "), "{said}");
    // The sanitizer looks once at what hangs.
    assert!(said.contains("checks=('memcheck',)"), "{said}");
}

#[test]
fn a_profile_that_hangs_is_the_last_with_its_kernels() {
    let rehearsal = Rehearsal::new(&format!("{DOCTOR}profile*sm90*) exec sleep 1000 ;;\n"));
    let said = with_a_session(
        &rehearsal,
        "s.play(commands.selftest(s, stem) for stem in commands.TWINS)
step = commands.profile(s, 'profile', 65, commands.SM90)
s.play([dataclasses.replace(step, limit=1.0), step, step])
print(commands.newest(s))
",
    );
    let count = |words: &str| said.lines().filter(|line| line.starts_with(words)).count();
    assert_eq!((count("FAIL  profile "), count("skip  profile ")), (1, 2), "{said}");
    assert!(said.contains("sm90 hung in profile") && said.ends_with("[]\n"), "{said}");
}

#[test]
fn a_verification_that_fails_ends_the_trust_in_its_kernels() {
    let rehearsal = Rehearsal::new(&format!("{DOCTOR}verify*latte_d64*bf16*sm90*) echo 'FAIL  far off'; exit 1 ;;\n"));
    let run = rehearsal.run("light", &[]);
    run.is_whole();
    let because = "kernels sm80, because sm90 failed verify latte_d64 bf16 --kernels sm90; ";
    assert!(run.read("table.txt").contains(because), "{}", run.stdout);
    let calls = rehearsal.calls();
    assert!(calls.iter().filter(|call| call.starts_with("sample")).all(|call| !call.contains("sm90")), "{calls:?}");
    // It did not hang, so whoever asks for these kernels gets them.
    run.says("verify latte f16 --kernels sm90", "pass", "");

    // One that had less than its time has not failed.
    let slow = "verify*latte_d64*bf16*sm90*) exec sleep 1000 ;;\n";
    let rehearsal = Rehearsal::new(&format!("{DOCTOR}{slow}"));
    let run = rehearsal.run("light", &["--step-limit", "2"]);
    run.says("verify latte_d64 bf16 --kernels sm90", "FAIL", "ended after 2 s");
    assert!(run.read("table.txt").contains("kernels sm90, whose self-tests passed"), "{}", run.stdout);
}

#[test]
fn only_a_hang_of_the_kernels_for_hopper_speaks_against_them() {
    let hang = "'selftest conv3d'*) echo 'pass  causal_conv3d_sm90_small_f16   0.43 of allowed, 37 cases'
        echo 'FAIL  conv3d, parts_are_equal: did not finish within 10 s, during f16, sm80: Case { cin: 64 }'; exit 1 ;;\n";
    let rehearsal = Rehearsal::new(&format!("{DOCTOR}{hang}"));
    let run = rehearsal.run("light", &[]);
    run.is_whole();
    run.says("verify latte f16 --kernels sm90", "pass", "");
    let calls = rehearsal.calls();
    // What nobody chooses would run the kernels that hang.
    assert!(calls.iter().any(|call| call.starts_with("sample") && call.contains("--kernels sm90")), "{calls:?}");
    // Beside a wrong result the others are not to be trusted.
    let wrong = hang.replace("pass  causal_conv3d_sm90_small_f16", "FAIL  causal_conv3d_sm90_small_f16  1 wrong:");
    let rehearsal = Rehearsal::new(&format!("{DOCTOR}{wrong}"));
    let run = rehearsal.run("light", &[]);
    run.says("verify latte f16 --kernels sm90", "pass", "");
    assert!(run.read("table.txt").contains("because sm90 has not passed its self-tests"), "{}", run.stdout);
}

/// A self-test that is ended names the case in which it was.
const INTERRUPTED: &str = "'selftest gemm'*)
    trap \"echo 'FAIL  gemm, parts_are_equal: interrupted, during f16, sm90: Case { m: 1 }'; exit 130\" TERM
    echo 'pass  linear_small_f16'; sleep 1000 & wait ;;\n";

#[test]
fn a_test_that_is_ended_early_does_not_hang() {
    let rehearsal = Rehearsal::new(&format!("{DOCTOR}{INTERRUPTED}"));
    let run = rehearsal.run("light", &["--step-limit", "2"]);
    run.is_whole();
    let words = "gemm, parts_are_equal: interrupted, during f16, sm90: Case { m: 1 }; ended after 2 s";
    run.says("selftest gemm", "FAIL", words);
    run.says("verify latte f16 --kernels sm90", "pass", "");

    let hung = "step = dataclasses.replace(commands.selftest(s, 'gemm'), expected=0.0, limit=2.0)\n\
                s.play([step])\nprint(commands.hopper_hung(s))\n";
    let with =
        |before: &str| with_a_session(&Rehearsal::new(&format!("{DOCTOR}{INTERRUPTED}")), &format!("{before}{hung}"));
    // With its whole time it does.
    let said = with("");
    assert!(said.ends_with("\nselftest gemm\n"), "{said}");
    assert!(with("s.budget -= s.left() - 1.0\n").ends_with("\n\n"), "the budget had less");
    let stopped = "import threading\nthreading.Timer(1.0, lambda: s.stop('ended by SIGTERM')).start()\n";
    assert!(with(stopped).ends_with("\n\n"), "the user ended it");
}
