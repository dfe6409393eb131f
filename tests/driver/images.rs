//! Images: what loads on which GPU, and the errors for the others.

use super::program::{EXPECTED, image};
use super::raw::{self, SUCCESS};
use super::{alone, compiled, osp};
use cudarc::driver::sys::{self, CUresult};
use osp::cuda::device::entry_points;
use std::fs;

const INVALID_IMAGE: CUresult = CUresult::CUDA_ERROR_INVALID_IMAGE;
const INVALID_PTX: CUresult = CUresult::CUDA_ERROR_INVALID_PTX;
const NO_BINARY: CUresult = CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU;

/// The result of loading an image with the kernel `k`.
fn loads(image: &[u8]) -> CUresult {
    raw::function(image, "k").map_or_else(|refused| refused, |_| SUCCESS)
}

/// PTX with the kernel `k`.
fn ptx(version: &str, target: &str, body: &str) -> Vec<u8> {
    raw::text(&format!(
        ".version {version}\n.target {target}\n.visible .entry k(.param .b64 p)\n{{\n{body}\tret;\n}}\n"
    ))
}

/// An ELF file for CUDA with the kernel `k`, for one architecture. Its static shared memory has 300 bytes.
fn cubin(architecture: u32) -> Vec<u8> {
    const HEADER: usize = 64;
    let names = b"\0.text.k\0.symtab\0.strtab\0.nv.shared.k\0k\0";
    let at = |name: &[u8]| names.windows(name.len()).position(|window| window == name).unwrap() as u64;
    // A symbol: name, a global function, its section, its value and its size.
    let symbol =
        [&(at(b"k\0\0".split_at(2).0) as u32).to_le_bytes()[..], &[0x12, 0, 1, 0], &[0; 8], &8_u64.to_le_bytes()]
            .concat();
    let data = [&[0; 8][..], &[0; 24], &symbol, names].concat();
    let (symbols, strings) = (HEADER + 8, HEADER + 8 + 48);
    // Name, kind, flags, address, offset, size, link, info, alignment, size of an entry.
    let section =
        |name: &[u8], kind: u32, flags: u64, at_byte: usize, size: usize, link: u32, info: u32, entry: u64| {
            let words = [&(at(name) as u32).to_le_bytes()[..], &kind.to_le_bytes()].concat();
            let longs = [flags, 0, at_byte as u64, size as u64].map(u64::to_le_bytes).concat();
            [
                words,
                longs,
                link.to_le_bytes().to_vec(),
                info.to_le_bytes().to_vec(),
                [1, entry].map(u64::to_le_bytes).concat(),
            ]
            .concat()
        };
    let sections = [
        section(b"\0", 0, 0, 0, 0, 0, 0, 0),
        section(b".text.k\0", 1, 6, HEADER, 8, 0, 0, 0),
        section(b".symtab\0", 2, 0, symbols, 48, 3, 1, 24),
        section(b".strtab\0", 3, 0, strings, names.len(), 0, 0, 0),
        section(b".nv.shared.k\0", 8, 3, HEADER, 300, 0, 0, 0),
    ];
    let table = (HEADER + data.len()) as u64;
    let mut header = b"\x7fELF\x02\x01\x01\x41\x08".to_vec();
    header.resize(16, 0);
    header.extend([2_u16, 190].map(u16::to_le_bytes).concat());
    header.extend(1_u32.to_le_bytes());
    header.extend([0, 0, table].map(u64::to_le_bytes).concat());
    header.extend((architecture << 8).to_le_bytes());
    header.extend([64_u16, 56, 0, 64, sections.len() as u16, 3].map(u16::to_le_bytes).concat());
    [header, data, sections.concat()].concat()
}

/// A fat binary of entries: kind (1 PTX, 2 machine code), architecture, flags, and bytes.
fn fat(entries: &[(u16, u32, u64, &[u8])]) -> Vec<u8> {
    let entry = |&(kind, architecture, flags, code): &(u16, u32, u64, &[u8])| {
        let mut header = [kind.to_le_bytes(), 0x101_u16.to_le_bytes()].concat();
        header.extend(64_u32.to_le_bytes());
        header.extend((code.len() as u64).to_le_bytes());
        header.extend([0, 0, 0, architecture, 0, 0].map(u32::to_le_bytes).concat());
        header.extend([flags, 0, code.len() as u64].map(u64::to_le_bytes).concat());
        [&header, code].concat()
    };
    let entries = entries.iter().map(entry).collect::<Vec<_>>().concat();
    let mut image = [0xBA55_ED50_u32.to_le_bytes().to_vec(), vec![1, 0, 16, 0]].concat();
    image.extend((entries.len() as u64).to_le_bytes());
    [image, entries].concat()
}

/// On a GPU of capability 9.0 under a driver for CUDA 12.4.
#[test]
fn every_kind_of_image_loads_or_has_its_error() {
    let body = || {
        raw::open();
        let compute = |target| ptx("8.0", target, "");
        for (image, expected) in [
            (compute("sm_80"), SUCCESS),
            (compute("sm_90a"), SUCCESS),
            (compute("sm_80a"), INVALID_PTX),
            (compute("sm_100"), INVALID_PTX),
            (ptx("8.5", "sm_80", ""), CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION),
            (raw::text(".version 8.0\n.visible .entry k()\n{\n}\n"), INVALID_PTX),
            (ptx("8.0", "sm_80", "{"), INVALID_PTX),
            (ptx("8.0", "sm_80", "}}"), INVALID_PTX),
            (raw::text("BAD image"), INVALID_IMAGE),
            (raw::text(raw::PTX), CUresult::CUDA_ERROR_NOT_FOUND),
            (cubin(90), SUCCESS),
            (cubin(80), NO_BINARY),
            (fat(&[(2, 80, 0, &cubin(80)), (2, 90, 0, &cubin(90))]), SUCCESS),
            (fat(&[(2, 80, 0, &cubin(80)), (1, 80, 0, &compute("sm_80"))]), SUCCESS),
            (fat(&[(2, 80, 0, &cubin(80)), (2, 100, 0, &cubin(100)), (1, 100, 0, &compute("sm_100"))]), NO_BINARY),
            (fat(&[(7, 90, 0, &cubin(90))]), INVALID_IMAGE),
            (fat(&[(2, 90, 0, b"no code.")]), INVALID_IMAGE),
            // Compressed with zstd, it is claimed, and then with LZ4.
            (fat(&[(2, 90, 0x8000, &cubin(90))]), INVALID_IMAGE),
            (fat(&[(2, 90, 0x2000, &cubin(90))]), CUresult::CUDA_ERROR_NOT_SUPPORTED),
        ] {
            assert_eq!(loads(&image), expected, "{}", String::from_utf8_lossy(&image[..40.min(image.len())]));
        }
        let mut damaged = cubin(90);
        damaged[40 + 3] = 0x7F;
        assert_eq!(loads(&fat(&[(2, 90, 0, &damaged)])), INVALID_IMAGE);
        let shifted = [&[0], &cubin(90)[..]].concat();
        assert_eq!(loads(&shifted[1..]), INVALID_IMAGE, "it is not aligned");
        // SAFETY: the call reads no image, and there is room for its result.
        let nothing = unsafe { sys::cuModuleLoadData(&mut std::ptr::null_mut(), std::ptr::null()) };
        assert_eq!(nothing, CUresult::CUDA_ERROR_INVALID_VALUE);
    };
    alone("driver::images::every_kind_of_image_loads_or_has_its_error", "capability=9.0 driver=12.4", body);
}

#[test]
fn shared_memory_of_the_code_is_found() {
    let body = || {
        raw::open();
        let own = |image: &[u8]| {
            let (function, mut bytes) = (raw::function(image, "k").unwrap(), 0);
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
            // SAFETY: the function is loaded, and there is room for the result.
            assert_eq!(unsafe { sys::cuFuncGetAttribute(&mut bytes, attribute, function) }, SUCCESS);
            bytes
        };
        assert_eq!(own(&cubin(90)), 300);
        // A compiler for 9.0 adds 1 KiB for the system.
        let body = "\t.shared .align 4 .b8 a[100];\n\t.shared .u32 b; // .shared .b8 c[9];\n";
        assert_eq!(own(&ptx("8.0", "sm_80", body)), 1024 + 104);
        assert_eq!(own(&ptx("8.0", "sm_80", "")), 1024);
    };
    alone("driver::images::shared_memory_of_the_code_is_found", "capability=9.0", body);
}

/// PTX with a file's kernels, for a driver of this CUDA version or a newer one.
fn replacement(version: &str) -> String {
    let entries = entry_points("finite").unwrap().iter();
    let entries = entries.map(|entry| format!(".visible .entry {entry}(.param .b64 p)\n{{\n\tret;\n}}\n"));
    [format!(".version {version}\n.target sm_80\n")].into_iter().chain(entries).collect()
}

#[test]
fn a_folder_replaces_kernels_or_names_the_file_that_does_not_load() {
    if !compiled() {
        return;
    }
    let (folder, kernels) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = kernels.path().join("finite.ptx");
    let sample = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut command = image(osp(folder.path(), "seed=4"));
        command.env("OSP_KERNELS", kernels.path()).args(["--device", "cuda"]).output().unwrap()
    };
    let output = sample(&replacement("8.0"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("with other kernels: finite "), "{said}");
    assert!(fs::read(folder.path().join("out.y4m")).unwrap() == *EXPECTED);
    let output = sample(&replacement("9.9"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("finite.ptx does not load: the NVIDIA driver says CUDA_ERROR_UNSUPPORTED_PTX_VERSION"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(3));
}

/// The folder's files, each with the end of the program and its error.
#[test]
fn a_file_that_cannot_replace_kernels_is_named() {
    if !compiled() {
        return;
    }
    let (whole, code, text) = (fat(&[(2, 80, 0, &cubin(80))]), cubin(90), replacement("8.0"));
    let other = text.replace("finite_f16", "k");
    let cases: [(&str, &[u8], i32, &str); 8] = [
        ("finite.fatbin", &whole, 3, "does not load: the NVIDIA driver says CUDA_ERROR_NO_BINARY_FOR_GPU"),
        ("finite.fatbin", &whole[..100], 2, "the fat binary is cut off"),
        ("finite.fatbin", &whole[..10], 2, "cut off within its header"),
        ("finite.cubin", &code, 2, "lacks the kernel finite_"),
        ("finite.cubin", &code[..300], 2, "the cubin is damaged"),
        ("finite.ptx", text.trim_end_matches("}\n").as_bytes(), 2, "the PTX is cut off"),
        ("finite.ptx", b"BAD image", 2, "neither a cubin, a fat binary nor PTX"),
        ("finite.ptx", other.as_bytes(), 2, "lacks the kernel finite_f16"),
    ];
    for (name, bytes, code, said) in cases {
        let (folder, kernels) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(kernels.path().join(name), bytes).unwrap();
        let mut command = image(osp(folder.path(), ""));
        let output = command.env("OSP_KERNELS", kernels.path()).args(["--device", "cuda", "--quiet"]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(name) && stderr.contains(said) && stderr.lines().count() == 1, "{said}: {stderr}");
        assert_eq!(output.status.code(), Some(code), "{stderr}");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = image(osp(folder.path(), ""));
    let output = command.env("OSP_KERNELS", "absent").args(["--device", "cuda"]).assert().code(2).get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("OSP_KERNELS is absent, which is not a folder"));
}
