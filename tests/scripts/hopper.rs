//! Kernels for Hopper: they are checked and timed where they run and are right, and never where they are not.

use super::stages::stand_in_tools;
use super::{Rehearsal, STAND_IN};
use std::fs;

/// Says that there are kernels for Hopper.
pub const DOCTOR: &str = "doctor) printf 'driver       CUDA 13.0\\ngpu          Stand-in\\nruns         sm_90a; linear: sm80, until sm90 passes\\n' ;;\n";

#[test]
fn kernels_for_hopper_are_verified_and_timed_where_they_run() {
    let rehearsal = Rehearsal::new(DOCTOR);
    let run = rehearsal.run("light,speed", &[]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    run.says("verify latte f16 --kernels sm90", "pass", "2 checks");
    run.says("verify vae_v110 f16 --kernels sm90", "pass", "2 checks");
    let calls = rehearsal.calls();
    let profiles: Vec<&String> =
        calls.iter().filter(|call| call.starts_with("profile") && call.contains("--kernels")).collect();
    let order: Vec<bool> = profiles.iter().map(|call| call.contains("--kernels sm90")).collect();
    assert_eq!(order, [true, false, false, true, false, true], "arms alternate: {profiles:?}");
    // Elsewhere there is nothing to choose.
    let run = Rehearsal::new("").run("light,speed", &[]);
    assert!(!run.has("verify latte f16 --kernels sm90") && !run.has("profile 221 frames sm90, 1"));
    assert!(!run.stdout.contains("kernels sm"), "{}", run.stdout);
}

/// The calls of the mock program that begin with a word and name kernels, without those that only ask for help.
fn asked(rehearsal: &Rehearsal, command: &str) -> Vec<Option<String>> {
    let kernels = |call: &String| {
        let (_, rest) = call.split_once("--kernels ")?;
        Some(rest.split(' ').next().unwrap().to_owned())
    };
    let of_command = |call: &&String| call.starts_with(command) && !call.contains("--help");
    rehearsal.calls().iter().filter(of_command).map(kernels).collect()
}

#[test]
fn kernels_for_hopper_that_passed_run_in_every_later_step_and_call() {
    let rehearsal = Rehearsal::new("");
    // The profile shows a kernel of each kind.
    let program = STAND_IN.replace("  # OVERRIDES\n", DOCTOR);
    let program = program.replace(
        "row linear_large_f16",
        "row $(case \"$*\" in *sm90*) echo linear_sm90_large_f16 ;; *) echo linear_large_f16 ;; esac)",
    );
    rehearsal.script("bin/osp", &program);
    stand_in_tools(&rehearsal);
    let sm90 = || Some("sm90".to_owned());
    for stage in ["light", "deep", "speed"] {
        let run = rehearsal.run(stage, &[]);
        run.is_whole();
        assert!(run.read("table.txt").contains("kernels sm90, whose self-tests passed"), "{stage}: {}", run.stdout);
    }
    let samples = asked(&rehearsal, "sample");
    assert!(samples.len() >= 8 && samples.iter().all(|kernels| *kernels == sm90()), "{samples:?}");
    // Light has time for one profile with each, and what runs by default must not be the one that is lost.
    assert_eq!(asked(&rehearsal, "profile")[..2], [sm90(), Some("sm80".to_owned())]);
    let calls = rehearsal.calls();
    let bf16: Vec<&String> = calls.iter().filter(|call| call.starts_with("verify") && call.contains("bf16")).collect();
    assert!(bf16.len() > 5 && bf16.iter().all(|call| call.contains("--kernels sm90")), "{bf16:?}");
    // Nsight Compute looks at each kernel where it is launched.
    let tools = fs::read_to_string(rehearsal.path("bin/tools")).unwrap();
    let launched = |kernel: &str, kernels: &str| {
        let of_kernel = |line: &str| {
            line.contains(&format!("--kernel-name {kernel} ")) && line.ends_with(&format!("--kernels {kernels}"))
        };
        assert!(tools.lines().any(of_kernel), "{kernel}: {tools}");
    };
    // The last profile was of the others.
    launched("linear_sm90_large_f16", "sm90");
    launched("add_rows_f16", "sm80");
}

#[test]
fn kernels_for_hopper_that_fail_run_only_where_they_are_asked_for() {
    let overrides = format!("{DOCTOR}'selftest attention'*) echo 'FAIL  attention_sm90_q128_d72_f16'; exit 1 ;;\n");
    let rehearsal = Rehearsal::new(&overrides);
    let run = rehearsal.run("light", &[]);
    run.is_whole();
    assert!(
        run.read("table.txt").contains("kernels sm80, because sm90 has not passed its self-tests"),
        "{}",
        run.stdout
    );
    run.says("profile 65 frames, 1", "pass", "denoise");
    run.says("verify latte f16 --kernels sm90", "pass", "");
    assert!(
        asked(&rehearsal, "sample").into_iter().chain(asked(&rehearsal, "profile")).all(|kernels| kernels.is_none())
    );
}

#[test]
fn results_of_another_program_count_for_nothing() {
    let rehearsal = Rehearsal::new(DOCTOR);
    let light = rehearsal.run("light", &[]);
    assert!(light.read("table.txt").contains("kernels sm90, whose self-tests passed"), "{}", light.stdout);
    // Its gemm has become wrong.
    let wrong = format!("{DOCTOR}'selftest gemm'*) echo 'FAIL  linear_sm90_small_f16'; exit 1 ;;\n");
    rehearsal.script("bin/osp", &STAND_IN.replace("  # OVERRIDES\n", &wrong));
    let run = rehearsal.run("deep", &[]);
    run.is_whole();
    let table = run.read("table.txt");
    assert!(table.starts_with("WARNING: ") && table.contains(" earlier results are of another program"), "{table}");
    assert!(table.contains("kernels sm80, because sm90 has not passed its self-tests"), "{table}");
    // The next call goes on from there, and tests what nobody has tested.
    let run = rehearsal.run("speed", &[]);
    run.is_whole();
    assert!(!run.read("table.txt").contains("WARNING"), "{}", run.stdout);
    run.says("selftest gemm", "FAIL", "linear_sm90_small_f16");
    run.says("selftest conv3d", "pass", "");
    assert!(rehearsal.calls().iter().any(|call| call.starts_with("selftest conv3d") && call.contains("--quick")));
    let run = rehearsal.run("speed", &[]);
    assert!(!run.has("selftest gemm"), "{}", run.stdout);
}
