//! Copies of boxes against a formula: ranks, swizzles, zeros outside of the tensor, and maps that break a rule.

use super::hopper::{SEEDS, device, download, launch, map, params, upload};
use osp::Result;
use osp::cuda::device::Device;
use osp::cuda::params::TensorMap;

const SHARED: u32 = 48 << 10;
const PLACE: i32 = 1024;

/// A box of a tensor whose element `i` has the value `i + 1`.
struct Case {
    element_bytes: u32,
    sizes: Vec<u32>,
    box_sizes: Vec<u32>,
    at: Vec<i32>,
    swizzle: u32,
}

impl Case {
    /// Shared memory after the copy, by the formula.
    fn expected(&self) -> Vec<u8> {
        let bytes = self.element_bytes as usize;
        let elements = self.box_sizes.iter().product::<u32>();
        let mut shared = vec![0; elements as usize * bytes];
        for element in 0..elements {
            let linear = element as usize * bytes;
            let mixed = match self.swizzle {
                0 => 0,
                swizzle => linear >> 7 & (swizzle as usize / 16 - 1),
            };
            let value = self.value(element).to_le_bytes();
            shared[linear ^ mixed << 4..][..bytes].copy_from_slice(&value[..bytes]);
        }
        shared
    }

    /// The element of the tensor at a place in the box, or 0.
    fn value(&self, mut element: u32) -> u32 {
        let (mut index, mut stride) = (0, 1);
        for i in 0..self.sizes.len() {
            let place = self.at[i] + (element % self.box_sizes[i]) as i32;
            element /= self.box_sizes[i];
            if !(0..self.sizes[i] as i32).contains(&place) {
                return 0;
            }
            index += stride * place as u32;
            stride *= self.sizes[i];
        }
        index + 1
    }

    fn found(&self, seed: u64) -> Result<Vec<u8>> {
        let values: Vec<u32> = (1..=self.sizes.iter().product::<u32>()).collect();
        let bytes: Vec<u8> =
            values.iter().flat_map(|value| value.to_le_bytes()[..self.element_bytes as usize].to_vec()).collect();
        copied(&bytes, self.sizes.len(), PLACE, seed, &self.at, self.expected().len(), &|x| {
            map(x, self.element_bytes, &self.sizes, &self.box_sizes, self.swizzle)
        })
    }
}

/// Copies `count` bytes of x, or a box of it if it has a rank, to `place`.
fn copied(
    x: &[u8],
    rank: usize,
    place: i32,
    seed: u64,
    at: &[i32],
    count: usize,
    map: &dyn Fn(&dyn osp::cuda::device::Memory) -> TensorMap,
) -> Result<Vec<u8>> {
    let device = device(seed);
    let x = upload(&device, x);
    let out = device.alloc(count.max(4))?;
    let mut numbers = [0; 7];
    numbers[..at.len()].copy_from_slice(at);
    numbers[5..].copy_from_slice(&[count as i32, place]);
    let address = x.address() + if rank == 0 { at[0] as u64 } else { 0 };
    let params = params(&[map(&*x)], &[address, out.address()], &numbers);
    let kernel = if rank == 0 { "hopper_copy_bytes".to_owned() } else { format!("hopper_copy_{rank}") };
    launch(&device, &kernel, [1, 32, SHARED], &params)?;
    Ok(download(&device, &*out))
}

#[test]
fn boxes_have_their_swizzle_and_zeros_outside_of_the_tensor() {
    let sizes = [72, 12, 6, 5, 3];
    let places = [
        [[0, 0, 0, 0, 0], [64, 3, 1, 1, 1], [-8, -2, 2, -1, 0]],
        [[-3, 5, -1, 3, 2], [71, 11, 5, 4, 2], [-70, 0, 0, 0, 0]],
    ];
    for rank in 2..=5 {
        for (element_bytes, swizzle) in [(2, 0), (2, 32), (2, 64), (2, 128), (4, 0), (4, 32), (4, 64), (4, 128)] {
            let width = if swizzle == 0 { 24 } else { swizzle / element_bytes };
            for (seed, at) in places.as_flattened().iter().enumerate() {
                let case = Case {
                    element_bytes,
                    sizes: sizes[..rank].to_vec(),
                    box_sizes: [width, 9, 3, 2, 2][..rank].to_vec(),
                    at: at[..rank].to_vec(),
                    swizzle,
                };
                let found = case.found(seed as u64).unwrap();
                assert!(found == case.expected(), "rank {rank}, {element_bytes} bytes, swizzle {swizzle}, at {at:?}");
            }
        }
    }
}

#[test]
fn plain_bytes_are_copied() {
    let bytes: Vec<u8> = (0..4096).map(|i| (i * 7 % 251) as u8).collect();
    let run = |offset: i32, count: usize, place, seed| {
        copied(&bytes, 0, place, seed, &[offset], count, &|x| map(x, 2, &[8, 8], &[8, 8], 0))
    };
    for seed in SEEDS {
        assert_eq!(run(32, 2032, 1040, seed).unwrap(), bytes[32..32 + 2032], "seed {seed}");
    }
    let refused = |offset, count, place, text: &str| {
        let error = run(offset, count, place, 0).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    refused(32, 24, 1040, "load_bytes of 24 bytes");
    refused(8, 32, 1040, "not a multiple of 16 bytes");
    refused(32, 32, 1032, "not a multiple of 16 bytes");
    refused(4080, 32, 1040, "outside of the launch's buffers");
    refused(0, 4096, SHARED as i32 - 2048, "outside of shared memory");
}

#[test]
fn maps_and_places_that_break_a_rule_are_errors() {
    let refused = |change: &dyn Fn(&mut TensorMap), place, text: &str| {
        let made = |x: &dyn osp::cuda::device::Memory| {
            let mut map = map(x, 2, &[64, 32], &[32, 8], 64);
            change(&mut map);
            map
        };
        let error = copied(&[0; 4096], 2, place, 0, &[0, 0], 512, &made).unwrap_err().to_string();
        assert!(error.contains("hopper_copy_2") && error.contains(text), "{error}");
    };
    let third = |map: &mut TensorMap| (map.rank, map.sizes[2], map.box_sizes[2]) = (3, 1, 1);
    refused(&third, PLACE, "its rank is not the instruction's");
    refused(&|map| map.element_bytes = 1, PLACE, "its elements have not 2 or 4 bytes");
    refused(&|map| map.address.0 += 8, PLACE, "its address is no multiple of 16");
    refused(&|map| map.strides[0] += 8, PLACE, "a stride is no multiple of 16");
    refused(&|map| map.sizes[1] = 0, PLACE, "a dimension is empty");
    refused(&|map| map.box_sizes[1] = 257, PLACE, "the box has not 1 to 256 elements");
    refused(&|map| map.box_sizes[0] = 4, PLACE, "a row of the box is no multiple of 16 bytes");
    refused(&|map| map.swizzle = 48, PLACE, "its swizzle is unknown");
    refused(&|map| map.swizzle = 128, PLACE, "a row of the box has not the swizzle's bytes");
    refused(&|map| map.strides[0] = 1024, PLACE, "outside of the launch's buffers");
    refused(&|_| (), PLACE + 128, "not a multiple of 512 bytes");
    refused(&|map| map.swizzle = 0, PLACE + 64, "not a multiple of 128 bytes");
    refused(&|_| (), SHARED as i32, "outside of shared memory");
}
