//! What a stream's flags say of its colours, in the code points of ITU-T H.273.

use super::yuv::{Colour, Matrix};

/// The code point that says nothing, of primaries, transfer and matrix.
const UNSPECIFIED: u32 = 2;

/// Flags of a stream or of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tags {
    pub primaries: u32,
    pub transfer: u32,
    pub matrix: u32,
    /// None if nothing is said.
    pub full_range: Option<bool>,
}

impl Tags {
    /// No flag at all.
    pub const NONE: Self =
        Self { primaries: UNSPECIFIED, transfer: UNSPECIFIED, matrix: UNSPECIFIED, full_range: None };

    /// These, and where they say nothing the `others`.
    pub fn or(self, others: Self) -> Self {
        let either = |this, other| if this == UNSPECIFIED { other } else { this };
        Self {
            primaries: either(self.primaries, others.primaries),
            transfer: either(self.transfer, others.transfer),
            matrix: either(self.matrix, others.matrix),
            full_range: self.full_range.or(others.full_range),
        }
    }

    /// What numbers mean in frames of `height` rows. None for matrices other than BT.601's and BT.709's.
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

    /// A warning if colours mean more than 8-bit sRGB can say.
    pub fn warning(self) -> Option<String> {
        let kind = match (self.transfer, self.primaries) {
            (16, _) => "HDR colours (PQ)",
            (18, _) => "HDR colours (HLG)",
            (_, 9) => "wide colours (BT.2020)",
            _ => return None,
        };
        Some(format!("has {kind}, which are read as if they were ordinary ones and look pale; convert it to SDR first"))
    }
}

/// What players assume of streams without flags: above PAL's 576 lines, BT.709 is meant.
pub(super) fn is_high_definition(height: usize) -> bool {
    height > 576
}
