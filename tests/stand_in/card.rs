//! The attributes of the GPU.

use crate::Outcome;
use crate::settings::Settings;
use cudarc::driver::sys::{CUdevice_attribute as Attribute, CUresult};

/// Shared memory that every block may have, the kernel's static shared memory included.
pub const SHARED_FOR_ALL: u32 = 48 << 10;
/// Threads of a block.
pub const MOST_THREADS: u32 = 1024;
/// Threads of a block in x, y and z.
pub const MOST_BLOCK: [u32; 3] = [1024, 1024, 64];
/// Blocks of a grid in x, y and z.
pub const MOST_GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// The most shared memory that a block can ask for: the CUDA C++ Programming Guide's table of compute capabilities.
pub fn most_shared(capability: (i32, i32)) -> u32 {
    let kibibytes = match capability {
        (8, 0 | 7) => 163,
        (8, _) | (12, _) => 99,
        (9..=11, _) => 227,
        _ => 64,
    };
    kibibytes << 10
}

/// Bytes of a block's shared memory that the system keeps, as nvcc's machine code reserves them.
pub fn reserved_shared(capability: (i32, i32)) -> u32 {
    if capability.0 >= 9 { 1 << 10 } else { 0 }
}

/// The value of an attribute.
pub fn attribute(settings: &Settings, attribute: u32) -> Outcome<i32> {
    let is = |other: Attribute| attribute == other as u32;
    let values: [(Attribute, i32); 19] = [
        (Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, MOST_THREADS as i32),
        (Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, MOST_BLOCK[0] as i32),
        (Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, MOST_BLOCK[1] as i32),
        (Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, MOST_BLOCK[2] as i32),
        (Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, MOST_GRID[0] as i32),
        (Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, MOST_GRID[1] as i32),
        (Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, MOST_GRID[2] as i32),
        (Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, SHARED_FOR_ALL as i32),
        (Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, most_shared(settings.capability) as i32),
        (Attribute::CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, reserved_shared(settings.capability) as i32),
        (Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32),
        (Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, settings.multiprocessors),
        (Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, settings.cache),
        (Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, settings.capability.0),
        (Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, settings.capability.1),
        (Attribute::CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1),
        (Attribute::CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2),
        (Attribute::CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1),
        (Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1),
    ];
    let found = values.iter().find(|(known, _)| is(*known)).map(|&(_, value)| value);
    found.ok_or_else(|| crate::state::not_modelled(&format!("attribute {attribute} of the GPU")))
}

/// How many of the GPUs the variable `CUDA_VISIBLE_DEVICES` lets a program see. It lists their numbers; a number that
/// does not exist hides itself and all behind it (CUDA C++ Programming Guide, "CUDA Environment Variables").
pub fn visible(cards: i32) -> Outcome<i32> {
    let Ok(list) = std::env::var("CUDA_VISIBLE_DEVICES") else { return Ok(cards) };
    let exists = |word: &&str| word.trim().parse().is_ok_and(|card: i32| (0..cards).contains(&card));
    i32::try_from(list.split(',').take_while(exists).count()).map_err(|_| CUresult::CUDA_ERROR_INVALID_DEVICE)
}
