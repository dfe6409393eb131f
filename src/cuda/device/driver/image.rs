//! Reads the names of a file's kernels without a driver. The file is machine code for one architecture (a cubin, which
//! is an ELF file), a fat binary, or PTX.

use object::elf::ELFMAG;
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// The magic number of a fat binary, and the bytes of its header.
const FAT: [u8; 4] = 0xba55_ed50_u32.to_le_bytes();
const FAT_HEAD: usize = 16;

/// The entry points of a complete image; `None` for a fat binary, which compresses them.
///
/// # Errors
/// A message if the bytes are not an image, or are cut off or damaged.
pub(super) fn entry_points(image: &[u8]) -> Result<Option<Vec<String>>, String> {
    if image.starts_with(&ELFMAG) {
        return of_cubin(image).map(Some).map_err(|error| format!("the cubin is damaged: {error}; compile it again"));
    }
    if image.starts_with(&FAT) {
        return whole_fat_binary(image).map(|()| None);
    }
    match std::str::from_utf8(image) {
        Ok(text) if text.lines().any(|line| line.starts_with(".version")) => of_ptx(text).map(Some),
        _ => Err("the file is neither a cubin, a fat binary nor PTX; nvcc -cubin makes one".to_owned()),
    }
}

/// The global functions of a cubin, once every section was found in the file.
fn of_cubin(image: &[u8]) -> object::Result<Vec<String>> {
    let file = ElfFile64::<object::Endianness>::parse(image)?;
    file.sections().try_for_each(|section| section.data().map(drop))?;
    let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition());
    functions.filter(ObjectSymbol::is_global).map(|symbol| Ok(symbol.name()?.to_owned())).collect()
}

/// Checks a fat binary's length: its header says how many bytes follow.
fn whole_fat_binary(image: &[u8]) -> Result<(), String> {
    let size = image.get(8..FAT_HEAD).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    let found = image.len().saturating_sub(FAT_HEAD) as u64;
    match size {
        Some(size) if size <= found => Ok(()),
        Some(size) => Err(format!("the fat binary is cut off: {found} of {size} bytes are there; compile it again")),
        None => Err("the fat binary is cut off within its header; compile it again".to_owned()),
    }
}

/// The names behind each `.entry` of PTX.
fn of_ptx(text: &str) -> Result<Vec<String>, String> {
    let code = || text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let count = |brace: char| code().flat_map(str::chars).filter(|&character| character == brace).count();
    if count('{') != count('}') {
        return Err("the PTX is cut off: a brace is open at its end; compile it again".to_owned());
    }
    let names = code().filter_map(|line| line.split_once(".entry")).map(|(_, name)| name.trim_start());
    Ok(names
        .map(|name| name.split(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default().to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::device::driver::compiled::FILES;

    fn problem(image: &[u8]) -> String {
        entry_points(image).unwrap_err()
    }

    #[test]
    fn ptx_is_read_line_by_line() {
        let ptx =
            ".version 9.0\n// .entry none(\n.visible .entry a(\n\t.param .b64 p // }\n)\n{\n}\n.entry b\n{ { } }\n";
        assert_eq!(entry_points(ptx.as_bytes()).unwrap().unwrap(), ["a", "b"]);
        let cut = &ptx[..ptx.len() - 3];
        assert!(problem(cut.as_bytes()).contains("a brace is open"), "{cut}");
        for other in ["", ".entry a()\n{}\n", "PK\u{3}\u{4}"] {
            assert!(problem(other.as_bytes()).contains("neither"), "{other}");
        }
        assert!(problem(&[b".version 9.0\n", &[0xFF; 8][..]].concat()).contains("neither"));
    }

    #[test]
    fn a_fat_binary_is_as_long_as_its_header_says() {
        let mut image = [FAT.as_slice(), &[1, 0, 16, 0], &8_u64.to_le_bytes(), &[7; 8]].concat();
        assert_eq!(entry_points(&image), Ok(None));
        image.pop();
        assert!(problem(&image).contains("7 of 8 bytes"));
        assert!(problem(&image[..15]).contains("within its header"));
        for image in FILES.iter().filter_map(|file| file.image) {
            assert_eq!(entry_points(image), Ok(None));
            assert!(problem(&image[..image.len() / 2]).contains("cut off"));
        }
    }

    /// Reads the test program, because every ELF file is read as a cubin is.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_cubin_shows_its_global_functions_unless_it_is_damaged() {
        let image = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(entry_points(&image).unwrap().unwrap().contains(&"main".to_owned()));
        for len in [5, 100, image.len() / 2, image.len() - 1] {
            assert!(problem(&image[..len]).contains("the cubin is damaged"), "{len} bytes");
        }
    }
}
