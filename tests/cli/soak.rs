//! Many samples in one process, and many processes at once. `OSP_SOAK` is the number of samples, 12 if it is not set.

use super::{CACHE, contents, model_argument, names};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn samples() -> usize {
    std::env::var("OSP_SOAK").map_or(12, |text| text.parse().expect("OSP_SOAK is a number"))
}

/// The options of a small image.
fn small(args: &[&str]) -> Vec<String> {
    let model = model_argument();
    let fixed = ["sample", "--frames", "1", "--size", "16x16", "--steps", "4", "--device", "cpu", "--model", &model];
    fixed.iter().chain(args).map(|&arg| arg.to_owned()).collect()
}

#[test]
fn many_samples_take_the_memory_of_a_few_and_are_equal() {
    let (folder, count) = (tempfile::tempdir().unwrap(), samples());
    let list: String =
        (0..count).map(|i| format!("{{\"prompt\": \"a cat\", \"seed\": 7, \"output\": \"{i:04}.png\"}}\n")).collect();
    fs::write(folder.path().join("list.jsonl"), list).unwrap();
    // So few open files that a file left open by each of 200 samples would be one too many.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_osp")]);
    command.args(small(&["--prompts", "list.jsonl", "--quiet"])).current_dir(folder.path());
    assert!(command.env("XDG_CACHE_HOME", folder.path().join(CACHE)).status().unwrap().success());
    let expected = (0..count).flat_map(|i| [format!("{i:04}.png"), format!("{i:04}.png.json")]);
    let expected: Vec<String> = expected.chain(["list.jsonl".to_owned()]).collect();
    // Few videos have a grid, many have none.
    let made = names(folder.path()).into_iter().filter(|name| !name.starts_with("samples-grid."));
    assert_eq!(made.collect::<Vec<_>>(), expected);
    let first = fs::read(folder.path().join("0000.png")).unwrap();
    let peak = |i: usize| {
        let record = fs::read(folder.path().join(format!("{i:04}.png.json"))).unwrap();
        serde_json::from_slice::<Value>(&record).unwrap()["peak_rss_bytes"].as_u64().unwrap()
    };
    for i in 0..count {
        assert!(fs::read(folder.path().join(format!("{i:04}.png"))).unwrap() == first, "sample {i}");
    }
    // The first quarter warms up: threads get their stacks, and the allocator its pools.
    let (warm, end) = (peak(count / 4), peak(count - 1));
    assert!(end < warm + (4 << 20), "{end} bytes after {count} samples, {warm} after a quarter of them");
}

fn start(folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_osp"));
    command.current_dir(folder).env("XDG_CACHE_HOME", folder.parent().unwrap().join("cache")).stderr(Stdio::null());
    command.args(small(&["a cat", "--seed", "1,2,3", "-o", "a.gif"])).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn processes_side_by_side_make_the_same() {
    let home = tempfile::tempdir().unwrap();
    let folders: Vec<_> = (0..10).map(|i| home.path().join(format!("run {i}"))).collect();
    folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
    // They share one cache.
    let running: Vec<Child> = folders.iter().map(|folder| start(folder)).collect();
    assert!(running.into_iter().all(|mut child| child.wait().unwrap().success()));
    let videos = |folder: &Path| -> Vec<Vec<u8>> {
        let files =
            contents(folder).into_iter().filter(|(path, _)| path.extension().is_some_and(|ending| ending == "gif"));
        files.map(|(_, bytes)| bytes).collect()
    };
    let first = videos(&folders[0]);
    assert_eq!(first.len(), 4, "three videos and their grid");
    for folder in &folders {
        assert!(videos(folder) == first && names(folder) == names(&folders[0]), "{}", folder.display());
    }
}
