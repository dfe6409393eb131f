//! The device `Driver` on a stub of NVIDIA's driver (`stub.c`), which runs no kernels and checks all other calls
//! strictly.

use osp::Error;
use osp::cuda::CONTRACTS;
use osp::cuda::device::{Device, Driver, Launch, Replacement, architectures, entry_points};
use std::path::Path;
use std::process::Command;

/// Set in the process that loads the stub as its driver.
const ON_THE_STUB: &str = "OSP_TEST_STUB";

/// Compiles `source` as the driver's library, into `folder`.
pub fn library(folder: &Path, source: &str) {
    let file = folder.join("stub.c");
    std::fs::write(&file, source).unwrap();
    let library = folder.join("libcuda.so.1");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&file).status().unwrap();
    assert!(compiled.success(), "the C compiler that Rust links with");
}

/// The environment at the start of a process decides which driver is loaded, so this test starts itself again.
#[test]
#[cfg(target_os = "linux")]
fn calls_keep_to_the_rules_of_the_driver() {
    if std::env::var_os(ON_THE_STUB).is_some() {
        return on_the_stub();
    }
    let folder = tempfile::tempdir().unwrap();
    library(folder.path(), include_str!("stub.c"));
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["driver::calls_keep_to_the_rules_of_the_driver", "--exact", "--nocapture"]);
    let output = test.env("LD_LIBRARY_PATH", folder.path()).env(ON_THE_STUB, "1").output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
    let raised = stdout.matches(" may ask for ").count();
    if architectures().is_empty() {
        assert_eq!(raised, 0);
    } else {
        assert!(raised == 1 && stdout.contains("stub: copy_box_f16 may ask for 231424 bytes"), "{stdout}");
        assert_eq!(stdout.matches("stub: 2097152 bytes are set").count(), 2, "{stdout}");
    }
}

fn on_the_stub() {
    let driver = match Driver::open() {
        Ok(driver) => driver,
        Err(error) => {
            assert!(architectures().is_empty() && error.to_string().contains("no GPU kernels"), "{error}");
            return;
        }
    };
    // As many as the stub has.
    assert_eq!([driver.multiprocessors(), driver.gpu().unwrap().multiprocessors], [30; 2]);
    writes_have_read_their_source(&driver);
    prefetched_copies_come_after_earlier_writes(&driver);
    what_is_read_behind_is_what_was_there(&driver);
    freed_memory_is_given_back_before_there_is_none(&driver);
    only_launches_that_need_it_raise_shared_memory(&driver);
    // Twice the size of the stub's cache; the stub checks the memory.
    driver.clear_caches().unwrap();
    driver.clear_caches().unwrap();
    kernels_of_a_file_take_the_place_of_the_programs_own(&driver);
}

/// Bytes in which no two neighbourhoods are equal.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect()
}

/// More bytes than a ring of pinned buffers holds.
const LEN: usize = (50 << 20) + 7;

fn writes_have_read_their_source(driver: &Driver) {
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

fn prefetched_copies_come_after_earlier_writes(driver: &Driver) {
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

/// The stub copies as late as the rules allow.
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

/// The stub has 256 MiB of memory.
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

fn only_launches_that_need_it_raise_shared_memory(driver: &Driver) {
    let contract = CONTRACTS.iter().find(|contract| contract.params == "CopyBoxParams").unwrap();
    let params = vec![0; contract.bytes];
    let launch = |shared_bytes| {
        driver.launch(&Launch {
            kernel: "copy_box_f16",
            grid: [1; 3],
            threads: 256,
            shared_bytes,
            params: &params,
            fields: contract.fields,
            flops: 0,
            bytes: 0,
            choice: None,
        })
    };
    for shared_bytes in [0, 47 << 10, 48 << 10, 100 << 10, 226 << 10] {
        launch(shared_bytes).unwrap();
    }
    let refused = launch(227 << 10).unwrap_err().to_string();
    assert!(refused.contains("this GPU has 231424 bytes of shared memory for a block"), "{refused}");
}

fn kernels_of_a_file_take_the_place_of_the_programs_own(driver: &Driver) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.ptx");
    let entries = entry_points("finite").unwrap().iter().map(|entry| format!(".visible .entry {entry}()\n{{\n}}\n"));
    std::fs::write(&path, format!(".version 8.0\n{}", entries.collect::<String>())).unwrap();
    let other = Driver::open_with(vec![Replacement::read("finite", &path).unwrap()]).unwrap();
    assert!(other.name().starts_with(&format!("{} with other kernels: finite ", driver.name())), "{}", other.name());
    assert_eq!(other.gpu().unwrap().replaced, [path]);
}
