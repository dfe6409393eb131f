//! Fat binaries: a header, and an entry for each architecture, with machine code or PTX. nvcc compresses the entries.

use super::{Kernels, Refusal, Target, cubin, ptx, refused, runs};
use cudarc::driver::sys::CUresult;
use ruzstd::decoding::StreamingDecoder;
use std::io::Read;

pub const MAGIC: [u8; 4] = 0xBA55_ED50_u32.to_le_bytes();
/// Bytes of the header: magic, version, its own size, and the bytes of all entries.
const HEADER: usize = 16;
/// Bytes of an entry's header that this code reads.
const ENTRY_HEADER: usize = 64;
/// Flags of an entry: its code is for one architecture only; it is compressed, with one of two methods.
const SPECIFIC: u64 = 0x10_0000;
const ZSTD: u64 = 0x8000;
const LZ4: u64 = 0x2000;

/// What an entry holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ptx,
    Machine,
}

/// An entry of a fat binary.
struct Entry<'a> {
    kind: Kind,
    architecture: u32,
    flags: u64,
    /// The bytes as they are stored.
    stored: &'a [u8],
    /// Bytes after decompression.
    size: usize,
}

/// The kernels of the fat binary at `image`: of the newest machine code that the GPU runs, else of the newest PTX.
///
/// # Safety
/// The image is as long as its header says.
pub unsafe fn load(image: *const u8, target: Target) -> Result<Kernels, Refusal> {
    // SAFETY: it begins with the magic number, so it has a header, and the caller vouches for its length.
    let bytes = unsafe {
        let header = std::slice::from_raw_parts(image, HEADER);
        let size = usize::try_from(word::<8>(header, 8).unwrap_or_default()).unwrap_or_default();
        std::slice::from_raw_parts(image.add(HEADER), size)
    };
    let Some(entries) = entries(bytes) else {
        return refused(CUresult::CUDA_ERROR_INVALID_IMAGE, "the entries of the fat binary are damaged");
    };
    let specific = |entry: &Entry<'_>| entry.flags & SPECIFIC != 0;
    let machine = |entry: &&Entry<'_>| {
        entry.kind == Kind::Machine && runs(entry.architecture, specific(entry), target.capability)
    };
    let compiled = |entry: &&Entry<'_>| {
        let newest = (10 * target.capability.0 + target.capability.1) as u32;
        let exact = !specific(entry) || entry.architecture == newest;
        entry.kind == Kind::Ptx && entry.architecture <= newest && exact
    };
    let newest = |entry: &&Entry<'_>| entry.architecture;
    let best = entries.iter().filter(machine).max_by_key(newest);
    match best.or_else(|| entries.iter().filter(compiled).max_by_key(newest)) {
        Some(entry) => entry.kernels(target),
        None => refused(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU, "the fat binary has no code for this GPU"),
    }
}

/// A little-endian number of `N` bytes.
fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut word = [0; 8];
    word[..N].copy_from_slice(bytes.get(at..at + N)?);
    Some(u64::from_le_bytes(word))
}

/// The entries; `None` if one of them is damaged.
fn entries(mut bytes: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let kind = match word::<2>(bytes, 0)? {
            1 => Kind::Ptx,
            2 => Kind::Machine,
            _ => return None,
        };
        let header = usize::try_from(word::<4>(bytes, 4)?).ok().filter(|&size| size >= ENTRY_HEADER)?;
        let padded = usize::try_from(word::<8>(bytes, 8)?).ok()?;
        let flags = word::<8>(bytes, 40)?;
        let compressed = flags & (ZSTD | LZ4) != 0;
        let stored = if compressed { word::<4>(bytes, 16)? as usize } else { padded };
        entries.push(Entry {
            kind,
            architecture: word::<4>(bytes, 28)? as u32,
            flags,
            stored: bytes.get(header..header.checked_add(stored.min(padded))?)?,
            size: usize::try_from(word::<8>(bytes, 56)?).ok()?,
        });
        bytes = bytes.get(header.checked_add(padded)?..)?;
    }
    Some(entries)
}

impl Entry<'_> {
    fn kernels(&self, target: Target) -> Result<Kernels, Refusal> {
        let code = self.code()?;
        match self.kind {
            Kind::Machine => cubin::kernels(&code),
            Kind::Ptx => ptx::kernels(code.split(|&byte| byte == 0).next().unwrap_or_default(), target),
        }
    }

    /// The entry's bytes, decompressed.
    fn code(&self) -> Result<Vec<u8>, Refusal> {
        if self.flags & LZ4 != 0 {
            return Err(Refusal {
                code: crate::state::not_modelled("a fat binary that LZ4 compresses"),
                log: String::new(),
            });
        }
        if self.flags & ZSTD == 0 {
            return Ok(self.stored.to_vec());
        }
        let mut code = Vec::new();
        let read = StreamingDecoder::new(self.stored).map(|mut decoder| decoder.read_to_end(&mut code));
        match read {
            Ok(Ok(_)) if code.len() == self.size => Ok(code),
            _ => refused(CUresult::CUDA_ERROR_INVALID_IMAGE, "an entry of the fat binary cannot be decompressed"),
        }
    }
}
