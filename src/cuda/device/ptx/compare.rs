//! A launch on the emulator and on the PTX machine, from the same memory, with the bits of all buffers compared.

use crate::cuda::device::emulated::Region;
use crate::cuda::device::{Device, Emulated, Launch};
use crate::cuda::params::Addresses;
use crate::error::Result;

/// Runs a launch on the emulator, then, from the same memory, by `machine`, whose results stay.
///
/// # Errors
/// Those of both; a byte that differs.
pub fn both(
    launch: &Launch<'_>,
    regions: &[Region],
    emulated: &Emulated,
    machine: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let before: Vec<Vec<u8>> = regions.iter().map(bytes).collect();
    emulated.launch(launch)?;
    let expected: Vec<Vec<u8>> = regions.iter().map(bytes).collect();
    for (region, before) in regions.iter().zip(&before) {
        restore(region, before);
    }
    machine()?;
    for (region, expected) in regions.iter().zip(&expected) {
        let found = bytes(region);
        if let Some(at) = difference(&found, expected) {
            let word = |bytes: &[u8]| {
                bytes[at..(at + 4).min(bytes.len())].iter().rev().map(|b| format!("{b:02x}")).collect::<String>()
            };
            let (name, found, expected) = (name(launch, region), word(&found), word(expected));
            return Err(launch.error(format!(
                "the word at byte {at} of the buffer {name} is {found} by its PTX, and {expected} on the emulator"
            )));
        }
    }
    Ok(())
}

/// The field of the parameters that points into a region.
fn name(launch: &Launch<'_>, region: &Region) -> String {
    let addresses = Addresses::among(launch.fields);
    let holds = |address: u64| (region.start as u64..region.start as u64 + region.bytes).contains(&address);
    let named = addresses.read(launch.params).find(|&(_, address)| holds(address));
    named.map_or_else(|| "without a name".to_owned(), |(name, _)| name.to_owned())
}

/// The first word that differs. An f32 that is NaN may have other bits: PTX has one NaN, and the host several.
fn difference(found: &[u8], expected: &[u8]) -> Option<usize> {
    let word = |bytes: &[u8]| -> Option<u32> { Some(u32::from_le_bytes(bytes.try_into().ok()?)) };
    let pairs = found.chunks(4).zip(expected.chunks(4));
    let same = |(found, expected): (&[u8], &[u8])| {
        let nan = |bits: u32| f32::from_bits(bits).is_nan();
        let canonical = word(found) == Some(0x7FFF_FFFF);
        found == expected || canonical && word(expected).is_some_and(nan)
    };
    pairs.into_iter().position(|pair| !same(pair)).map(|number| 4 * number)
}

fn bytes(region: &Region) -> Vec<u8> {
    // SAFETY: `Emulated::regions` made the region from a buffer, or a range of one, which the caller of the launch
    // keeps until the launch ends. No kernel of this launch runs now, so nobody writes to it.
    unsafe { std::slice::from_raw_parts(region.start as *const u8, region.bytes as usize) }.to_vec()
}

fn restore(region: &Region, before: &[u8]) {
    // SAFETY: as above. `before` are the region's bytes, so they fit, and lie in memory of their own. Nobody has a
    // reference into the buffer during a launch, because kernels write to it.
    unsafe { std::ptr::copy_nonoverlapping(before.as_ptr(), region.start as *mut u8, before.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_differ_unless_both_are_nan() {
        let bytes = |words: [u32; 2]| words.map(u32::to_le_bytes).concat();
        let canonical = bytes([1, 0x7FFF_FFFF]);
        assert_eq!(difference(&canonical, &bytes([1, 0xFFC0_0000])), None);
        assert_eq!(difference(&bytes([1, 0xFFC0_0000]), &canonical), Some(4));
        assert_eq!(difference(&canonical, &bytes([0, 0x7FFF_FFFF])), Some(0));
        assert_eq!(difference(&canonical[..5], &[1, 0, 0, 0, 0xFE]), Some(4));
    }
}
