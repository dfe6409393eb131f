//! Kernels for one architecture only, and tensor maps.

use super::{alone, compiled, raw};
use cudarc::driver::sys::{self, CUresult};
use osp::cuda::device::{Device, Driver};
use osp::selftest::{FACTS, Trial, checks};
use std::sync::Arc;

/// On an A100 all other kernels load, and the facts about Hopper are skipped.
#[test]
fn a_gpu_without_the_instructions_skips_their_kernels() {
    let body = || {
        if !compiled() {
            return;
        }
        let driver = Driver::open().unwrap();
        assert!(driver.has("linear_large_f16") && !driver.has("fact_box_f32"));
        assert_eq!(launched(Arc::new(driver), "boxes_have_their_swizzle_and_zeros_outside"), 0);
    };
    alone("driver::hopper::a_gpu_without_the_instructions_skips_their_kernels", "capability=8.0", body);
}

#[test]
fn a_hopper_gpu_gets_maps_and_clusters() {
    let body = || {
        if !compiled() {
            return;
        }
        let driver = Arc::new(Driver::open().unwrap());
        for check in [
            "boxes_have_their_swizzle_and_zeros_outside",
            "a_product_reads_part_of_a_panel",
            "blocks_of_a_cluster_load_for_each_other",
            "warpgroups_exchange_registers",
        ] {
            assert!(launched(driver.clone(), check) > 0, "{check}");
        }
    };
    alone("driver::hopper::a_hopper_gpu_gets_maps_and_clusters", "capability=9.0 seed=3", body);
}

/// Runs a check of the facts, which must pass, and counts the kernels that it launches.
fn launched(device: Arc<dyn Device>, name: &str) -> usize {
    let mut trial = Trial::new(device).quick();
    let checks = checks(FACTS).unwrap();
    checks.iter().find(|check| check.name == name).unwrap().run(&mut trial).unwrap();
    let failed: Vec<_> = trial.findings().values().filter_map(|finding| finding.failure.as_ref()).collect();
    assert!(failed.is_empty(), "{name}: {failed:?}");
    trial.findings().len()
}

/// Encodes a map of a matrix; the function's other arguments are the program's.
fn encode(rank: u32, address: usize, sizes: [u64; 2], stride: u64, sides: [u32; 2]) -> CUresult {
    use sys::{CUtensorMapDataType_enum as Type, CUtensorMapSwizzle_enum as Swizzle};
    let mut map = sys::CUtensorMap { opaque: [0; 16] };
    // SAFETY: there is room for the result, and every list has as many numbers as there are dimensions.
    unsafe {
        sys::cuTensorMapEncodeTiled(
            &mut map,
            Type::CU_TENSOR_MAP_DATA_TYPE_UINT16,
            rank,
            std::ptr::without_provenance_mut(address),
            sizes.as_ptr(),
            &stride,
            sides.as_ptr(),
            [1; 2].as_ptr(),
            sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
            Swizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    }
}

#[test]
fn maps_that_break_a_rule_are_refused() {
    let body = || {
        raw::open();
        for (map, fits) in [
            (encode(2, 4096, [1152, 300], 2304, [64, 256]), true),
            (encode(2, 4100, [1152, 300], 2304, [64, 256]), false),
            (encode(2, 4096, [1152, 0], 2304, [64, 256]), false),
            (encode(2, 4096, [1152, 300], 2306, [64, 256]), false),
            (encode(2, 4096, [1152, 300], 2304, [64, 257]), false),
            (encode(2, 4096, [1152, 300], 2304, [128, 256]), false),
            (encode(0, 4096, [1152, 300], 2304, [64, 256]), false),
        ] {
            assert_eq!(map == CUresult::CUDA_SUCCESS, fits, "{map:?}");
        }
    };
    alone("driver::hopper::maps_that_break_a_rule_are_refused", "capability=9.0", body);
}
