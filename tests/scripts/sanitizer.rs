//! What compute-sanitizer examines, and which kernels are avoided after a hang.

use super::Rehearsal;
use super::hopper::DOCTOR;
use super::stages::stand_in_tools;
use std::fs;

/// The stems of each call of compute-sanitizer that tests kernels, behind the name of its check.
fn examined(rehearsal: &Rehearsal) -> Vec<String> {
    let tools = fs::read_to_string(rehearsal.path("bin/tools")).unwrap();
    let call = |line: &str| {
        let (_, call) = line.split_once("--tool ")?;
        let (check, rest) = call.split_once(' ')?;
        let (_, stems) = rest.split_once("selftest ")?;
        Some(format!("{check} {}", stems.split(" --quick").next()?))
    };
    tools.lines().filter_map(call).collect()
}

#[test]
fn after_a_hang_the_kernels_for_hopper_are_avoided_and_examined_once() {
    let hang = "'selftest conv3d'*) echo 'FAIL  causal_conv3d_n128_f16  1 wrong: far off'
        echo 'FAIL  conv3d, parts_are_equal: did not finish within 10 s, during f16, sm90: Case { cin: 64 }'; exit 1 ;;
        'selftest norm'*) echo 'FAIL  some kernel'; exit 1 ;;\n";
    let rehearsal = Rehearsal::new(&format!("{DOCTOR}{hang}"));
    stand_in_tools(&rehearsal);
    let run = rehearsal.run("light", &[]);
    run.is_whole();
    run.says("selftest conv3d", "FAIL", "conv3d, parts_are_equal: did not finish within 10 s, during f16, sm90: Case");
    let run = rehearsal.run("deep", &[]);
    run.is_whole();
    run.says("memcheck of norm", "FAIL", "3 errors");
    run.says("memcheck of conv3d", "FAIL", "3 errors");
    run.says("memcheck of all others", "FAIL", "3 errors");
    let calls = examined(&rehearsal);
    assert_eq!(calls[..3], ["memcheck norm", "racecheck norm", "memcheck conv3d"]);
    let [memcheck, racecheck] = &calls[3..] else { panic!("{calls:?}") };
    assert!(memcheck.starts_with("memcheck gemm attention ") && racecheck.starts_with("racecheck gemm "), "{calls:?}");
    assert!(!memcheck.contains("conv3d") && !memcheck.contains(" norm"), "{memcheck}");
    rehearsal.run("speed", &[]).is_whole();
    assert!(rehearsal.calls().iter().all(|call| !call.contains("--kernels sm90")), "{:?}", rehearsal.calls());
}

#[test]
fn facts_that_fail_do_not_hide_a_faulty_kernel() {
    let rehearsal = Rehearsal::new("'selftest facts'*) echo 'FAIL  products'; exit 1 ;;\n");
    stand_in_tools(&rehearsal);
    let run = rehearsal.run("light,deep", &[]);
    run.says("selftest facts", "FAIL", "products");
    run.says("memcheck of all", "FAIL", "3 errors");
    assert!(examined(&rehearsal)[0].starts_with("memcheck gemm attention "), "{:?}", examined(&rehearsal));
}

#[test]
fn a_sanitizer_that_is_ended_has_the_faults_that_it_printed() {
    let rehearsal = Rehearsal::new("");
    let tool = |fault: &str| {
        format!(
            "#!/bin/sh\necho '========= COMPUTE-SANITIZER'\n\
             echo '{{\"Begin\":{{\"number\":0,\"check\":\"odd_shapes\"}}}}'; echo '{{\"Begin\":{{\"number\":1,\"check\":\"parts_are_equal\"}}}}'\n\
             {fault}\ntrap \"echo '========= Error: process did not terminate successfully'; exit 1\" TERM\nsleep 1000 & wait\n"
        )
    };
    let deep = || rehearsal.run("deep", &["--step-limit", "2"]);
    rehearsal.script("tools/compute-sanitizer", &tool(""));
    let run = deep();
    run.is_whole();
    run.says("memcheck of all", "skip", "no fault printed up to parts_are_equal; ended after 2 s");
    rehearsal.script("tools/compute-sanitizer", &tool("echo '========= Warning: no symbols were found'"));
    deep().says("memcheck of all", "skip", "no fault printed up to parts_are_equal");
    let race = "Warning: Race reported between Write access at 0x10 and Read access at 0x20";
    rehearsal.script("tools/compute-sanitizer", &tool(&format!("echo '========= {race}'")));
    deep().says("racecheck of all", "FAIL", race);
    rehearsal.script("tools/compute-sanitizer", &tool("echo '========= Invalid __shared__ write of size 4 bytes'"));
    let run = deep();
    run.says("racecheck of all", "FAIL", "Invalid __shared__ write of size 4 bytes; ended after 2 s");
    assert_eq!(run.code, Some(1));
    rehearsal.script("tools/compute-sanitizer", "#!/bin/sh\necho '========= COMPUTE-SANITIZER'; sleep 1000\n");
    deep().says("memcheck of all", "skip", "no fault printed; ended after 2 s");
}
