//! Checks that the sources follow docs/architecture.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How much unsafe code there is, and what it promises.
mod unsafe_code;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// All files below `folder` of the project with one of these endings.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            match path.is_dir() {
                true => folders.push(path),
                false if endings.contains(&&*ending) => found.push(path),
                false => {}
            }
        }
    }
    assert!(!found.is_empty(), "{folder} holds sources");
    found
}

/// A source without comments and unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The library's modules, each with its row in the table of layers; the lowest row is 0.
fn rows() -> BTreeMap<String, usize> {
    let document = fs::read_to_string(Path::new(ROOT).join("docs/architecture.md")).unwrap();
    let table = document.split("## Layers").nth(1).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    let modules = |row: &str| {
        let names = row.split('|').nth(1).unwrap().split(", ").map(|name| name.trim().trim_matches('`').to_owned());
        names.filter_map(|name| Some(name.split(['/', '.']).next()?.to_owned())).collect::<Vec<_>>()
    };
    let count = rows.len();
    let placed =
        rows.iter().enumerate().flat_map(|(index, row)| modules(row).into_iter().map(move |m| (m, count - index)));
    // A module belongs to the first row that names it: `cuda/device/` is below `cuda/`.
    let mut found = BTreeMap::new();
    for (module, row) in placed {
        found.entry(module).or_insert(row);
    }
    found
}

#[test]
fn no_module_imports_from_a_layer_above_its_own() {
    let rows = rows();
    // Names that the crate's root re-exports, and their modules.
    let roots = [
        ("Engine", "engine"),
        ("Observer", "engine"),
        ("Error", "error"),
        ("Result", "error"),
        ("Model", "checkpoint"),
    ];
    let roots = BTreeMap::from(roots);
    for path in files("src", &["rs"]) {
        let inside = path.strip_prefix(Path::new(ROOT).join("src")).unwrap();
        let module = inside.iter().next().unwrap().to_string_lossy().replace(".rs", "");
        if ["lib", "main", "cli"].contains(&&*module) {
            continue;
        }
        let own = *rows.get(&module).unwrap_or_else(|| panic!("docs/architecture.md has no row for {module}"));
        let code = code(&path);
        for import in code.split("crate::").skip(1) {
            let name: String = import.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let name = roots.get(&*name).map_or(name.clone(), |module| (*module).to_owned());
            let Some(row) = rows.get(&name) else { continue };
            assert!(*row <= own, "{} imports {name}, a layer above its own", inside.display());
        }
    }
}

#[test]
fn only_backend_validates_operations_and_calls_their_bodies() {
    let backend = Path::new(ROOT).join("src/backend.rs");
    let text = code(&backend);
    let bodies = text.split("fn run_").skip(1).map(|body| format!(".run_{}(", body.split('(').next().unwrap()));
    let bodies: Vec<String> = bodies.collect();
    assert!(bodies.contains(&".run_linear(".to_owned()));
    for path in ["src", "benches", "examples"].into_iter().flat_map(|folder| files(folder, &["rs"])) {
        if path == backend {
            continue;
        }
        let code = code(&path);
        assert!(!code.contains("op.validate("), "{} validates an operation", path.display());
        let in_front = path.ends_with("profile/backend.rs");
        let called = bodies.iter().find(|&body| !in_front && code.contains(body));
        assert!(called.is_none(), "{} calls {called:?}, which takes its operands as valid", path.display());
    }
}

#[test]
fn only_a_download_opens_connections() {
    let download = Path::new(ROOT).join("src/cli/commands/download");
    for path in files("src", &["rs"]).into_iter().filter(|path| !path.starts_with(&download)) {
        assert!(!code(&path).contains("std::net"), "{} can open a connection", path.display());
    }
}

/// Files that are read whole are read by `src/reading.rs`, which bounds them; the others here read pieces, or files of the system.
#[test]
fn files_are_read_within_bounds() {
    const READERS: [&str; 9] = [
        "reading.rs",
        "room.rs",
        "staged.rs",
        "staged/lasting.rs",
        "staged/stale.rs",
        "cli/lock.rs",
        "cli/memory.rs",
        "cli/commands/download/partial.rs",
        "video/input.rs",
    ];
    let source = Path::new(ROOT).join("src");
    for path in files("src", &["rs"]) {
        let name = path.strip_prefix(&source).unwrap();
        let code = code(&path);
        let reads = ["fs::read(", "read_to_string(", "File::open("].into_iter().find(|call| code.contains(call));
        assert!(
            reads.is_none() || READERS.iter().any(|it| name == Path::new(it)),
            "{} calls {reads:?}",
            name.display()
        );
    }
}

#[test]
fn only_the_command_line_names_its_options() {
    for path in files("src", &["rs"]).into_iter().chain(files("kernels", &["cu", "cuh", "cpp", "h"])) {
        if path.starts_with(Path::new(ROOT).join("src/cli")) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for string in lines.flat_map(|line| line.split('"').skip(1).step_by(2)) {
            let option = string.split("--").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            let hub = string.starts_with("models--");
            assert!(!option || hub, "{}: {string:?} names an option", path.display());
        }
    }
}

#[test]
fn files_stay_short() {
    const MOST: usize = 500;
    let endings = ["rs", "cu", "cuh", "cpp", "h", "py"];
    for folder in ["src", "kernels", "tests", "benches", "examples", "tools", "scripts"] {
        for path in files(folder, &endings) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= MOST, "{} has {lines} lines", path.display());
        }
    }
}

#[test]
fn every_file_of_kernels_is_listed_tested_timed_and_described() {
    let text = |path: &str| fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
    let list = text("kernels/stems.txt");
    let stems = list.lines().filter(|line| !line.starts_with('#'));
    let stems: BTreeMap<&str, &str> = stems.map(|line| line.split_once(' ').unwrap_or((line, ""))).collect();
    let names = fs::read_dir(Path::new(ROOT).join("kernels")).unwrap().map(|entry| entry.unwrap().path());
    let names = names.filter(|path| path.extension().is_some_and(|ending| ending == "cu"));
    let names: BTreeMap<String, ()> =
        names.map(|path| (path.file_stem().unwrap().to_string_lossy().into(), ())).collect();
    assert!(stems.keys().copied().eq(names.keys().map(String::as_str)), "kernels/stems.txt lists kernels/*.cu");
    let (manifest, document) = (text("Cargo.toml"), text("docs/kernels.md"));
    for (stem, other) in stems {
        assert!(document.contains(&format!("| {stem} |")), "docs/kernels.md has no kernel of {stem}.cu");
        if other.is_empty() {
            assert!(Path::new(ROOT).join(format!("src/selftest/{stem}.rs")).is_file(), "{stem} has no self-test");
            assert!(Path::new(ROOT).join(format!("benches/{stem}.rs")).is_file(), "{stem} has no bench");
            assert!(manifest.contains(&format!("[[bench]]\nname = \"{stem}\"")), "Cargo.toml has no bench {stem}");
        }
    }
}

#[test]
fn every_stem_of_operations_has_its_test_on_the_cpu() {
    let tests = fs::read_to_string(Path::new(ROOT).join("tests/ops/mod.rs")).unwrap();
    for path in files("src/ops", &["rs"]) {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !["mod", "operands"].contains(&&*stem) {
            assert!(tests.contains(&format!("\nmod {stem};")), "tests/ops has no test of {stem}");
        }
    }
}

#[test]
fn every_environment_variable_is_in_the_table() {
    let table = fs::read_to_string(Path::new(ROOT).join("CONTRIBUTING.md")).unwrap();
    let mut sources: Vec<PathBuf> = ["src", "benches"].iter().flat_map(|folder| files(folder, &["rs"])).collect();
    sources.push(Path::new(ROOT).join("build.rs"));
    let mut found = 0;
    for path in sources {
        for string in code(&path).split('"').skip(1).step_by(2).filter(|string| string.starts_with("OSP_")) {
            let name: String = string.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
            assert!(
                table.contains(&format!("`{name}`")),
                "CONTRIBUTING.md has no line for {name} of {}",
                path.display()
            );
            found += 1;
        }
    }
    assert!(found > 5, "the sources name variables");
}
