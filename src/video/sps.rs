//! H.264 sequence parameter sets: whether a stream can be decoded here, and how to show it (ITU-T H.264, 7.3.2.1.1 and
//! E.1.1).
//!
//! Reading ends after the colours: the later fields are often wrong, and players show such streams. docs/formats.md
//! names the crates that could do it, and what each lacks.

use super::tags::Tags;

/// The fields of a stream that decoding to RGB needs.
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
    /// The colour flags.
    pub tags: Tags,
    /// The pixel aspect ratio, width to height, if the stream has one.
    pub aspect: Option<(u32, u32)>,
}

/// Profiles whose parameter sets have fields for chroma format, bit depth and scaling lists.
const HIGH_PROFILES: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

impl Sps {
    /// Reads a NAL unit of type 7, including its header byte. `None` if it is damaged.
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

/// Removes the emulation prevention bytes: 0, 0, 3 stands for 0, 0.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::{array, collection, option, sample};

    /// x264's parameter set of 64x48 in BT.709.
    const X264: [u8; 29] = [
        0x67, 0x64, 0x00, 0x0a, 0xac, 0x54, 0x11, 0x11, 0xec, 0x05, 0xa8, 0x08, 0x08, 0x0a, 0x00, 0x00, 0x03, 0x00,
        0x02, 0x00, 0x00, 0x03, 0x00, 0x64, 0x1e, 0x24, 0x4a, 0x08, 0xc0,
    ];

    /// x264's parameter set of 160x96 with 16 reference frames at level 1, which allows 6.
    const TOO_MANY_FRAMES: [u8; 26] = [
        0x67, 0x64, 0x00, 0x0a, 0xac, 0x76, 0x11, 0x0a, 0x36, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00,
        0x03, 0x00, 0xc8, 0x3c, 0x48, 0x96, 0x11, 0x80,
    ];

    #[test]
    fn parameter_sets_of_x264_are_read() {
        let tags = Tags { primaries: 1, transfer: 1, matrix: 1, full_range: Some(false) };
        let expected = Sps {
            profile: 100,
            width: 64,
            height: 48,
            chroma_format: 1,
            bit_depth: 8,
            progressive: true,
            tags,
            aspect: Some((1, 1)),
        };
        assert_eq!(Sps::parse(&X264), Some(expected));
        let expected = Sps { width: 160, height: 96, tags: Tags::NONE, ..expected };
        assert_eq!(Sps::parse(&TOO_MANY_FRAMES), Some(expected));
    }

    #[test]
    fn fields_after_the_colours_may_be_damaged_or_missing() {
        let whole = Sps::parse(&X264);
        let enough = (0..X264.len()).find(|&length| Sps::parse(&X264[..length]).is_some()).unwrap();
        assert_eq!(enough, 14, "the colours end in this byte");
        for length in enough..X264.len() {
            assert_eq!(Sps::parse(&X264[..length]), whole, "{length} bytes");
        }
        for more in [&[0][..], &[0, 0, 0], &[4], &[0xff; 9]] {
            assert_eq!(Sps::parse(&[&X264, more].concat()), whole, "{more:?} at the end");
        }
    }

    /// The fields that a test writes, to be read as an [`Sps`].
    #[derive(Clone, Debug)]
    struct Fields {
        profile: u32,
        chroma_format: u32,
        bit_depths: [u32; 2],
        /// The differences in each scaling list.
        lists: Option<Vec<Option<Vec<i32>>>>,
        order: u32,
        order_offsets: Vec<i32>,
        /// Columns and rows of macroblocks.
        size: [u32; 2],
        progressive: bool,
        cropping: Option<[u32; 4]>,
        usability: Option<Usability>,
    }

    #[derive(Clone, Debug)]
    struct Usability {
        aspect: Option<(u32, [u16; 2])>,
        overscan: Option<bool>,
        colours: Option<(bool, Option<[u8; 3]>)>,
    }

    prop_compose! {
        fn usabilities()(
            aspect in option::of((prop_oneof![0..20u32, Just(255)], any::<[u16; 2]>())),
            overscan in option::of(any::<bool>()),
            colours in option::of((any::<bool>(), option::of(any::<[u8; 3]>()))),
        ) -> Usability {
            Usability { aspect, overscan, colours }
        }
    }

    prop_compose! {
        fn fields()(
            profile in sample::select(vec![66u32, 77, 88, 100, 110, 122, 244]),
            chroma_format in 0..4u32,
            bit_depths in array::uniform2(8..15u32),
            lists in option::of(collection::vec(option::of(collection::vec(-128..128i32, 64)), 12)),
            order in 0..3u32,
            order_offsets in collection::vec(any::<i16>().prop_map(i32::from), 0..20),
            size in array::uniform2(1..600u32),
            progressive: bool,
            cropping in option::of(array::uniform4(0..9u32)),
            usability in option::of(usabilities()),
        ) -> Fields {
            Fields {
                profile, chroma_format, bit_depths, lists, order, order_offsets, size, progressive, cropping, usability,
            }
        }
    }

    impl Fields {
        fn expected(&self) -> Sps {
            let is_high = HIGH_PROFILES.contains(&self.profile);
            let [luma, chroma] = self.bit_depths;
            let (chroma_format, bit_depth) = if is_high { (self.chroma_format, luma.max(chroma)) } else { (1, 8) };
            let [columns, rows] = self.size.map(|side| 16 * side as usize);
            let usability = self.usability.as_ref();
            let aspect =
                usability.and_then(|usability| usability.aspect).and_then(|(index, [width, height])| match index {
                    255 => Some((width.into(), height.into())),
                    index => ASPECTS.get((index as usize).checked_sub(1)?).copied(),
                });
            let mut tags = Tags::NONE;
            if let Some((full_range, codes)) = usability.and_then(|usability| usability.colours) {
                tags.full_range = Some(full_range);
                [tags.primaries, tags.transfer, tags.matrix] = codes.map_or([2; 3], |codes| codes.map(u32::from));
            }
            let (profile, progressive) = (self.profile, self.progressive);
            let height = if progressive { rows } else { 2 * rows };
            Sps { profile, width: columns, height, chroma_format, bit_depth, progressive, tags, aspect }
        }

        fn nal(&self) -> Vec<u8> {
            let mut out = Writer::default();
            out.put(8, self.profile);
            out.put(16, 0x00_0a);
            out.unsigned(0);
            if HIGH_PROFILES.contains(&self.profile) {
                self.put_high_profile(&mut out);
            }
            self.put_picture_order(&mut out);
            out.unsigned(4);
            out.put(1, 0);
            self.size.iter().for_each(|side| out.unsigned(side - 1));
            out.put(1, self.progressive.into());
            if !self.progressive {
                out.put(1, 1);
            }
            out.put(1, 1);
            out.put(1, self.cropping.is_some().into());
            self.cropping.iter().flatten().for_each(|&edge| out.unsigned(edge));
            out.put(1, self.usability.is_some().into());
            if let Some(usability) = &self.usability {
                usability.put(&mut out);
            }
            out.nal()
        }

        fn put_high_profile(&self, out: &mut Writer) {
            out.unsigned(self.chroma_format);
            if self.chroma_format == 3 {
                out.put(1, 0);
            }
            self.bit_depths.iter().for_each(|depth| out.unsigned(depth - 8));
            out.put(1, 0);
            out.put(1, self.lists.is_some().into());
            let count = if self.chroma_format == 3 { 12 } else { 8 };
            for (index, list) in self.lists.iter().flatten().take(count).enumerate() {
                out.put(1, list.is_some().into());
                let mut scale = 8;
                for &difference in list.iter().flatten().take(if index < 6 { 16 } else { 64 }) {
                    out.signed(difference);
                    scale = (scale + difference).rem_euclid(256);
                    if scale == 0 {
                        break;
                    }
                }
            }
        }

        fn put_picture_order(&self, out: &mut Writer) {
            out.unsigned(3);
            out.unsigned(self.order);
            match self.order {
                0 => out.unsigned(5),
                1 => {
                    out.put(1, 0);
                    out.signed(-3);
                    out.signed(7);
                    out.unsigned(self.order_offsets.len() as u32);
                    self.order_offsets.iter().for_each(|&offset| out.signed(offset));
                }
                _ => {}
            }
        }
    }

    impl Usability {
        fn put(&self, out: &mut Writer) {
            out.put(1, self.aspect.is_some().into());
            if let Some((index, sides)) = self.aspect {
                out.put(8, index);
                sides.iter().filter(|_| index == 255).for_each(|&side| out.put(16, side.into()));
            }
            out.put(1, self.overscan.is_some().into());
            self.overscan.iter().for_each(|&overscan| out.put(1, overscan.into()));
            out.put(1, self.colours.is_some().into());
            if let Some((full_range, codes)) = self.colours {
                out.put(3, 5);
                out.put(1, full_range.into());
                out.put(1, codes.is_some().into());
                codes.iter().flatten().for_each(|&code| out.put(8, code.into()));
            }
        }
    }

    /// Bits, most significant first.
    #[derive(Default)]
    struct Writer(Vec<bool>);

    impl Writer {
        fn put(&mut self, count: u32, value: u32) {
            self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        }

        fn unsigned(&mut self, value: u32) {
            let zeros = (value + 1).ilog2();
            self.put(zeros, 0);
            self.put(zeros + 1, value + 1);
        }

        fn signed(&mut self, value: i32) {
            let twice = 2 * value.unsigned_abs();
            self.unsigned(if value > 0 { twice - 1 } else { twice });
        }

        /// The NAL unit: a header, and the bits as bytes without start codes.
        fn nal(self) -> Vec<u8> {
            let mut nal = vec![0x67];
            for bits in self.0.chunks(8) {
                let byte = bits.iter().zip(0..).fold(0, |byte, (&bit, at)| byte | u8::from(bit) << (7 - at));
                if byte <= 3 && nal.ends_with(&[0, 0]) {
                    nal.push(3);
                }
                nal.push(byte);
            }
            nal
        }
    }

    proptest! {
        #[test]
        fn written_fields_are_read_again(fields in fields()) {
            prop_assert_eq!(Sps::parse(&fields.nal()), Some(fields.expected()));
        }

        #[test]
        fn damage_gives_a_header_or_none(
            fields in fields(),
            changes in collection::vec((any::<sample::Index>(), any::<u8>()), 0..6),
            length: sample::Index,
        ) {
            let mut nal = fields.nal();
            for (place, value) in changes {
                let place = place.index(nal.len());
                nal[place] = value;
            }
            nal.truncate(length.index(nal.len() + 1));
            if let Some(sps) = Sps::parse(&nal) {
                prop_assert!(sps.width > 0 && sps.width % 16 == 0 && sps.height > 0 && sps.height % 16 == 0, "{sps:?}");
            }
        }

        #[test]
        fn a_truncated_header_is_none(fields in fields(), cut in 1..8usize) {
            // Without usability information the header's last bit is in the last byte.
            let nal = Fields { usability: None, ..fields }.nal();
            prop_assert_eq!(Sps::parse(&nal[..nal.len().saturating_sub(cut)]), None);
        }
    }
}
