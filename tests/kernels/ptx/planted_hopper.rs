//! Faults that are planted in the product for Hopper: the checks of linear layers must find each of them on the PTX
//! machine.

use super::planted::{Edit, compile_for, findings, findings_of, trial};

/// The kernels that these tests leave out, because nvcc takes seconds for each.
const OTHERS: [Edit<'_>; 3] = [
    (
        "gemm_sm90.cu",
        "CLUSTER_KERNEL(linear_sm90_large_f16, THREADS, 2, GemmSm90Params) { linear<f16, Large>(p); }",
        "",
    ),
    (
        "gemm_sm90.cu",
        "CLUSTER_KERNEL(linear_sm90_large_bf16, THREADS, 2, GemmSm90Params) { linear<bf16, Large>(p); }",
        "",
    ),
    ("gemm_sm90.cu", "KERNEL(linear_sm90_small_bf16, THREADS, GemmSm90Params) { linear<bf16, Small>(p); }", ""),
];

/// What the checks of linear layers find after an edit; none without nvcc.
#[track_caller]
fn found(edits: &[Edit<'_>]) -> Option<Vec<String>> {
    let ptx = compile_for("90a", "gemm_sm90", &[&OTHERS[..], edits].concat())?;
    // The kernels that were left out have no place in this test.
    let of_others = |found: &String| found.contains("there is no such kernel");
    Some(findings("gemm", &ptx).into_iter().filter(|found| !of_others(found)).collect())
}

#[track_caller]
fn finds(from: &str, to: &str, what: &str) {
    let Some(found) = found(&[("gemm_sm90.cu", from, to)]) else { return };
    assert!(found.iter().any(|found| found.contains(what)), "{what:?} is not among {found:#?}");
}

#[test]
fn the_kernel_without_a_fault_passes() {
    assert!(found(&[]).is_none_or(|found| found.is_empty()));
}

#[test]
fn a_phase_that_is_flipped() {
    finds("step.parity ^ 1", "step.parity", "stuck");
}

#[test]
fn a_count_of_bytes_that_is_off_by_sixteen() {
    finds("arrive_expecting(full, Shape::STAGE_BYTES)", "arrive_expecting(full, Shape::STAGE_BYTES - 16)", "bytes");
}

#[test]
fn a_fence_that_is_missing() {
    finds("        open_products();\n", "", "fence");
}

#[test]
fn a_stride_of_half_a_matrix() {
    finds("describe_matrix(stage, 16, EIGHT_ROWS,", "describe_matrix(stage, 16, EIGHT_ROWS / 2,", "error");
}

/// Only more slices than stages fill a stage again, so there are three stages, and all cases of the first check run. They
/// need the kernels of both types.
#[test]
fn a_stage_that_is_released_before_its_products() {
    let few = ("gemm_sm90.cu", "Tile<1, 64, 8, 1, 2>", "Tile<1, 64, 3, 1, 2>");
    let early = ("gemm_sm90.cu", "            wait_for_products<1>();\n", "            wait_for_products<2>();\n");
    let Some(ptx) = compile_for("90a", "gemm_sm90", &[&OTHERS[..2], &[few, early]].concat()) else { return };
    let found = findings_of("gemm", trial("gemm_sm90", &ptx), 1);
    assert!(found.iter().any(|found| found.contains("race")), "{found:#?}");
}
