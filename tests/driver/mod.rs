//! The device `Driver`, and the whole program, on the stand-in for NVIDIA's driver (tests/stand_in), which runs the
//! kernels on the emulator.

mod calls;
mod card;
mod hopper;
mod images;
mod interrupts;
mod launches;
mod order;
mod plants;
mod program;
mod raw;
mod rules;

use crate::cli;
use assert_cmd::Command;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Holds the name of the test in the process that the stand-in is loaded into.
const ALONE: &str = "OSP_TEST_ALONE";

/// The folder with the stand-in, under the names that programs load a driver by.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let program = std::env::current_exe().unwrap();
    let library = program.ancestors().nth(2).unwrap().join("examples/libstand_in.so");
    assert_fresh(&library);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand-in");
    fs::create_dir_all(&folder).unwrap();
    for name in ["libcuda.so", "libcuda.so.1"] {
        // Another process may use the link meanwhile.
        let link = folder.join(format!("{name}-{}", std::process::id()));
        symlink(&library, &link).unwrap();
        fs::rename(link, folder.join(name)).unwrap();
    }
    folder
});

/// `cargo test` builds the stand-in, but `cargo test --test tests` does not.
fn assert_fresh(library: &Path) {
    let changed = |path: &Path| fs::metadata(path).and_then(|facts| facts.modified()).ok();
    let sources = fs::read_to_string(library.with_extension("d")).unwrap_or_default();
    let newest = sources.split_whitespace().skip(1).filter_map(|path| changed(Path::new(path))).max();
    assert!(newest.is_some() && changed(library) >= newest, "first run `cargo build --example stand_in`");
}

/// The folder for `LD_LIBRARY_PATH`.
pub fn library() -> &'static Path {
    &LIBRARY
}

/// Whether this build has kernels for the driver. Without nvcc, `--device cuda` is one error, and a test checks that.
fn compiled() -> bool {
    !osp::cuda::device::architectures().is_empty()
}

/// The program in `folder`, on the stand-in.
fn osp(folder: &Path, settings: &str) -> Command {
    let mut command = cli::osp(folder);
    command.env("LD_LIBRARY_PATH", library()).env("OSP_STAND_IN", settings).env("OSP_SELFTEST", "0");
    command.env_remove("CUDA_VISIBLE_DEVICES");
    command
}

/// Runs `body` on the stand-in in a new process, because a process loads only one driver. The new process runs `test`,
/// the test that calls this function. Returns the new process's output; within that process, returns nothing.
fn alone(test: &str, settings: &str, body: fn()) -> Option<String> {
    if std::env::var(ALONE).is_ok_and(|name| name == test) {
        body();
        return None;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args([test, "--exact", "--nocapture"]).env("LD_LIBRARY_PATH", library());
    let output = again.env("OSP_STAND_IN", settings).env(ALONE, test).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{settings}: {said}");
    Some(said)
}
