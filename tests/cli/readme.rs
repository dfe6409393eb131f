//! The outputs in README.md and in docs are those that the program prints.

/// What `docs/shortcuts.md` compares.
#[allow(dead_code, reason = "the example uses all of it")]
#[path = "../../examples/shortcuts/results.rs"]
mod results;

use super::succeeds;
use std::fs;
use std::path::Path;

fn project(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_program_prints_the_outputs_in_the_readme() {
    shows_what_is_printed("README.md", 2);
}

#[test]
fn the_program_prints_the_predictions_in_the_docs() {
    shows_what_is_printed("docs/predicted-speed.md", 1);
}

/// Runs the commands of a text, at least `least`, and compares their outputs.
fn shows_what_is_printed(path: &str, least: usize) {
    let text = project(path);
    // A block begins with a command and continues with its output.
    let blocks: Vec<&str> = text.split("```\n$ osp ").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= least, "{path} shows commands and their outputs");
    for block in blocks {
        let (command, shown) = block.split_once('\n').unwrap();
        let folder = tempfile::tempdir().unwrap();
        let printed = succeeds(folder.path(), &command.split(' ').collect::<Vec<_>>());
        assert!(printed.trim() == shown.trim(), "osp {command} prints another output than {path} shows:\n{printed}");
    }
}

#[test]
fn the_program_draws_the_arena_in_the_docs() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["plan", "--preset", "v1.1.0-221x512x512", "--memory", "3GiB", "--svg", "arena.svg"];
    succeeds(folder.path(), &args);
    let drawn = fs::read_to_string(folder.path().join("arena.svg")).unwrap();
    assert!(drawn == project("docs/images/arena-221x512x512.svg"), "draw it again: osp {}", args.join(" "));
}

#[test]
fn the_program_draws_the_roofline_in_the_docs() {
    let folder = tempfile::tempdir().unwrap();
    let what = ["profile", "--device", "dry", "--preset", "v1.1.0", "--size", "512x512", "--frames", "221"];
    let how = ["--gpu", "h100", "--kernels", "sm90", "--predict", "--roofline", "roofline.svg"];
    let args = [&what[..], &how].concat();
    succeeds(folder.path(), &args);
    let drawn = fs::read_to_string(folder.path().join("roofline.svg")).unwrap();
    let shown = project("docs/images/roofline-h100-221x512x512.svg");
    assert!(drawn == shown, "draw it again: osp {}", args.join(" "));
}

#[test]
fn the_table_of_shortcuts_is_what_was_measured() {
    let (document, measured) = (project("docs/shortcuts.md"), project("docs/benchmarks/shortcuts.jsonl"));
    let rows: Vec<results::Row> = measured.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let samplers = ["| DPMSolverMultistep |", "| PNDM |"];
    let shown = document.lines().filter(|line| samplers.iter().any(|sampler| line.starts_with(sampler))).count();
    assert!(rows.len() >= 30 && rows.len() == shown, "{} rows are measured, {shown} shown", rows.len());
    for row in rows {
        assert!(document.contains(&format!("\n{row}\n")), "docs/shortcuts.md lacks {row}");
    }
}

/// The front page of the documentation has the same program, which is a doc test there.
#[test]
fn the_readme_and_the_library_show_the_same_program() {
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
