//! H.264 sequence parameter sets: whether a stream can be decoded here, and how it is to be shown (ITU-T H.264, 7.3.2.1.1
//! and E.1.1).

use super::tags::Tags;

/// What decoding to RGB needs to know of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sps {
    /// `profile_idc`.
    pub profile: u32,
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
    /// Flags of its colours.
    pub tags: Tags,
    /// Width to height of a pixel, if it is said.
    pub aspect: Option<(u32, u32)>,
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
        let (aspect, tags) = if bits.flag()? { usability(&mut bits)? } else { (None, Tags::NONE) };
        Some(Self { profile, width, height, chroma_format, bit_depth, progressive, tags, aspect })
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

/// Widths to heights of pixels by `aspect_ratio_idc`, from 1.
const ASPECTS: [(u32, u32); 16] = [
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];

/// Reads the usability information up to the colour description.
fn usability(bits: &mut Bits) -> Option<(Option<(u32, u32)>, Tags)> {
    const EXTENDED_ASPECT: u32 = 255;
    let (mut aspect, mut tags) = (None, Tags::NONE);
    if bits.flag()? {
        aspect = match bits.take(8)? {
            EXTENDED_ASPECT => Some((bits.take(16)?, bits.take(16)?)),
            index => (index as usize).checked_sub(1).and_then(|index| ASPECTS.get(index).copied()),
        };
    }
    if bits.flag()? {
        bits.take(1)?; // overscan
    }
    if bits.flag()? {
        bits.take(3)?; // video format
        tags.full_range = Some(bits.flag()?);
        if bits.flag()? {
            (tags.primaries, tags.transfer, tags.matrix) = (bits.take(8)?, bits.take(8)?, bits.take(8)?);
        }
    }
    Some((aspect, tags))
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
