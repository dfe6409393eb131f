//! Machine code: an ELF file (a cubin).

use super::{Kernels, Refusal, Target, refused, runs};
use cudarc::driver::sys::CUresult;
use object::elf::{self, FileHeader64};
use object::read::elf::{ElfFile64, FileHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SymbolKind};

pub const MAGIC: [u8; 4] = elf::ELFMAG;
/// The version of the ABI from which on the second byte of the header's flags is the architecture.
const SECOND_BYTE_SINCE: u8 = 8;

/// The kernels of the cubin at `image`.
///
/// # Safety
/// The cubin is as long as its header says: section headers or program headers come last.
pub unsafe fn load_at(image: *const u8, target: Target) -> Result<Kernels, Refusal> {
    // SAFETY: it begins with ELF's magic number, so it has a header, and the caller vouches for its length.
    let bytes = unsafe {
        let header = std::slice::from_raw_parts(image, size_of::<FileHeader64<Endianness>>());
        let length = FileHeader64::<Endianness>::parse(header).map_or(header.len(), length);
        std::slice::from_raw_parts(image, length)
    };
    let runs_here = architecture(bytes).is_none_or(|architecture| runs(architecture, false, target.capability));
    if !runs_here {
        return refused(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU, "the cubin is for another architecture");
    }
    kernels(bytes)
}

/// The end of the tables that an ELF header names.
fn length(header: &FileHeader64<Endianness>) -> usize {
    let endian = Endianness::Little;
    let end = |start: u64, count: u16, size: u16| start.saturating_add(u64::from(count) * u64::from(size));
    let sections = end(header.e_shoff(endian), header.e_shnum(endian), header.e_shentsize(endian));
    let programs = end(header.e_phoff(endian), header.e_phnum(endian), header.e_phentsize(endian));
    sections.max(programs) as usize
}

/// The architecture in the header's flags, such as 90; `None` if there is no header.
fn architecture(bytes: &[u8]) -> Option<u32> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let shift = if header.e_ident().abi_version >= SECOND_BYTE_SINCE { 8 } else { 0 };
    Some(header.e_flags(Endianness::Little).0 >> shift & 0xFF)
}

/// The kernels of a cubin: its global functions. The section `.nv.shared.NAME` is a kernel's own shared memory.
pub fn kernels(bytes: &[u8]) -> Result<Kernels, Refusal> {
    let invalid = |what: &str| refused(CUresult::CUDA_ERROR_INVALID_IMAGE, format!("the cubin is damaged: {what}"));
    let file = match ElfFile64::<Endianness>::parse(bytes) {
        Ok(file) if file.elf_header().e_machine(Endianness::Little) == elf::EM_CUDA => file,
        Ok(_) => return invalid("it is for another machine"),
        Err(error) => return invalid(&error.to_string()),
    };
    if let Some(error) = file.sections().find_map(|section| section.data().err()) {
        return invalid(&error.to_string());
    }
    let shared = |name: &str| {
        let section = file.section_by_name(&format!(".nv.shared.{name}"));
        section.map_or(0, |section| section.size() as u32)
    };
    let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition());
    let names = functions.filter(ObjectSymbol::is_global).filter_map(|symbol| symbol.name().ok());
    Ok(names.map(|name| (name.to_owned(), shared(name))).collect())
}
