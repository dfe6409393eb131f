//! The kernels' own PTX. `osp selftest` runs what is shipped for sm_80 and newer; here, what is shipped for sm_100.

use super::NVCC;
use osp::cuda::device::{Compiled, Device, PtxMachine};
use osp::selftest::{FACTS, STEMS, Trial, checks};
use std::sync::Arc;

/// The machine with the program's own PTX; none without nvcc.
fn machine(compiled: Compiled) -> Option<PtxMachine> {
    machine_of(compiled, 1)
}

/// As [`machine`], under a seed.
fn machine_of(compiled: Compiled, seed: u64) -> Option<PtxMachine> {
    match PtxMachine::new(compiled, seed) {
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

/// Facts about Hopper, among others: clusters, boxes, products of warpgroups and registers.
#[test]
fn facts_have_the_emulators_bits_under_every_order() {
    for seed in [0, 1] {
        let Some(machine) = machine_of(Compiled::Shipped, seed) else { return };
        let mut trial = Trial::of(&[Arc::new(machine)]).quick();
        for check in checks(FACTS).unwrap() {
            check.run(&mut trial).unwrap();
        }
        let failures: Vec<_> = trial.findings().values().filter_map(|finding| finding.failure.as_ref()).collect();
        assert!(failures.is_empty() && !trial.findings().is_empty(), "seed {seed}: {failures:#?}");
    }
}

#[test]
fn the_name_says_what_the_machine_does() {
    let machine = PtxMachine::with_texts(Vec::new(), 0);
    assert!(machine.name().starts_with("PTX machine ("), "{}", machine.name());
    assert!(machine.comparing().name().contains("compared with the emulator"));
}
