//! The kernels' own PTX. `osp selftest` runs what is shipped for sm_80 and newer; here, what is shipped for sm_100.

use super::NVCC;
use osp::cuda::device::{Compiled, Device, PtxMachine};
use osp::selftest::{FACTS, STEMS, Trial, checks};
use std::sync::Arc;

/// The machine with the program's own PTX; none without nvcc.
fn machine(compiled: Compiled) -> Option<PtxMachine> {
    match PtxMachine::new(compiled, 1) {
        Ok(machine) => Some(machine),
        Err(error) if NVCC.is_none() => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_instruction_is_known() {
    for compiled in [Compiled::Shipped, Compiled::Newer, Compiled::Separate] {
        let Some(machine) = machine(compiled) else { return };
        assert_eq!(machine.unknown(), Vec::<String>::new(), "{compiled:?}");
    }
}

#[test]
fn the_ptx_of_newer_gpus_is_right() {
    let Some(machine) = machine(Compiled::Newer) else { return };
    let mut trial = Trial::of(&[Arc::new(machine)]).quick();
    for check in STEMS.iter().flat_map(|stem| checks(stem).unwrap()) {
        check.run(&mut trial).unwrap();
    }
    let failures: Vec<_> = trial.findings().values().filter_map(|finding| finding.failure.as_ref()).collect();
    assert!(failures.is_empty() && trial.findings().len() > 100, "{failures:#?}");
}

/// What the kernels for Hopper rely on, to the bit as on the emulator.
#[test]
fn the_facts_are_true() {
    let Some(machine) = machine(Compiled::Separate) else { return };
    let mut trial = Trial::of(&[Arc::new(machine.comparing())]).quick();
    for check in checks(FACTS).unwrap() {
        check.run(&mut trial).unwrap();
    }
    let failures: Vec<_> = trial.findings().values().filter_map(|finding| finding.failure.as_ref()).collect();
    assert!(failures.is_empty() && trial.findings().len() > 10, "{failures:#?}");
}

#[test]
fn the_name_says_what_the_machine_does() {
    let machine = PtxMachine::with_texts(Vec::new(), 0);
    assert!(machine.name().starts_with("PTX machine ("), "{}", machine.name());
    assert!(machine.comparing().name().contains("compared with the emulator"));
}
