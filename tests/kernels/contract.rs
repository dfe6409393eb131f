//! The sources of the kernels, the contracts in Rust and docs/kernels.md must agree.

use osp::cuda::CONTRACTS;
use osp::cuda::device::Emulated;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Stem and text of each kernels/*.cu.
fn sources() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(project("kernels")).unwrap();
    let files =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "cu"));
    let mut sources: Vec<_> =
        files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), read(&path))).collect();
    sources.sort();
    sources
}

/// Name and struct of every `KERNEL(name, threads, struct)` and `CLUSTER_KERNEL(name, threads, blocks, struct)`.
fn entries(source: &str) -> Vec<[String; 2]> {
    let kernel = |line: &str| {
        let arguments = line.strip_prefix("CLUSTER_").unwrap_or(line).strip_prefix("KERNEL(")?;
        let (arguments, _) = arguments.split_once(')').expect("the arguments of KERNEL are on one line");
        let parts: Vec<&str> = arguments.split(',').map(str::trim).collect();
        let ([name, _, params] | [name, _, _, params]) = parts[..] else { panic!("the arguments of KERNEL: {line}") };
        Some([name.to_owned(), params.to_owned()])
    };
    source.lines().filter_map(kernel).collect()
}

/// The names of all kernels.
pub fn entry_points() -> impl Iterator<Item = String> {
    sources().into_iter().flat_map(|(_, source)| entries(&source)).map(|[kernel, _]| kernel)
}

/// The headers that kernels share, concatenated.
fn headers() -> String {
    let folders = ["kernels/common", "kernels/common/hopper"].map(|folder| std::fs::read_dir(project(folder)).unwrap());
    let paths = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).map(|path| read(&path)).collect()
}

/// Fields of a struct: type and name as written.
fn fields(source: &str, name: &str) -> Vec<String> {
    let start = format!("struct {name} {{\n");
    let at = source.find(&start).unwrap_or_else(|| panic!("no struct {name}")) + start.len();
    let (body, _) = source[at..].split_once("\n};").expect("the struct ends");
    let lines = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.map(|line| line.split(';').next().unwrap().to_owned()).collect()
}

#[test]
fn parameters_are_the_same_in_both_languages() {
    let (emulated, mut checked) = (Emulated::new(0), BTreeSet::new());
    let headers = headers();
    for (stem, source) in sources() {
        let source = source + &headers;
        for [kernel, params] in entries(&source) {
            let contract = CONTRACTS.iter().find(|contract| contract.stem == stem && contract.params == params);
            let contract =
                contract.unwrap_or_else(|| panic!("{kernel}: no {params} of {stem} in src/cuda/contracts.rs"));
            let (threads, bytes) = emulated.kernel(&kernel).unwrap_or_else(|| panic!("{kernel} is not emulated"));
            assert!(contract.threads.contains(&threads), "{kernel}: {threads}, Rust launches {:?}", contract.threads);
            assert_eq!(bytes, contract.launched_bytes(), "{params}");
            let written = fields(&source, &params);
            assert_eq!(written.len(), contract.fields.len(), "{params}: {written:?}");
            for (written, (types, name)) in written.iter().zip(contract.fields) {
                assert!(
                    types.iter().any(|kind| written == &format!("{kind}{name}")),
                    "{params}: {written} is not {name}"
                );
            }
            checked.insert((stem.clone(), params));
        }
    }
    assert_eq!(checked.len(), CONTRACTS.len(), "a contract without a kernel");
}

#[test]
fn every_kernel_has_its_row_in_the_docs_and_every_row_its_kernel() {
    let docs = read(&project("docs/kernels.md"));
    let mut documented: BTreeSet<String> = BTreeSet::new();
    for row in docs.lines().filter(|line| line.starts_with("| `")) {
        let names = row.split('|').nth(1).expect("a row has cells");
        documented.extend(names.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    // A row stands for both types: `linear_*` for linear_f16 and linear_bf16. Kernels without activations end in f32.
    let exists: BTreeSet<String> = sources()
        .iter()
        .flat_map(|(_, source)| entries(source))
        .map(|[kernel, ..]| match kernel.ends_with("_f32") {
            true => kernel,
            false => kernel.trim_end_matches("bf16").trim_end_matches("f16").to_owned() + "*",
        })
        .collect();
    assert_eq!(documented, exists);
}

/// What the prediction of a tile's cost takes for granted.
#[test]
fn a_kernel_with_an_alternative_leaves_room_for_two_blocks() {
    let families = ["linear_", "causal_conv3d_", "attention_q64_d", "attention_q128_d"];
    let mut found = 0;
    for table in std::fs::read_dir(project("docs/machine-code")).unwrap().map(|entry| entry.unwrap().path()) {
        let text = read(&table);
        let lines = text.lines().filter(|line| !line.contains("_sm90_"));
        let rows = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
        for row in rows.filter(|row| families.iter().any(|family| row[0].starts_with(family))) {
            // With 128 features there is one team.
            let alone = row[0].contains("_d128_");
            let blocks: usize = row[5].parse().unwrap();
            // Two broad tiles do not fit into 100 KiB, which the prediction knows.
            let large = ["sm_80", "sm_90a", "sm_100"].iter().any(|name| table.ends_with(format!("{name}.txt")));
            let least = if row[0].starts_with("linear_broad_") && !large { 1 } else { 2 };
            assert!(alone || blocks >= least, "{}: {} has room for {blocks}", table.display(), row[0]);
            found += usize::from(!alone);
        }
    }
    // For each architecture in both types: four, seven and six.
    assert_eq!(found, 6 * 2 * 17);
}

#[test]
fn both_types_have_the_same_kernels() {
    for (stem, source) in sources() {
        let names: BTreeSet<String> = entries(&source).into_iter().map(|[kernel, ..]| kernel).collect();
        for name in names.iter().filter(|name| !name.ends_with("_f32")) {
            let other = match name.strip_suffix("_bf16") {
                Some(stem) => format!("{stem}_f16"),
                None => format!("{}_bf16", name.strip_suffix("_f16").unwrap_or_else(|| panic!("{name} names no type"))),
            };
            assert!(names.contains(&other), "kernels/{stem}.cu has {name} but not {other}");
        }
    }
}

#[test]
fn files_stay_under_five_hundred_lines_and_instructions_in_one_place() {
    for (stem, source) in sources() {
        assert!(source.lines().count() <= 500, "kernels/{stem}.cu");
        assert!(!source.contains("asm"), "kernels/{stem}.cu: inline PTX belongs into common/");
    }
}
