//! What README.md shows of the program is what it prints.

use super::succeeds;
use std::fs;
use std::path::Path;

fn project(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn outputs_that_are_shown_are_those_of_the_program() {
    let readme = project("README.md");
    // A block that begins with a command, and goes on with what it prints.
    let blocks: Vec<&str> = readme.split("```\n$ osp ").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 2, "README.md shows commands and their outputs");
    for block in blocks {
        let (command, shown) = block.split_once('\n').unwrap();
        let folder = tempfile::tempdir().unwrap();
        let printed = succeeds(folder.path(), &command.split(' ').collect::<Vec<_>>());
        assert!(printed.trim() == shown.trim(), "osp {command} prints something else than README.md shows:\n{printed}");
    }
}

#[test]
fn the_drawn_arena_is_that_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["plan", "--preset", "v1.1.0-221x512x512", "--memory", "3GiB", "--svg", "arena.svg"];
    succeeds(folder.path(), &args);
    let drawn = fs::read_to_string(folder.path().join("arena.svg")).unwrap();
    assert!(drawn == project("docs/images/arena-221x512x512.svg"), "draw it anew: osp {}", args.join(" "));
}

/// The front page of the documentation, whose program is a test, has the same program.
#[test]
fn the_program_of_ten_lines_is_that_of_the_library() {
    let block = |text: &str, fence: &str| text.split(fence).nth(1).unwrap().split("```").next().unwrap().to_owned();
    let shown = block(&project("README.md"), "```rust\n");
    let page: String = project("src/lib.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .fold(String::new(), |page, line| page + line.strip_prefix(' ').unwrap_or(line) + "\n");
    let tested = block(&page, "```standalone_crate\n");
    let visible: String =
        tested.lines().filter(|line| !line.starts_with('#')).fold(String::new(), |all, line| all + line + "\n");
    assert_eq!(shown, visible);
}
