//! Tensor maps, from which Hopper's copy engine takes what a copy moves.

use super::field::{Address, Field};

/// A tensor in device memory, and the box of it that one copy moves. It stands at the head of a kernel's parameters.
///
/// The emulator and the PTX machine read this form (`kernels/emulator/hopper.h`); the driver puts its own in its place.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TensorMap {
    /// The first element.
    pub address: Address,
    /// Bytes between neighbours in dimensions 1 to 4; dimension 0 is dense.
    pub strides: [u64; 4],
    /// Elements in dimensions 0 (innermost) to 4.
    pub sizes: [u32; 5],
    /// Elements of the box in each dimension.
    pub box_sizes: [u32; 5],
    /// Dimensions, 1 to 5.
    pub rank: u32,
    /// Bytes of a row of the box, which the swizzle mixes with its neighbours: 32, 64 or 128; 0: no swizzle.
    pub swizzle: u32,
    /// Bytes of an element: 2 or 4.
    pub element_bytes: u32,
    unused: [u32; 9],
}

impl Field for TensorMap {
    const NAMES: &'static [&'static str] = &["TensorMap "];
}

impl TensorMap {
    /// The alignment of a struct with tensor maps in a `.cu` file.
    pub(crate) const ALIGNMENT: usize = 64;

    /// A map of a tensor of 16-bit elements. `sizes` and `box_sizes` begin with the innermost dimension. `strides` are
    /// the elements between neighbours in all dimensions but the innermost.
    ///
    /// # Errors
    /// A message with the rule that the map breaks: those of `cuTensorMapEncodeTiled`, and that a swizzled box has rows
    /// of exactly `swizzle` bytes, because the pitch of shorter ones is not documented.
    pub fn new<const RANK: usize>(
        address: Address,
        sizes: [usize; RANK],
        strides: &[usize],
        box_sizes: [u32; RANK],
        swizzle: u32,
    ) -> Result<Self, String> {
        Self::of_elements(2, address, sizes, strides, box_sizes, swizzle)
    }

    /// As [`Self::new`], for a tensor of f32, without a swizzle.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn of_floats<const RANK: usize>(
        address: Address,
        sizes: [usize; RANK],
        strides: &[usize],
        box_sizes: [u32; RANK],
    ) -> Result<Self, String> {
        Self::of_elements(4, address, sizes, strides, box_sizes, 0)
    }

    fn of_elements<const RANK: usize>(
        element_bytes: u32,
        address: Address,
        sizes: [usize; RANK],
        strides: &[usize],
        box_sizes: [u32; RANK],
        swizzle: u32,
    ) -> Result<Self, String> {
        let mut map = Self { address, rank: RANK as u32, swizzle, element_bytes, ..bytemuck::Zeroable::zeroed() };
        if !(1..=5).contains(&RANK) || strides.len() + 1 != RANK {
            return Err(format!("{RANK} dimensions and {} strides, expected 1 to 5 and one less", strides.len()));
        }
        for (i, &size) in sizes.iter().enumerate() {
            map.sizes[i] = u32::try_from(size).map_err(|_| format!("dimension {i} has {size} elements, too many"))?;
            map.box_sizes[i] = box_sizes[i];
        }
        for (to, &stride) in map.strides.iter_mut().zip(strides) {
            *to = u64::from(element_bytes) * stride as u64;
        }
        map.check().map(|()| map)
    }

    /// Bytes of the box.
    pub fn box_bytes(&self) -> u32 {
        self.element_bytes * self.box_sizes[..self.rank as usize].iter().product::<u32>()
    }

    /// Fails if no copy can use the map.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn check(&self) -> Result<(), String> {
        let rank = self.rank as usize;
        if !(1..=5).contains(&rank)
            || ![2, 4].contains(&self.element_bytes)
            || ![0, 32, 64, 128].contains(&self.swizzle)
        {
            let Self { element_bytes, swizzle, .. } = self;
            return Err(format!(
                "{rank} dimensions, elements of {element_bytes} bytes and a swizzle of {swizzle} bytes"
            ));
        }
        if !self.address.0.is_multiple_of(16) {
            return Err(format!("the tensor begins at {:#x}, which is not a multiple of 16", self.address.0));
        }
        for (i, &stride) in self.strides[..rank - 1].iter().enumerate() {
            if !stride.is_multiple_of(16) || stride >= 1 << 40 {
                return Err(format!("dimension {} has a stride of {stride} bytes, expected a multiple of 16", i + 1));
            }
        }
        for (i, (&size, &side)) in self.sizes.iter().zip(&self.box_sizes).enumerate().take(rank) {
            if size == 0 || !(1..=256).contains(&side) {
                return Err(format!(
                    "dimension {i} has {size} elements and the box {side}, expected 1 to 256 of the box"
                ));
            }
        }
        let row = self.element_bytes * self.box_sizes[0];
        if !row.is_multiple_of(16) || self.swizzle != 0 && row != self.swizzle {
            return Err(format!(
                "rows of the box have {row} bytes, expected a multiple of 16, and those of the swizzle"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_keeps_the_rules_of_the_driver() {
        let map = |address, sizes, strides: &[usize], sides, swizzle| {
            TensorMap::new(Address(address), sizes, strides, sides, swizzle)
        };
        let good = map(4096, [1152, 300], &[1152], [64, 256], 128).unwrap();
        assert_eq!((good.strides, good.rank, good.box_bytes()), ([2304, 0, 0, 0], 2, 64 * 256 * 2));
        for (wrong, words) in [
            (map(4104, [1152, 300], &[1152], [64, 256], 128), "not a multiple of 16"),
            (map(4096, [1151, 300], &[1151], [64, 256], 128), "a stride of 2302 bytes"),
            (map(4096, [1152, 300], &[], [64, 256], 128), "2 dimensions and 0 strides"),
            (map(4096, [1152, 300], &[1152], [64, 257], 128), "the box 257"),
            (map(4096, [1152, 0], &[1152], [64, 256], 128), "dimension 1 has 0 elements"),
            (map(4096, [1152, 300], &[1152], [32, 256], 128), "rows of the box have 64 bytes"),
            (map(4096, [1152, 300], &[1152], [4, 256], 0), "rows of the box have 8 bytes"),
            (map(4096, [1152, 300], &[1152], [64, 256], 96), "a swizzle of 96 bytes"),
            (map(4096, [1 << 32, 300], &[1152], [64, 256], 128), "dimension 0 has 4294967296 elements"),
        ] {
            let problem = wrong.unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }
}
