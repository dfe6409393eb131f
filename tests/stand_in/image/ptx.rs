//! PTX: text that the driver compiles.

use super::{Kernels, Refusal, Target, refused};
use crate::card;
use cudarc::driver::sys::CUresult;

/// The PTX version of each CUDA 12 release (PTX ISA, "Release Notes"); that of CUDA 11.x is 7.x, and that of 13.x 9.x.
const OF_CUDA_12: [u32; 10] = [80, 81, 82, 83, 84, 85, 85, 86, 87, 88];

/// The newest PTX version that a driver compiles, times ten.
fn newest((major, minor): (i32, i32)) -> u32 {
    let minor = usize::try_from(minor).unwrap_or_default();
    match major {
        12 => OF_CUDA_12[minor.min(OF_CUDA_12.len() - 1)],
        _ => 10 * (major - 4).max(0) as u32 + minor as u32,
    }
}

/// The words of PTX, without comments. Each mark of punctuation that `entries` reads is one word.
fn words(text: &str) -> Vec<String> {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let apart = |line: &str| {
        ['{', '}', '(', ')', '[', ']', ';', ',']
            .iter()
            .fold(line.to_owned(), |line, &mark| line.replace(mark, &format!(" {mark} ")))
    };
    code.flat_map(|line| apart(line).split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The kernels of PTX, as a driver compiles it.
pub fn kernels(text: &[u8], target: Target) -> Result<Kernels, Refusal> {
    let text = match std::str::from_utf8(text) {
        Ok(text) if text.contains(".version") => text,
        _ => return refused(CUresult::CUDA_ERROR_INVALID_IMAGE, "neither a fat binary, a cubin nor PTX"),
    };
    let words = words(text);
    let behind = |word: &str| words.iter().position(|other| other == word).and_then(|at| words.get(at + 1));
    let version: Option<u32> = behind(".version").and_then(|version| version.replace('.', "").parse().ok());
    let architecture = behind(".target").and_then(|name| name.strip_prefix("sm_")).map(|name| {
        let digits = name.trim_end_matches(|c: char| !c.is_ascii_digit());
        (digits.parse().unwrap_or(u32::MAX), digits.len() < name.len())
    });
    let (Some(version), Some((architecture, specific))) = (version, architecture) else {
        return refused(CUresult::CUDA_ERROR_INVALID_PTX, "ptxas: .version or .target is missing");
    };
    if version > newest(target.driver) {
        let log = format!("ptxas: unsupported .version {}.{}", version / 10, version % 10);
        return refused(CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION, log);
    }
    let here = (10 * target.capability.0 + target.capability.1) as u32;
    if architecture > here || specific && architecture != here {
        return refused(CUresult::CUDA_ERROR_INVALID_PTX, format!("ptxas: .target sm_{architecture} is not this GPU"));
    }
    entries(&words, card::reserved_shared(target.capability))
}

/// The entry points, each with its static shared memory: that of its body plus that of the module.
fn entries(words: &[String], reserved: u32) -> Result<Kernels, Refusal> {
    let (mut kernels, mut common) = (Kernels::new(), reserved);
    let (mut depth, mut current) = (0_u32, None);
    for (at, word) in words.iter().enumerate() {
        match word.as_str() {
            "{" => depth += 1,
            "}" if depth == 0 => return refused(CUresult::CUDA_ERROR_INVALID_PTX, "ptxas: a brace closes nothing"),
            "}" => depth -= 1,
            ".entry" => {
                current = words.get(at + 1).cloned();
                kernels.extend(current.clone().map(|name| (name, 0)));
            }
            ".shared" if at == 0 || words[at - 1] != ".extern" => {
                let bytes = shared(&words[at..]);
                match current.as_ref().filter(|_| depth > 0).and_then(|name| kernels.get_mut(name)) {
                    Some(own) => *own += bytes,
                    None => common += bytes,
                }
            }
            _ => {}
        }
    }
    if depth > 0 {
        return refused(CUresult::CUDA_ERROR_INVALID_PTX, "ptxas: a brace is open at the end");
    }
    kernels.values_mut().for_each(|own| *own += common);
    Ok(kernels)
}

/// Bytes of the variable that `.shared` begins to declare: `.shared .align 4 .b8 name[1024];`.
fn shared(words: &[String]) -> u32 {
    let declared = words.split(|word| word == ";").next().unwrap_or_default();
    let bits =
        declared.iter().find_map(|word| word.strip_prefix(['.'])?.strip_prefix(['b', 'u', 's', 'f'])?.parse().ok());
    let count = declared.iter().position(|word| word == "[").and_then(|at| declared.get(at + 1)?.parse().ok());
    bits.unwrap_or(0) / 8 * count.unwrap_or(1)
}
