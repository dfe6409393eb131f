//! Faults that are planted in Hopper's kernels of linear layers, convolutions and attention: the checks of these must find
//! each of them on the PTX machine.

use super::planted::{Edit, compile_for, findings_by, findings_of, trial};
use osp::selftest::{Check, checks};

/// The kernels that these tests leave out, because nvcc takes seconds for each.
const OTHER_LAYERS: [Edit<'_>; 3] = [
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

const OTHER_CONVOLUTIONS: [Edit<'_>; 4] = [
    (
        "conv3d_sm90.cu",
        "CLUSTER_KERNEL(causal_conv3d_sm90_large_f16, THREADS, 2, CausalConv3dSm90Params) { causal_conv3d<f16, Large>(p); }",
        "",
    ),
    (
        "conv3d_sm90.cu",
        "CLUSTER_KERNEL(causal_conv3d_sm90_large_bf16, THREADS, 2, CausalConv3dSm90Params) { causal_conv3d<bf16, Large>(p); }",
        "",
    ),
    (
        "conv3d_sm90.cu",
        "CLUSTER_KERNEL(causal_conv3d_sm90_small_bf16, THREADS, 2, CausalConv3dSm90Params) { causal_conv3d<bf16, Small>(p); }",
        "",
    ),
    (
        "conv3d_sm90.cu",
        "CLUSTER_KERNEL(causal_conv3d_sm90_enlarged_bf16, THREADS, 2, CausalConv3dSm90Params) { causal_conv3d<bf16, Enlarged>(p); }",
        "",
    ),
];

const OTHER_ATTENTION: [Edit<'_>; 4] = [
    (
        "attention_sm90.cu",
        "KERNEL(attention_sm90_q128_d72_bf16, THREADS, AttentionSm90Params) { attention<Wide<bf16>>(p); }",
        "",
    ),
    (
        "attention_sm90.cu",
        "KERNEL(attention_sm90_mask_q128_d72_bf16, THREADS, AttentionSm90Params) { attention<Masked<bf16>>(p); }",
        "",
    ),
    (
        "attention_sm90.cu",
        "KERNEL(attention_sm90_q64_d72_f16, THREADS, AttentionSm90Params) { attention<Short<f16>>(p); }",
        "",
    ),
    (
        "attention_sm90.cu",
        "KERNEL(attention_sm90_q64_d72_bf16, THREADS, AttentionSm90Params) { attention<Short<bf16>>(p); }",
        "",
    ),
];

/// A file of kernels for faults.
struct File {
    stem: &'static str,
    others: &'static [Edit<'static>],
    /// The checks that must find the faults.
    checks: fn() -> Vec<Check>,
}

const LINEAR: File = File { stem: "gemm_sm90", others: &OTHER_LAYERS, checks: || checks("gemm").unwrap() };
/// The check has more slices than stages, moments, and another summand.
const CONVOLUTIONS: File = File {
    stem: "conv3d_sm90",
    others: &OTHER_CONVOLUTIONS,
    checks: || {
        let mut checks = checks("conv3d").unwrap();
        checks.retain(|check| check.name == "a_block_makes_many_boxes_with_the_same_bits");
        checks
    },
};
/// The check has kept keys, more tiles than stages, and a mask.
const ATTENTION: File = File {
    stem: "attention_sm90",
    others: &OTHER_ATTENTION,
    checks: || {
        let mut checks = checks("attention").unwrap();
        checks.retain(|check| check.name == "a_block_makes_many_tasks_with_the_same_bits");
        checks
    },
};

impl File {
    /// What the checks find after edits; none without nvcc.
    #[track_caller]
    fn found(&self, edits: &[Edit<'_>]) -> Option<Vec<String>> {
        let ptx = compile_for("90a", self.stem, &[self.others, edits].concat())?;
        // The kernels that were left out have no place in this test.
        let of_others = |found: &String| found.contains("there is no such kernel");
        let found = findings_by(&(self.checks)(), trial(self.stem, &ptx).quick());
        Some(found.into_iter().filter(|found| !of_others(found)).collect())
    }

    #[track_caller]
    fn finds(&self, from: &str, to: &str, what: &str) {
        let Some(found) = self.found(&[(&format!("{}.cu", self.stem), from, to)]) else { return };
        assert!(found.iter().any(|found| found.contains(what)), "{what:?} is not among {found:#?}");
    }
}

#[test]
fn the_kernel_without_a_fault_passes() {
    assert!(LINEAR.found(&[]).is_none_or(|found| found.is_empty()));
}

#[test]
fn a_phase_that_is_flipped() {
    LINEAR.finds("step.parity ^ 1", "step.parity", "stuck");
}

#[test]
fn a_count_of_bytes_that_is_off_by_sixteen() {
    LINEAR.finds(
        "arrive_expecting(full, Shape::STAGE_BYTES)",
        "arrive_expecting(full, Shape::STAGE_BYTES - 16)",
        "bytes",
    );
}

#[test]
fn a_fence_that_is_missing() {
    LINEAR.finds("        open_products();\n", "", "fence");
}

#[test]
fn a_stride_of_half_a_matrix() {
    LINEAR.finds("describe_matrix(stage, 16, EIGHT_ROWS,", "describe_matrix(stage, 16, EIGHT_ROWS / 2,", "error");
}

/// Only more slices than stages fill a stage again, so there are three stages, and all cases of the first check run. They
/// need the kernels of both types.
#[test]
fn a_stage_that_is_released_before_its_products() {
    let few = ("gemm_sm90.cu", "Tile<1, 64, 8, 1, 2>", "Tile<1, 64, 3, 1, 2>");
    let early = ("gemm_sm90.cu", "            wait_for_products<1>();\n", "            wait_for_products<2>();\n");
    let Some(ptx) = compile_for("90a", "gemm_sm90", &[&OTHER_LAYERS[..2], &[few, early]].concat()) else { return };
    let found = findings_of("gemm", trial("gemm_sm90", &ptx), 1);
    assert!(found.iter().any(|found| found.contains("race")), "{found:#?}");
}

#[test]
fn a_convolution_without_a_fault_passes() {
    assert!(CONVOLUTIONS.found(&[]).is_none_or(|found| found.is_empty()));
}

#[test]
fn weights_that_only_one_block_releases() {
    CONVOLUTIONS.finds("    if (lane < CLUSTER) {\n", "    if (lane == cluster_rank()) {\n", "stuck");
}

#[test]
fn weights_that_are_released_before_their_products() {
    let wait = "                wait_for_products<1>();\n";
    CONVOLUTIONS.finds(wait, &wait.replace('1', "2"), "race");
}

#[test]
fn results_that_are_not_shown_to_the_copy_engine() {
    CONVOLUTIONS.finds("        publish_shared();\n", "", "without fence.proxy.async");
}

#[test]
fn a_slab_that_is_overwritten_while_it_is_copied() {
    CONVOLUTIONS.finds("            wait_for_reads<0>();\n", "", "race");
}

#[test]
fn other_that_is_overwritten_while_lanes_read_it() {
    CONVOLUTIONS.finds("                __syncwarp();\n", "", "race");
}

#[test]
fn attention_without_a_fault_passes() {
    assert!(ATTENTION.found(&[]).is_none_or(|found| found.is_empty()));
}

#[test]
fn keys_that_are_released_before_their_products() {
    ATTENTION.finds(
        "            wait_for_products<1>(sums_of<S>(scores));\n            finish_scores(scores, tile, last);\n",
        "            finish_scores(scores, tile, last);\n            wait_for_products<1>(sums_of<S>(scores));\n",
        "in flight",
    );
}

#[test]
fn keys_that_stay_for_a_task_with_others() {
    ATTENTION.finds("task.head == next.head && task.outer", "task.outer", "not the same bits");
}

#[test]
fn queries_that_are_released_while_lanes_read_them() {
    ATTENTION.finds("        __syncwarp();\n        release(ring.empty", "        release(ring.empty", "race");
}

#[test]
fn results_that_the_copy_does_not_see() {
    ATTENTION.finds("        publish_shared();\n", "", "race");
}

#[test]
fn weights_that_no_fence_follows() {
    ATTENTION.finds(
        "VALUE_REST_ROW, 16, Swizzle::NONE);\n        open_products();\n",
        "VALUE_REST_ROW, 16, Swizzle::NONE);\n",
        "fence",
    );
}
