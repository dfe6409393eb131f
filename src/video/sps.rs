//! H.264 sequence parameter sets: whether a stream can be decoded here, and what its colours mean (ITU-T H.264, 7.3.2.1.1
//! and E.1.1).

use super::yuv::{Colour, Matrix};

/// What decoding to RGB needs to know of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sps {
    /// Size before cropping.
    pub width: usize,
    /// Size before cropping.
    pub height: usize,
    /// 0 mono, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u32,
    /// Bits of the deeper of luma and chroma.
    pub bit_depth: u32,
    /// False if frames may be coded as two fields.
    pub progressive: bool,
    /// As flagged, or as is usual for the size. None for matrices other than BT.601's and BT.709's.
    pub colour: Option<Colour>,
}

/// Profiles whose parameter sets have fields for chroma format, bit depth and scaling lists.
const HIGH_PROFILES: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

impl Sps {
    /// Reads a NAL unit of type 7, its header byte included. None if it is damaged.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        let payload = unescape(nal.get(1..)?);
        let mut bits = Bits { bytes: &payload, at: 0 };
        let profile = bits.take(8)?;
        bits.take(16)?; // constraint flags, level
        bits.unsigned()?; // id
        let (mut chroma_format, mut bit_depth) = (1, 8);
        if HIGH_PROFILES.contains(&profile) {
            (chroma_format, bit_depth) = high_profile(&mut bits)?;
        }
        picture_order(&mut bits)?;
        bits.unsigned()?; // reference frames
        bits.take(1)?; // gaps in frame numbers
        let (columns, rows) = (bits.unsigned()?.checked_add(1)?, bits.unsigned()?.checked_add(1)?);
        let progressive = bits.flag()?;
        if !progressive {
            bits.take(1)?; // fields per macroblock
        }
        bits.take(1)?; // direct inference
        if bits.flag()? {
            for _edge in 0..4 {
                bits.unsigned()?;
            }
        }
        let width = columns.checked_mul(16)? as usize;
        let height = rows.checked_mul(if progressive { 16 } else { 32 })? as usize;
        let flagged =
            if bits.flag()? { colour(&mut bits)? } else { Flagged { full_range: false, matrix: UNSPECIFIED } };
        let colour = flagged.colour(height);
        Some(Self { width, height, chroma_format, bit_depth, progressive, colour })
    }
}

/// (chroma format, bit depth); steps over the scaling lists.
fn high_profile(bits: &mut Bits) -> Option<(u32, u32)> {
    let chroma_format = bits.unsigned()?;
    if chroma_format == 3 {
        bits.take(1)?; // planes coded apart
    }
    let bit_depth = bits.unsigned()?.max(bits.unsigned()?).checked_add(8)?;
    bits.take(1)?; // lossless bypass
    if bits.flag()? {
        for list in 0..if chroma_format == 3 { 12 } else { 8 } {
            if bits.flag()? {
                scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some((chroma_format, bit_depth))
}

fn scaling_list(bits: &mut Bits, size: usize) -> Option<()> {
    let mut last = 8i64;
    for _ in 0..size {
        last = (last + bits.signed()?).rem_euclid(256);
        if last == 0 {
            break; // the rest repeats the last
        }
    }
    Some(())
}

/// Steps over the fields on frame numbers and picture order.
fn picture_order(bits: &mut Bits) -> Option<()> {
    bits.unsigned()?; // size of frame numbers
    match bits.unsigned()? {
        0 => drop(bits.unsigned()?),
        1 => {
            bits.take(1)?;
            bits.signed()?;
            bits.signed()?;
            for _ in 0..bits.unsigned()?.min(255) {
                bits.signed()?;
            }
        }
        _ => {}
    }
    Some(())
}

/// The value of `matrix_coefficients` that says nothing.
const UNSPECIFIED: u32 = 2;

struct Flagged {
    full_range: bool,
    matrix: u32,
}

impl Flagged {
    fn colour(&self, height: usize) -> Option<Colour> {
        let matrix = match self.matrix {
            1 => Matrix::Bt709,
            5 | 6 => Matrix::Bt601,
            // What players assume: high definition starts above PAL's 576 lines.
            UNSPECIFIED => {
                if height > 576 {
                    Matrix::Bt709
                } else {
                    Matrix::Bt601
                }
            }
            _ => return None,
        };
        Some(Colour { matrix, full_range: self.full_range })
    }
}

/// Reads the usability information up to the colour description.
fn colour(bits: &mut Bits) -> Option<Flagged> {
    let mut flagged = Flagged { full_range: false, matrix: UNSPECIFIED };
    const EXTENDED_ASPECT: u32 = 255;
    if bits.flag()? && bits.take(8)? == EXTENDED_ASPECT {
        bits.take(32)?;
    }
    if bits.flag()? {
        bits.take(1)?; // overscan
    }
    if bits.flag()? {
        bits.take(3)?; // video format
        flagged.full_range = bits.flag()?;
        if bits.flag()? {
            bits.take(16)?; // primaries, transfer
            flagged.matrix = bits.take(8)?;
        }
    }
    Some(flagged)
}

/// Removes the 3 that keeps payloads free of start codes: 0, 0, 3 stands for 0, 0.
fn unescape(nal: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Bits, most significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    /// An unsigned Exp-Golomb number.
    fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        if zeros > 31 {
            return None;
        }
        Some((1u32 << zeros) - 1 + self.take(zeros)?)
    }

    /// A signed Exp-Golomb number.
    fn signed(&mut self) -> Option<i64> {
        let code = i64::from(self.unsigned()?);
        Some(if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) })
    }
}
