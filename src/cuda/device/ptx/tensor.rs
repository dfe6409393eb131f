//! Boxes of tensors, in global and in shared memory. PTX ISA 9.0, section 5.5.

use crate::cuda::params::TensorMap;

/// A box of a tensor.
#[derive(Clone, Debug)]
pub struct Boxed {
    map: TensorMap,
    at: [i64; 5],
}

/// The map with these bytes.
///
/// # Errors
/// A message if no copy can use it.
pub fn map(bytes: &[u8]) -> Result<TensorMap, String> {
    let map: TensorMap = bytemuck::pod_read_unaligned(bytes);
    map.check().map(|()| map).map_err(|problem| format!("the tensor map: {problem}"))
}

/// The part of a row of a box that lies in the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its offset in the box, before the swizzle.
    pub offset: usize,
    /// Its address in global memory.
    pub address: u64,
    pub bytes: usize,
}

impl Boxed {
    /// The box at these coordinates. `map`: the bytes of a [`TensorMap`].
    ///
    /// # Errors
    /// A message if no copy can use the map, or if it has another number of dimensions.
    pub fn new(map: &[u8], at: &[i32]) -> Result<Self, String> {
        let map = self::map(map)?;
        if map.rank as usize != at.len() {
            return Err(format!("{} coordinates in a tensor map of {} dimensions", at.len(), map.rank));
        }
        let mut whole = [0; 5];
        whole.iter_mut().zip(at).for_each(|(whole, &at)| *whole = at.into());
        Ok(Self { map, at: whole })
    }

    /// Bytes of the box.
    pub fn bytes(&self) -> usize {
        self.map.box_bytes() as usize
    }

    /// The alignment of the box in shared memory.
    pub fn alignment(&self) -> usize {
        (8 * self.map.swizzle as usize).max(128)
    }

    /// Whether all coordinates are positive or zero.
    pub fn is_storable(&self) -> bool {
        self.at.iter().all(|&at| at >= 0)
    }

    /// The rows that lie in the tensor, at least in part.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let Self { map, at } = self;
        let (element, side) = (i64::from(map.element_bytes), i64::from(map.box_sizes[0]));
        let (start, end) = (at[0].max(0), (at[0] + side).min(map.sizes[0].into()));
        let rank = map.rank as usize;
        let count = map.box_sizes[1..rank].iter().product::<u32>();
        (0..count).filter(move |_| start < end).filter_map(move |number| {
            let (mut rest, mut address) = (number, map.address.0.wrapping_add_signed(start * element));
            let sizes = map.sizes.iter().zip(&map.box_sizes).zip(at).take(rank).skip(1);
            for (((&size, &sides), &at), stride) in sizes.zip(&map.strides) {
                let place = at + i64::from(rest % sides);
                rest /= sides;
                if !(0..i64::from(size)).contains(&place) {
                    return None;
                }
                address += place as u64 * stride;
            }
            let offset = (i64::from(number) * side + start - at[0]) * element;
            Some(Row { offset: offset as usize, address, bytes: ((end - start) * element) as usize })
        })
    }

    /// The box with its pieces of 16 bytes exchanged as in shared memory, or exchanged back.
    pub fn swizzled(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0; bytes.len()];
        for (number, piece) in bytes.chunks_exact(16).enumerate() {
            let to = swizzled(16 * number as u32, self.map.swizzle) as usize;
            out[to..to + 16].copy_from_slice(piece);
        }
        out
    }
}

/// The address to which a swizzle of `width` bytes moves the byte at a shared address; the same in the other direction.
pub fn swizzled(address: u32, width: u32) -> u32 {
    let mixed = (width / 16).saturating_sub(1);
    address ^ ((address >> 7 & mixed) << 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::params::Address;

    fn boxed(at: [i32; 3]) -> Boxed {
        let map = TensorMap::new(Address(4096), [20, 3, 2], &[24, 72], [8, 2, 2], 0).unwrap();
        Boxed::new(bytemuck::bytes_of(&map), &at).unwrap()
    }

    #[test]
    fn rows_are_cut_at_the_ends_of_the_tensor() {
        let rows = |at| boxed(at).rows().collect::<Vec<_>>();
        let row = |offset, address, bytes| Row { offset, address, bytes };
        let whole = [row(0, 4096, 16), row(16, 4144, 16), row(32, 4240, 16), row(48, 4288, 16)];
        assert_eq!(rows([0, 0, 0]), whole);
        // The first two columns, the last row and the first frame lie outside.
        assert_eq!(rows([-2, 2, -1]), [row(36, 4096 + 96, 12)]);
        assert_eq!(rows([18, 0, 1]), [row(0, 4096 + 144 + 36, 4), row(16, 4096 + 144 + 36 + 48, 4)]);
        assert_eq!(rows([20, 0, 0]), []);
        assert!(boxed([0, 1, 2]).is_storable() && !boxed([0, -1, 2]).is_storable());
    }

    #[test]
    fn swizzles_mix_pieces_by_bits_7_to_9() {
        let of = |width| [0x3F0, 0x390, 0x080, 0x010].map(|at| swizzled(at, width));
        assert_eq!(of(0), [0x3F0, 0x390, 0x080, 0x010]);
        assert_eq!(of(32), [0x3E0, 0x380, 0x090, 0x010]);
        assert_eq!(of(64), [0x3C0, 0x3A0, 0x090, 0x010]);
        assert_eq!(of(128), [0x380, 0x3E0, 0x090, 0x010]);
    }

    #[test]
    fn maps_must_fit_the_instruction() {
        let map = TensorMap::new(Address(4096), [64, 9], &[64], [64, 8], 128).unwrap();
        let bytes = bytemuck::bytes_of(&map);
        let problem = Boxed::new(bytes, &[0, 0, 0]).unwrap_err();
        assert!(problem.contains("3 coordinates in a tensor map of 2 dimensions"), "{problem}");
        let found = Boxed::new(bytes, &[0, 0]).unwrap();
        assert_eq!((found.bytes(), found.alignment()), (1024, 1024));
        let mut wrong = map;
        wrong.swizzle = 64;
        assert!(Boxed::new(bytemuck::bytes_of(&wrong), &[0, 0]).unwrap_err().contains("swizzle"));
    }
}
