//! Tensor maps. The stand-in's form of a map is the program's, which the emulator reads.

use super::put;
use crate::Outcome;
use crate::state::not_modelled;
use bytemuck::Zeroable;
use cudarc::driver::sys::{CUresult, CUtensorMapDataType_enum as Type, CUtensorMapSwizzle_enum as Swizzle};
use osp::cuda::params::{Address, TensorMap};
use std::ffi::{c_uint, c_void};

/// The alignment of a map, and of the tensor.
const MAP_ALIGNMENT: usize = 64;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuTensorMapEncodeTiled(
    map: *mut TensorMap,
    element: c_uint,
    rank: c_uint,
    address: *const c_void,
    sizes: *const u64,
    strides: *const u64,
    sides: *const c_uint,
    steps: *const c_uint,
    interleave: c_uint,
    swizzle: c_uint,
    promotion: c_uint,
    fill: c_uint,
) -> CUresult {
    let encode = || {
        if !(1..=5).contains(&rank) || [sizes, strides].iter().any(|list| list.is_null()) || sides.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        if steps.is_null() || promotion > 3 || !map.addr().is_multiple_of(MAP_ALIGNMENT) {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let rank = rank as usize;
        // SAFETY: the caller passes a number for each dimension, and a stride for all but the innermost.
        let (sizes, strides, sides, steps) = unsafe {
            let of_ranks = |list: *const c_uint| std::slice::from_raw_parts(list, rank);
            let [sizes, strides] =
                [(sizes, rank), (strides, rank - 1)].map(|(list, len)| std::slice::from_raw_parts(list, len));
            (sizes, strides, of_ranks(sides), of_ranks(steps))
        };
        if interleave != 0 || fill != 0 || steps.iter().any(|&step| step != 1) {
            return Err(not_modelled("a tensor map with interleaving, steps, or NaN outside of the tensor"));
        }
        let encoded = encoded(element, swizzle, address.addr(), sizes, strides, sides)?;
        // SAFETY: the caller passes null or room for the result, and the alignment was checked.
        unsafe { put(map, encoded) }
    };
    encode().err().unwrap_or(CUresult::CUDA_SUCCESS)
}

/// The program's form of a map that keeps the documented rules.
fn encoded(
    element: c_uint,
    swizzle: c_uint,
    address: usize,
    sizes: &[u64],
    strides: &[u64],
    sides: &[c_uint],
) -> Outcome<TensorMap> {
    const HALVES: [Type; 3] = [
        Type::CU_TENSOR_MAP_DATA_TYPE_UINT16,
        Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        Type::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
    ];
    let element_bytes = match element {
        half if HALVES.iter().any(|&known| known as c_uint == half) => 2,
        single if single == Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT32 as c_uint => 4,
        other => return Err(not_modelled(&format!("a tensor map of elements of type {other}"))),
    };
    let known = [
        (Swizzle::CU_TENSOR_MAP_SWIZZLE_NONE, 0),
        (Swizzle::CU_TENSOR_MAP_SWIZZLE_32B, 32),
        (Swizzle::CU_TENSOR_MAP_SWIZZLE_64B, 64),
        (Swizzle::CU_TENSOR_MAP_SWIZZLE_128B, 128),
    ];
    let swizzle = known.iter().find(|(known, _)| *known as c_uint == swizzle).map(|&(_, bytes)| bytes);
    let row = element_bytes * sides[0];
    let swizzle = swizzle.filter(|&bytes| bytes == 0 || row <= bytes).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
    let keeps_the_rules = address.is_multiple_of(16)
        && row.is_multiple_of(16)
        && sizes.iter().all(|size| (1..=1 << 32).contains(size))
        && strides.iter().all(|stride| stride.is_multiple_of(16) && *stride < 1 << 40)
        && sides.iter().all(|side| (1..=256).contains(side));
    if !keeps_the_rules {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    let mut map = TensorMap::zeroed();
    (map.address, map.rank) = (Address(address as u64), sizes.len() as u32);
    (map.swizzle, map.element_bytes) = (swizzle, element_bytes);
    map.strides[..strides.len()].copy_from_slice(strides);
    for (i, (&size, &side)) in sizes.iter().zip(sides).enumerate() {
        map.sizes[i] = u32::try_from(size).map_err(|_| not_modelled("a dimension of 2³² elements"))?;
        map.box_sizes[i] = side;
    }
    Ok(map)
}
