//! docs/reliability.md: every promise has tests that exist.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the tables of promises: a promise, and what holds it.
fn promises(document: &str) -> Vec<(&str, &str)> {
    let tables = document.split("| promise | held by |\n|---|---|\n").skip(1);
    let rows = tables.flat_map(|table| table.lines().take_while(|line| line.starts_with('|')));
    rows.map(|row| row.trim_matches('|').split_once(" | ").expect("a row has two cells")).collect()
}

/// What a cell names in backticks: `FILE::TEST`, `::TEST` of the file before, or a script.
fn holders(cell: &str) -> Vec<(String, String)> {
    let mut file = "";
    let names = cell.split('`').skip(1).step_by(2);
    let holder = |name| {
        let (own, test) = str::split_once(name, "::").unwrap_or((name, ""));
        file = if own.is_empty() { file } else { own };
        (file.to_owned(), test.to_owned())
    };
    names.map(holder).collect()
}

/// Whether a source has a test of this name.
fn has_test(source: &str, name: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {name}(")) else { return false };
    // The test's own line may begin with "async" or spaces.
    let lines = before.lines().rev().skip(usize::from(!before.ends_with('\n')));
    let mut above = lines.take_while(|line| line.trim().starts_with("#[") || line.trim().starts_with("///"));
    above.any(|line| line.trim() == "#[test]")
}

#[test]
fn every_promise_has_tests_that_exist() {
    let document = read("docs/reliability.md");
    let promises = promises(&document);
    assert!(promises.len() > 80, "only {} promises were found", promises.len());
    for (promise, cell) in promises {
        let holders = holders(cell);
        assert!(!holders.is_empty(), "no test holds: {promise}");
        for (file, test) in holders {
            let source = read(&file);
            assert!(test.is_empty() || has_test(&source, &test), "{file} has no test {test}, which holds: {promise}");
        }
    }
}

#[test]
fn only_tests_that_are_there_hold_a_promise() {
    let rows = promises("x\n| promise | held by |\n|---|---|\n| A. | `a.rs::one`, `::two`, `run` |\n\n| B | `c` |\n");
    assert_eq!(rows.len(), 1);
    let of = |file: &str, test: &str| (file.to_owned(), test.to_owned());
    assert_eq!(holders(rows[0].1), [of("a.rs", "one"), of("a.rs", "two"), of("run", "")]);
    let source = "    #[test]\n    #[cfg(unix)]\n    fn one() {}\n\nfn two() {}\n";
    assert!(has_test(source, "one") && !has_test(source, "two") && !has_test(source, "on"));
}
