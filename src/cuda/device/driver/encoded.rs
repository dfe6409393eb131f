//! Tensor maps in the driver's own form.

use crate::cuda::device::Launch;
use crate::cuda::params::TensorMap;
use crate::error::Result;
use cudarc::driver::sys;
use std::borrow::Cow;

/// The parameters of a launch, with the driver's form of each tensor map.
///
/// # Errors
/// [`Error::Launch`](crate::error::Error::Launch) for a map that no copy can use.
pub(super) fn params<'a>(launch: &Launch<'a>) -> Result<Cow<'a, [u8]>> {
    let mut params = Cow::Borrowed(launch.params);
    for (number, (map, (_, name))) in launch.tensor_maps().zip(launch.fields).enumerate() {
        let encoded = map.check().and_then(|()| encoded(&map));
        let encoded = encoded.map_err(|problem| launch.error(format!("the tensor map {name}: {problem}")))?;
        let bytes: &[u8] = bytemuck::cast_slice(&encoded.opaque);
        params.to_mut()[number * bytes.len()..][..bytes.len()].copy_from_slice(bytes);
    }
    Ok(params)
}

fn encoded(map: &TensorMap) -> std::result::Result<sys::CUtensorMap, String> {
    use sys::CUtensorMapDataType_enum::{CU_TENSOR_MAP_DATA_TYPE_FLOAT32, CU_TENSOR_MAP_DATA_TYPE_UINT16};
    use sys::CUtensorMapSwizzle_enum as Swizzle;
    // Copies do not look at values: the type decides only the size of an element, and zeros are zeros in each.
    let kind = if map.element_bytes == 2 { CU_TENSOR_MAP_DATA_TYPE_UINT16 } else { CU_TENSOR_MAP_DATA_TYPE_FLOAT32 };
    let swizzle = match map.swizzle {
        32 => Swizzle::CU_TENSOR_MAP_SWIZZLE_32B,
        64 => Swizzle::CU_TENSOR_MAP_SWIZZLE_64B,
        128 => Swizzle::CU_TENSOR_MAP_SWIZZLE_128B,
        _ => Swizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
    };
    let sizes = map.sizes.map(u64::from);
    let every = [1; 5];
    let mut encoded = sys::CUtensorMap { opaque: [0; 16] };
    // SAFETY: `params` has checked that the map has at most five dimensions, and each array has five numbers, or four
    // strides. There is room for the result, at the alignment of its type. The address is only stored.
    let result = unsafe {
        sys::cuTensorMapEncodeTiled(
            &mut encoded,
            kind,
            map.rank,
            std::ptr::with_exposed_provenance_mut(map.address.0 as usize),
            sizes.as_ptr(),
            map.strides.as_ptr(),
            map.box_sizes.as_ptr(),
            every.as_ptr(),
            sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzle,
            sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    };
    match result {
        sys::CUresult::CUDA_SUCCESS => Ok(encoded),
        code => Err(format!("the NVIDIA driver says {code:?} about {map:?}")),
    }
}
