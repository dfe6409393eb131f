//! A stream's colour flags, in the code points of ITU-T H.273.

use super::yuv::{Colour, Matrix};

/// The code point "unspecified" of primaries, transfer and matrix.
const UNSPECIFIED: u32 = 2;

/// Colour flags of a stream or of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tags {
    pub primaries: u32,
    pub transfer: u32,
    pub matrix: u32,
    /// `None` if unspecified.
    pub full_range: Option<bool>,
}

impl Tags {
    /// No flag at all.
    pub const NONE: Self =
        Self { primaries: UNSPECIFIED, transfer: UNSPECIFIED, matrix: UNSPECIFIED, full_range: None };

    /// These flags; unspecified ones are taken from `others`.
    pub fn or(self, others: Self) -> Self {
        let either = |this, other| if this == UNSPECIFIED { other } else { this };
        Self {
            primaries: either(self.primaries, others.primaries),
            transfer: either(self.transfer, others.transfer),
            matrix: either(self.matrix, others.matrix),
            full_range: self.full_range.or(others.full_range),
        }
    }

    /// The colour space of frames with `height` rows. `None` for matrices other than BT.601's and BT.709's.
    pub fn colour(self, height: usize) -> Option<Colour> {
        let matrix = match self.matrix {
            1 => Matrix::Bt709,
            5 | 6 => Matrix::Bt601,
            UNSPECIFIED if is_high_definition(height) => Matrix::Bt709,
            UNSPECIFIED => Matrix::Bt601,
            _ => return None,
        };
        Some(Colour { matrix, full_range: self.full_range.unwrap_or(false) })
    }

    /// A warning if 8-bit sRGB cannot represent the colours.
    pub fn warning(self) -> Option<String> {
        let kind = match (self.transfer, self.primaries) {
            (16, _) => "HDR colours (PQ)",
            (18, _) => "HDR colours (HLG)",
            (_, 9) => "wide colours (BT.2020)",
            _ => return None,
        };
        Some(format!("has {kind}, which are read as ordinary colours and look pale; convert it to SDR first"))
    }
}

/// Whether a stream without flags is BT.709. As in players: if it has more than PAL's 576 lines.
pub(super) fn is_high_definition(height: usize) -> bool {
    height > 576
}
