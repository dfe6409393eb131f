//! The device `Driver` keeps to the driver's rules, whenever its work runs.

use super::raw::FiniteParams;
use super::{alone, compiled};
use osp::Error;
use osp::cuda::CONTRACTS;
use osp::cuda::device::{Device, Driver, Emulated, Launch, Replacement, entry_points};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn calls_keep_to_the_rules_of_the_driver() {
    for seed in [0, 1, 2, 3, 4] {
        let settings = format!("seed={seed} multiprocessors=30 memory=256MiB log=1");
        let test = "driver::calls::calls_keep_to_the_rules_of_the_driver";
        let Some(said) = alone(test, &settings, on_the_stand_in) else { return };
        let raised = said.matches(" may ask for ").count();
        if compiled() {
            assert!(raised == 1 && said.contains("finite_f16 may ask for 231424 bytes"), "{said}");
            assert_eq!(said.matches("2097152 bytes are set").count(), 2, "{said}");
        } else {
            assert_eq!(raised, 0);
        }
    }
}

fn on_the_stand_in() {
    let driver = match Driver::open() {
        Ok(driver) => driver,
        Err(error) => {
            assert!(!compiled() && error.to_string().contains("no GPU kernels"), "{error}");
            return;
        }
    };
    // As many as the settings say.
    assert_eq!([driver.multiprocessors(), driver.gpu().unwrap().multiprocessors], [30; 2]);
    assert_eq!(driver.most_shared(), 227 << 10);
    assert!(format!("{driver:?}").contains("stand-in"));
    writes_have_read_their_source(&driver);
    prefetched_copies_come_after_earlier_writes(&driver);
    what_is_read_behind_is_what_was_there(&driver);
    freed_memory_is_given_back_before_there_is_none(&driver);
    only_launches_that_need_it_raise_shared_memory(&driver);
    only_whole_parameters_are_launched(&driver);
    only_bytes_of_its_own_memory_are_copied(&driver);
    // Twice the size of the cache; the stand-in checks the memory.
    driver.clear_caches().unwrap();
    driver.clear_caches().unwrap();
    times_are_those_of_the_work(&driver);
    kernels_of_a_file_take_the_place_of_the_programs_own(&driver);
}

/// Bytes in which no two neighbourhoods are equal.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect()
}

/// More bytes than a ring of pinned buffers holds.
const LEN: usize = (50 << 20) + 7;

pub fn writes_have_read_their_source(driver: &Driver) {
    let mut memory = driver.alloc(LEN).unwrap();
    let expected = bytes(LEN);
    let mut start = 0;
    for size in [0, 1, 13, 1000, 300_000, 1, 40 << 20].into_iter().chain([5000; 300]).chain([LEN]) {
        let end = LEN.min(start + size);
        let mut host = expected[start..end].to_vec();
        driver.write(&mut *memory, start, &host).unwrap();
        host.fill(0xEE);
        start = end;
    }
    let mut found = vec![0; LEN];
    driver.read(&*memory, 0, &mut found).unwrap();
    assert!(found == expected);
}

pub fn prefetched_copies_come_after_earlier_writes(driver: &Driver) {
    let mut memory = driver.alloc(LEN).unwrap();
    driver.write(&mut *memory, 0, &[1; 100]).unwrap();
    driver.order_prefetch().unwrap();
    let expected = bytes(LEN);
    let mut host = expected.clone();
    driver.write_prefetched(&mut *memory, 0, &host).unwrap();
    host.fill(0xEE);
    driver.finish_prefetch().unwrap();
    let mut found = vec![0; LEN];
    driver.read(&*memory, 0, &mut found).unwrap();
    assert!(found == expected);
}

fn what_is_read_behind_is_what_was_there(driver: &Driver) {
    let expected = bytes(LEN);
    // Pinned memory is allocated, then reused, then too small.
    for range in [0..1000, 1..1000, 7..LEN] {
        let mut memory = driver.alloc(LEN).unwrap();
        driver.write(&mut *memory, 0, &expected).unwrap();
        let mut arriving = driver.read_behind(&*memory, range.start, range.len()).unwrap();
        let untaken = driver.read_behind(&*memory, 0, range.len()).unwrap();
        driver.write(&mut *memory, 0, &vec![0xEE; LEN]).unwrap();
        drop((memory, untaken));
        let arrived = std::thread::spawn(move || arriving.bytes().unwrap().to_vec()).join().unwrap();
        assert!(arrived == expected[range]);
    }
}

/// The GPU has 256 MiB of memory.
fn freed_memory_is_given_back_before_there_is_none(driver: &Driver) {
    let first = driver.alloc(150 << 20).unwrap();
    // A thread that has not used the GPU before.
    std::thread::spawn(move || drop(first)).join().unwrap();
    let second = driver.alloc(200 << 20).unwrap();
    match driver.alloc(100 << 20) {
        Err(Error::OutOfMemory { needed, free, .. }) => assert_eq!((needed, free), (100 << 20, 56 << 20)),
        other => panic!("{:?}", other.map(drop)),
    }
    drop(second);
    driver.alloc(256 << 20).unwrap();
}

/// A launch with `FiniteParams`.
fn launch<'a>(kernel: &'a str, grid: [u32; 3], shared_bytes: u32, params: &'a [u8]) -> Launch<'a> {
    let contract = CONTRACTS.iter().find(|contract| contract.params == "FiniteParams").unwrap();
    Launch {
        kernel,
        grid,
        threads: 256,
        shared_bytes,
        params,
        fields: contract.fields,
        flops: 0,
        bytes: 0,
        choice: None,
    }
}

fn only_launches_that_need_it_raise_shared_memory(driver: &Driver) {
    let out = driver.alloc(4).unwrap();
    let params = FiniteParams { x: 0, out: out.address(), len: 0, single: 0, padding: 0 };
    let params = bytemuck::bytes_of(&params);
    let launch = |kernel, grid, shared_bytes| driver.launch(&launch(kernel, grid, shared_bytes, params));
    for shared_bytes in [32, 47 << 10, 48 << 10, 100 << 10, 226 << 10] {
        launch("finite_f16", [1; 3], shared_bytes).unwrap();
    }
    let refused = launch("finite_f16", [1; 3], 227 << 10).unwrap_err().to_string();
    assert!(refused.contains("this GPU has 231424 bytes of shared memory for a block"), "{refused}");
    let refused = launch("finite_f16", [1, 1 << 16, 1], 0).unwrap_err().to_string();
    assert!(refused.contains("CUDA_ERROR_INVALID_VALUE") && refused.contains("grid 1x65536x1"), "{refused}");
    let refused = launch("finite_f64", [1; 3], 0).unwrap_err().to_string();
    assert!(refused.contains("there is no such kernel"), "{refused}");
}

fn only_whole_parameters_are_launched(driver: &Driver) {
    let out = driver.alloc(4).unwrap();
    let params = FiniteParams { x: 0, out: out.address(), len: 0, single: 0, padding: 0 };
    let params = bytemuck::bytes_of(&params);
    for wrong in [&params[1..], &[params, &[0]].concat()] {
        let refused = driver.launch(&launch("finite_f16", [1; 3], 32, wrong)).unwrap_err().to_string();
        assert!(refused.contains("the kernel takes 32 parameter bytes"), "{refused}");
    }
}

fn only_bytes_of_its_own_memory_are_copied(driver: &Driver) {
    let (own, foreign) = (driver.alloc(8).unwrap(), Emulated::new(0).alloc(8).unwrap());
    let read = |memory, offset| catch_unwind(AssertUnwindSafe(|| driver.read(memory, offset, &mut [0; 8])));
    assert!(read(&*own, 0).is_ok());
    for (memory, offset) in [(&*own, 1), (&*own, usize::MAX), (&*foreign, 0)] {
        assert!(read(memory, offset).is_err(), "a bug of the caller is a panic");
    }
}

fn times_are_those_of_the_work(driver: &Driver) {
    let mut memory = driver.alloc(LEN).unwrap();
    let nothing = driver.timed(&mut || Ok(())).unwrap();
    let copies = driver.timed(&mut || driver.write(&mut *memory, 0, &bytes(LEN))).unwrap();
    assert!(nothing.is_zero() && copies.as_secs_f64() > 1e-4, "{nothing:?}, {copies:?}");
}

fn kernels_of_a_file_take_the_place_of_the_programs_own(driver: &Driver) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.ptx");
    let entries = entry_points("finite").unwrap().iter().map(|entry| format!(".visible .entry {entry}()\n{{\n}}\n"));
    std::fs::write(&path, format!(".version 8.0\n.target sm_80\n{}", entries.collect::<String>())).unwrap();
    let unknown = Replacement::read("finites", &path).unwrap_err().to_string();
    assert!(unknown.contains("kernels/finites.cu does not exist; use one of: gemm, "), "{unknown}");
    let mine = Replacement::read("finite", &path).unwrap();
    assert!(mine.shows_entry_points());
    let other = Driver::open_with(vec![mine]).unwrap();
    assert!(other.name().starts_with(&format!("{} with other kernels: finite ", driver.name())), "{}", other.name());
    assert_eq!(other.gpu().unwrap().replaced, [path]);
}

/// Each call that fails while the device works, with what the error says.
#[test]
fn every_call_of_the_device_has_its_error() {
    let cases = [
        ("cuMemAllocAsync@1", "allocation: "),
        ("cuMemHostAlloc@1", "no pinned memory: "),
        ("cuEventSynchronize@1", "copy to the GPU: "),
        ("cuMemcpyHtoDAsync_v2@1", "copy to the GPU: "),
        ("cuMemcpyDtoHAsync_v2@1", "copy from the GPU: "),
        ("cuMemcpyDtoHAsync_v2@2", "copy from the GPU: "),
        ("cuEventRecord@1", "timing: "),
        ("cuEventRecord@2", "copy to the GPU: "),
        ("cuEventRecord@3", "timing: "),
        ("cuEventRecord@4", "copy to the GPU: "),
        ("cuStreamWaitEvent@2", "copy to the GPU: "),
        ("cuEventRecord@7", "copy from the GPU: "),
        ("cuMemsetD8Async@1", "clearing the caches: "),
        ("cuEventElapsedTime@1", "timing: "),
        ("cuFuncSetAttribute@1", "kernel finite_f16, "),
        ("cuLaunchKernel@1", "kernel finite_f16, "),
        ("cuStreamSynchronize@1", "a kernel failed: "),
    ];
    for (call, said) in cases {
        let test = "driver::calls::every_call_of_the_device_has_its_error";
        let Some(output) = alone(test, &format!("fail={call}"), first_error) else { return };
        assert!(!compiled() || output.contains(&format!("first error: {said}")), "{call}: {output}");
    }
}

/// Uses the whole device, and prints its first error.
fn first_error() {
    let error = Driver::open().and_then(|driver| uses(&driver)).unwrap_err();
    println!("first error: {error}");
}

fn uses(driver: &Driver) -> osp::Result<()> {
    let (mut memory, out) = (driver.alloc(64)?, driver.alloc(4)?);
    driver.timed(&mut || driver.write(&mut *memory, 0, &[1; 64]))?;
    driver.order_prefetch()?;
    driver.write_prefetched(&mut *memory, 0, &[2; 64])?;
    driver.finish_prefetch()?;
    driver.read_behind(&*memory, 0, 64)?.bytes()?;
    driver.clear_caches()?;
    let params = FiniteParams { x: 0, out: out.address(), len: 0, single: 0, padding: 0 };
    driver.launch(&launch("finite_f16", [1; 3], 100 << 10, bytemuck::bytes_of(&params)))?;
    driver.read(&*memory, 0, &mut [0; 64])
}
