//! Inputs that fuzzing has kept: every parser takes them again, whole, cut and changed.

/// A hub's list of files, and a list of videos: the program reads them, not the library.
#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../src/cli/commands/download/list.rs"]
mod hub;
#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../src/cli/commands/sample/list.rs"]
mod list;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

/// The inputs of a parser, by name.
fn inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{name} has no inputs");
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The input, its first half, and the input with a byte changed in each of eight places.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let changed = (0..8).map(|part| {
        let (mut bytes, at) = (bytes.to_vec(), bytes.len() * part / 8);
        bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << part);
        bytes
    });
    [bytes.to_vec(), bytes[..bytes.len() / 2].to_vec()].into_iter().chain(changed).collect()
}

/// Gives every form of every input to a parser. The name of an input that it cannot take is printed.
fn replay(name: &str, run: impl Fn(&[u8], &Path)) {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in inputs(name) {
        for (index, form) in forms(&bytes).iter().enumerate() {
            let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(form, folder.path())));
            assert!(taken.is_ok(), "{}, form {index}", path.display());
        }
    }
}

#[test]
fn parsers_take_what_fuzzing_has_kept() {
    for target in targets::TARGETS {
        replay(target.name, target.run);
    }
}
