//! Faults that are planted in a copy of the kernels' sources, or in their PTX: the checks of the kernels must find each of
//! them on the PTX machine. The emulator passes all of them but the last, because they are in code that only nvcc sees.

use super::NVCC;
use osp::cuda::device::PtxMachine;
use osp::selftest::{Check, Trial, checks};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// An exact replacement in a file of kernels/: the file, the text, and what replaces it everywhere.
pub(super) type Edit<'a> = (&'a str, &'a str, &'a str);

/// The PTX of a file of kernels, with edits to a copy of kernels/; none without nvcc.
#[track_caller]
fn compile(stem: &str, edits: &[Edit<'_>]) -> Option<String> {
    compile_for("80", stem, edits)
}

/// As [`compile`], for an architecture.
#[track_caller]
pub(super) fn compile_for(architecture: &str, stem: &str, edits: &[Edit<'_>]) -> Option<String> {
    let Some(nvcc) = NVCC else {
        eprintln!("skipped: the build found no nvcc");
        return None;
    };
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    copy(&project.join("kernels"), folder.path());
    for (file, from, to) in edits {
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text.contains(from) || !path.exists(), "{file} no longer has {from:?}");
        let text = if path.exists() { text.replace(from, to) } else { (*to).to_owned() };
        std::fs::write(&path, text).unwrap();
    }
    let (source, out) = (folder.path().join(stem).with_extension("cu"), folder.path().join("out.ptx"));
    // The path may be relative to the project.
    let mut command = Command::new(project.join(nvcc));
    command
        .args(["-std=c++20", "-O3", "-ptx", &format!("-arch=compute_{architecture}")])
        .arg(source)
        .arg("-o")
        .arg(&out);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(std::fs::read_to_string(out).unwrap())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for path in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let to: PathBuf = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(path, to).unwrap();
        }
    }
}

/// What the first `most` checks of a stem find.
pub(super) fn findings_of(stem: &str, trial: Trial, most: usize) -> Vec<String> {
    let mut checks = checks(stem).unwrap();
    checks.truncate(most);
    findings_by(&checks, trial)
}

/// What checks find.
pub(super) fn findings_by(checks: &[Check], mut trial: Trial) -> Vec<String> {
    let mut found = Vec::new();
    for check in checks {
        found.extend(check.run(&mut trial).err().map(|error| error.to_string()));
    }
    found.extend(trial.findings().values().filter_map(|finding| finding.failure.clone()));
    found
}

/// A trial of the PTX of a stem.
pub(super) fn trial(stem: &str, ptx: &str) -> Trial {
    let machine = PtxMachine::with_texts(vec![(format!("{stem}.ptx"), ptx.to_owned())], 1);
    Trial::of(&[Arc::new(machine)])
}

/// What the checks of a stem find in its PTX by few cases.
fn findings(stem: &str, ptx: &str) -> Vec<String> {
    findings_of(stem, trial(stem, ptx).quick(), usize::MAX)
}

/// The checks of a stem pass, and find a fault after `edits`, with the words `what`.
#[track_caller]
fn found(stem: &str, edits: &[Edit<'_>], what: &str) {
    let (Some(right), Some(wrong)) = (compile(stem, &[]), compile(stem, edits)) else { return };
    assert_eq!(findings(stem, &right), Vec::<String>::new());
    assert_ne!(right, wrong, "the fault changes nothing");
    let found = findings(stem, &wrong);
    assert!(found.iter().any(|found| found.contains(what)), "{what:?} is not among {found:#?}");
}

#[test]
fn exchanged_operands() {
    let edit = ("common/ptx.cuh", r#""r"(a[1]), "r"(a[2]), "r"(a[3])"#, r#""r"(a[2]), "r"(a[1]), "r"(a[3])"#);
    found("facts", &[edit], "words differ");
}

#[test]
fn an_operand_that_is_only_written() {
    let edit = ("common/ptx.cuh", r#""+f"(c[3])"#, r#""=f"(c[3])"#);
    found("facts", &[edit], "which nothing was written to");
}

#[test]
fn a_parameter_four_bytes_away() {
    let fields = ["std::int32_t single;\n", "std::int32_t padding;\n"];
    let edit = |from, to| ("finite.cu", from, to);
    // Exchanged.
    let exchanged = [edit(fields[0], "std::int32_t other;\n"), edit(fields[1], "std::int32_t single;\n")];
    found("finite", &exchanged, "not the same bits");
    // Moved by a new field.
    found(
        "finite",
        &[edit(fields[0], "std::int32_t other;\nstd::int32_t single;\n")],
        "parameter bytes, the launch has",
    );
}

/// Each barrier between a write and the reads, and, in facts, also between the reads and the next write.
#[test]
fn a_deleted_barrier() {
    let mut deleted = 0;
    let facts = [("facts", "@first bar.sync"), ("facts", "@!first bar.sync")];
    for (stem, barrier) in [("finite", "bar.sync"), ("distance", "bar.sync")].into_iter().chain(facts) {
        let Some(ptx) = compile(stem, &[]) else { return };
        // nvcc unrolls the loop of facts four times. One half of a block never executes the rest of it.
        for (at, _) in ptx.match_indices(barrier).take(8) {
            let (before, rest) = ptx.split_at(at);
            let (_, after) = rest.split_once(';').unwrap();
            // The second barrier of a reduction is for the next one. `finite` has only one, `distance` has two.
            let last = !after.split(".entry").next().unwrap().contains(".shared");
            if stem != "facts" && last {
                continue;
            }
            let found = findings(stem, &format!("{before}{after}"));
            assert!(found.iter().any(|found| found.contains("race")), "{stem}, {at}: {found:#?}");
            deleted += 1;
        }
    }
    assert!(deleted >= 8 + 8 + 4 + 6, "{deleted}");
}

#[test]
fn a_barrier_of_the_wrong_half() {
    let edit = ("common/ptx.cuh", "@!first bar.sync 2, %1;", "@!first bar.sync 1, %1;");
    found("facts", &[edit], "race");
}

/// The last bit of a factor, 0.5.
#[test]
fn other_bits_than_on_the_emulator() {
    let Some(ptx) = compile("facts", &[]) else { return };
    let compared = |ptx: String| {
        let machine = PtxMachine::with_texts(vec![("facts.ptx".to_owned(), ptx)], 0).comparing();
        findings_of("facts", Trial::of(&[Arc::new(machine)]).quick(), usize::MAX)
    };
    assert_eq!(compared(ptx.clone()), Vec::<String>::new());
    assert!(ptx.contains("0f3F000000"));
    let found = compared(ptx.replace("0f3F000000", "0f3F000001"));
    assert!(
        found.iter().any(|found| found.contains("of the buffer out is") && found.contains("on the emulator")),
        "{found:#?}"
    );
}

/// The statements of ptx.cuh are volatile. The PTX of `facts` stays the same without "memory" in their lists. The
/// clobber matters where a statement that is not volatile reads memory, as here.
#[test]
fn a_lost_clobber_of_memory() {
    let source = |clobber: &str| {
        format!(
            "#include \"common/ptx.cuh\"\n\
             struct RereadParams {{ const void *x; void *out; }};\n\
             __device__ __forceinline__ std::uint32_t reread(const std::uint32_t *word) {{\n\
                 std::uint32_t value;\n\
                 asm(\"ld.shared.u32 %0, [%1];\" : \"=r\"(value) : \"r\"(shared_address(word)) {clobber});\n\
                 return value;\n\
             }}\n\
             KERNEL(k, 32, RereadParams) {{\n\
                 auto *word = reinterpret_cast<std::uint32_t *>(shared_memory()) + threadIdx.x;\n\
                 *word = load_global(static_cast<const std::uint32_t *>(p.x) + threadIdx.x);\n\
                 const std::uint32_t first = reread(word);\n\
                 *word = 2 * first;\n\
                 store_global(static_cast<std::uint32_t *>(p.out) + threadIdx.x, first + reread(word));\n\
             }}\n"
        )
    };
    let x: Vec<u32> = (1..33).collect();
    let run = |clobber: &str| {
        let text = compile("reread", &[("reread.cu", "", &source(clobber))])?;
        let run = super::Run { text: &text, x: &x, out: 32, threads: 32, blocks: 1, shared_bytes: 128, seed: 0 };
        Some(run.words().unwrap())
    };
    let (Some(right), Some(wrong)) = (run(": \"memory\""), run("")) else { return };
    assert_eq!(right, x.iter().map(|x| 3 * x).collect::<Vec<_>>());
    assert_ne!(wrong, right);
}

/// Only in the tile with four stages.
#[test]
fn an_early_read_of_a_stage() {
    let right = "cp_async_wait<Shape::STAGES - 2>()";
    let wrong = "cp_async_wait<(Shape::STAGES == 4 ? 3 : Shape::STAGES - 2)>()";
    let Some(ptx) = compile("gemm", &[("gemm.cu", right, wrong)]) else { return };
    let found = findings("gemm", &ptx);
    assert!(found.iter().any(|found| found.contains("linear_broad_f16")), "{found:#?}");
    assert!(found.iter().all(|found| found.contains("linear_broad_")), "{found:#?}");
}

#[test]
fn an_early_overwrite_of_a_stage() {
    let right = "        cp_async_wait<Shape::STAGES - 2>();\n        __syncthreads();\n        \
                 bring(used, k + (Shape::STAGES - 1) * Shape::TILE_K);\n";
    let wrong = "        bring(used, k + (Shape::STAGES - 1) * Shape::TILE_K);\n        \
                 cp_async_wait<Shape::STAGES - 1>();\n        __syncthreads();\n";
    let Some(ptx) = compile("gemm", &[("gemm.cu", right, wrong)]) else { return };
    // Only more slices than stages overwrite a stage, so all cases of the first check run.
    let found = findings_of("gemm", trial("gemm", &ptx), 1);
    assert!(found.iter().any(|found| found.contains("race: ") && found.contains("cp.async")), "{found:#?}");
}
