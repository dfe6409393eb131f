//! Fingerprints: a hash of the bits of each layer of the golden models on the emulator.
//!
//! `tests/golden/fingerprints.txt` holds them by model, with the toolchain that gave them. On that toolchain other bits
//! fail a test; elsewhere the differences are printed. `OSP_FINGERPRINTS=write` renews the file.

mod backend;
mod names;

pub use backend::Printing;
pub use names::Names;

use osp::cuda::Half;
use osp::cuda::device::Emulated;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/fingerprints.txt");

const HEAD: &str = "\
# Hashes (FNV-1a, 64 bits) of everything that each layer of the golden models computes on the emulator, in f16 and in bf16.
# A model's head names the toolchain that gave them; only on that toolchain tests compare them.
# After a change that is meant: OSP_FINGERPRINTS=write cargo test --test tests -- on_the_emulated_gpu kernels_run_the_vae
";

/// The tests of a process write the file in turn.
static WRITING: Mutex<()> = Mutex::new(());

/// The layers of a model, in order, each with its hash.
pub type Layers = Vec<(String, u64)>;

/// Compares the layers of a model in f16 and in bf16 with the file, or writes them.
///
/// # Panics
/// If the toolchain is that of the file and a layer has other bits.
#[track_caller]
pub fn check(model: &str, [f16, bf16]: [Layers; 2]) {
    let toolchain = Emulated::toolchain().unwrap();
    let found = section(&f16, &bf16);
    let _one_at_a_time = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let file = std::fs::read_to_string(FILE).unwrap_or_default();
    if std::env::var("OSP_FINGERPRINTS").is_ok_and(|value| value == "write") {
        std::fs::write(FILE, replaced(&file, model, &toolchain, &found)).unwrap();
        return;
    }
    let known = sections(&file).find(|(name, ..)| *name == model);
    let (_, made_by, known) =
        known.unwrap_or_else(|| panic!("{FILE} has no section for {model}: its head says how to write it"));
    let changes = changes(model, known, &found);
    if toolchain == made_by {
        assert!(changes.is_empty(), "other bits than in {FILE}, the first first:\n{}", changes.join("\n"));
    } else {
        println!(
            "{model}: the fingerprints are of {made_by}, this is {toolchain}: {} differ\n{}",
            changes.len(),
            changes.join("\n")
        );
    }
}

/// A line for each layer: its name, and its hashes in f16 and in bf16.
fn section(f16: &Layers, bf16: &Layers) -> String {
    let mut lines = String::new();
    for ((layer, f16), (other, bf16)) in f16.iter().zip(bf16) {
        assert_eq!(layer, other, "the layers do not depend on the type");
        writeln!(lines, "{layer:48} {f16:016x} {bf16:016x}").expect("a text takes everything");
    }
    assert_eq!(f16.len(), bf16.len());
    lines
}

/// The sections of a file: model, toolchain, lines.
fn sections(file: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    file.split("\n[").skip(1).filter_map(|section| {
        let (head, lines) = section.split_once('\n')?;
        let (model, toolchain) = head.split_once("] ")?;
        Some((model, toolchain, lines))
    })
}

/// The file with this section for a model, and all sections in the order of their names.
fn replaced(file: &str, model: &str, toolchain: &str, lines: &str) -> String {
    let others = sections(file).filter(|(name, ..)| *name != model);
    let mut all: Vec<_> = others.chain([(model, toolchain, lines)]).collect();
    all.sort();
    let text =
        |(model, toolchain, lines): &(&str, &str, &str)| format!("\n[{model}] {toolchain}\n{}\n", lines.trim_end());
    HEAD.to_owned() + &all.iter().map(text).collect::<String>()
}

/// A line for each layer and type that differs, in order.
fn changes(model: &str, known: &str, found: &str) -> Vec<String> {
    let rows = |lines: &str| {
        lines
            .lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .filter(|row| row.len() == 3)
            .collect::<Vec<_>>()
    };
    let (known, found) = (rows(known), rows(found));
    let names = |rows: &[Vec<String>]| rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    if names(&known) != names(&found) {
        return vec![format!("{model}: has the layers {:?}, expected {:?}", names(&found), names(&known))];
    }
    let types = [Half::F16, Half::Bf16].map(Half::suffix);
    let pairs = known.iter().zip(&found);
    let changed = pairs.flat_map(|(known, found)| {
        (0..2).filter(|i| known[i + 1] != found[i + 1]).map(|i| format!("{model} {}: {} changed", types[i], found[0]))
    });
    changed.collect()
}

#[test]
fn a_changed_layer_is_named() {
    let layers = |last| vec![("block.0.attn1".to_owned(), 1), ("block.0.ff".to_owned(), last)];
    let known = replaced("", "latte", "GCC 12", &section(&layers(2), &layers(3)));
    let known = replaced(&known, "a", "GCC 11", "x 1 2\n");
    let all: Vec<_> = sections(&known).collect();
    assert_eq!(all[0], ("a", "GCC 11", "x 1 2\n"));
    let (model, toolchain, lines) = all[1];
    assert_eq!((model, toolchain), ("latte", "GCC 12"));
    assert!(changes(model, lines, &section(&layers(2), &layers(3))).is_empty());
    assert_eq!(changes(model, lines, &section(&layers(2), &layers(4))), ["latte bf16: block.0.ff changed"]);
    assert!(
        changes(model, lines, &section(&layers(2)[..1].to_vec(), &layers(3)[..1].to_vec()))[0]
            .contains("has the layers")
    );
}
