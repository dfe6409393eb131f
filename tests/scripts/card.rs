//! What nvidia-smi says about the card, and what follows.

use super::{Rehearsal, STAND_IN};

/// A mock of nvidia-smi for a card in this compute mode. Its samples lack the memory's clock, and the first its power.
fn stand_in_smi(rehearsal: &Rehearsal, mode: &str) {
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in\n\
         -q) printf 'GPU 00000000:01:00.0\\n    Product Name                          : Stand-in\\n    Compute Mode                          : {mode}\\n' ;;\n\
         *) printf '345, [N/A], [N/A], 40, 100\\n1980, [N/A], 650.10, 61, 4096\\n'; exec sleep 1000 ;;\nesac\n"
    );
    rehearsal.script("tools/nvidia-smi", &text);
}

/// Every test of kernels and golden data fails beside another one.
const ONE_AT_A_TIME: &str =
    "selftest*--device*|verify*--device*) mkdir \"$here/used\" || { echo 'FAIL  beside another'; exit 1; }
    sleep 0.02; rmdir \"$here/used\"; echo '2 checks, all passed, in 0.1 s' ;;\n";

#[test]
fn one_process_at_a_time_where_the_card_allows_no_more() {
    let rehearsal = Rehearsal::new(ONE_AT_A_TIME);
    rehearsal.torch("");
    stand_in_smi(&rehearsal, "Exclusive_Process");
    let run = rehearsal.run("light", &[]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    run.is_whole();
    run.says("torch", "skip", "the GPU's compute mode is Exclusive_Process, so one process at a time");
    assert!(!run.has("torch linear 34816x1152x3456: bias"), "{}", run.stdout);
    stand_in_smi(&rehearsal, "Default");
    let run = rehearsal.run("light", &[]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    run.says("torch linear 34816x1152x3456: bias", "pass", "1 ms");
}

#[test]
fn a_cell_that_the_card_does_not_know_costs_only_itself() {
    let rehearsal = Rehearsal::new("");
    // Time for a sample of nvidia-smi.
    let program = STAND_IN
        .replace("  sample*)\n", "  sample*)\n    sleep 1\n")
        .replace("  profile*)\n", "  profile*)\n    sleep 1\n");
    rehearsal.script("bin/osp", &program);
    stand_in_smi(&rehearsal, "Default");
    let run = rehearsal.run("speed", &[]);
    run.is_whole();
    run.says("step at 65 frames", "pass", "planned 1.00 GiB, seen 4.00 GiB in use");
    let record = run.read("record.md");
    assert!(record.contains("| compute mode | Default |"), "{record}");
    assert!(record.contains("\n\nat 1980 MHz and up to 650 W\n"), "{record}");
    let memory = record.lines().find(|line| line.starts_with("| memory | ")).unwrap();
    assert!(
        memory.contains(" GiB, ") && memory.ends_with(" GiB available |") && !memory.contains("unknown"),
        "{memory}"
    );
    assert!(run.stdout.lines().next().unwrap().contains("; memory "), "{}", run.stdout);
}
