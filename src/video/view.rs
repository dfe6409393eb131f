//! Turns stored frames into frames to show: upright, with square pixels.

use super::{MAX_PIXELS, VideoInfo, resize};
use image::metadata::Orientation;

/// How stored frames are turned: an optional exchange of the axes, and an optional mirror of each stored axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// Whether rows become columns.
    pub transposed: bool,
    /// Whether stored columns are read from the right.
    pub from_right: bool,
    /// Whether stored rows are read from the bottom.
    pub from_bottom: bool,
}

impl Turn {
    /// The turn for one of the eight orientations of Exif.
    pub fn exif(orientation: Orientation) -> Self {
        use Orientation::{FlipHorizontal, NoTransforms, Rotate90FlipH};
        use Orientation::{Rotate90, Rotate180, Rotate270, Rotate270FlipH};
        Self {
            transposed: matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH),
            from_right: matches!(orientation, FlipHorizontal | Rotate180 | Rotate270 | Rotate270FlipH),
            from_bottom: !matches!(orientation, NoTransforms | FlipHorizontal | Rotate270 | Rotate90FlipH),
        }
    }

    /// The turn of a matrix, which shows the stored (x, y) at (a·x + c·y, b·x + d·y) plus an offset. `None` unless it
    /// is a multiple of a quarter turn, within a degree.
    pub fn matrix(entries: [i64; 4]) -> Option<Self> {
        let largest = entries.map(i64::unsigned_abs).into_iter().max().unwrap_or(0);
        let [a, b, c, d] = entries.map(|entry| if entry.unsigned_abs() < largest / 57 { 0 } else { entry });
        match (a == 0 && d == 0, b == 0 && c == 0) {
            (false, true) if a != 0 && d != 0 => {
                Some(Self { transposed: false, from_right: a < 0, from_bottom: d < 0 })
            }
            (true, false) if b != 0 && c != 0 => Some(Self { transposed: true, from_right: b < 0, from_bottom: c < 0 }),
            _ => None,
        }
    }

    /// Turns `rgb`, stored as `[height, width, 3]`.
    pub fn apply(self, rgb: Vec<u8>, width: usize, height: usize) -> Vec<u8> {
        if self == Self::default() {
            return rgb;
        }
        let mut out = Vec::with_capacity(rgb.len());
        let column = |x: usize| if self.from_right { width - 1 - x } else { x };
        let row = |y: usize| if self.from_bottom { height - 1 - y } else { y };
        let (rows, columns) = if self.transposed { (width, height) } else { (height, width) };
        for y in 0..rows {
            for x in 0..columns {
                let (x, y) = if self.transposed { (y, x) } else { (x, y) };
                let at = (row(y) * width + column(x)) * 3;
                out.extend_from_slice(&rgb[at..at + 3]);
            }
        }
        out
    }
}

/// The changes to every stored frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    turn: Turn,
    stored: VideoInfo,
    shown: VideoInfo,
}

impl View {
    /// The changes to frames that are `stored` with the pixel aspect ratio `aspect`, width to height. To make pixels
    /// square, frames become larger, never smaller.
    pub fn new(stored: VideoInfo, turn: Turn, aspect: (u32, u32)) -> Self {
        let VideoInfo { mut width, mut height, fps } = square(stored, aspect);
        if turn.transposed {
            (width, height) = (height, width);
        }
        Self { turn, stored, shown: VideoInfo { width, height, fps } }
    }

    /// Size and rate of the frames to show.
    pub fn shown(&self) -> VideoInfo {
        self.shown
    }

    /// A warning if pixels are not square.
    pub fn warning(&self) -> Option<String> {
        let (turned, shown) = (self.turned(), self.shown);
        ((turned.width, turned.height) != (shown.width, shown.height)).then(|| {
            let (from, to) = ((turned.width, turned.height), (shown.width, shown.height));
            format!("pixels are not square: frames are stretched from {}x{} to {}x{}", from.0, from.1, to.0, to.1)
        })
    }

    /// Turns a stored frame into a frame to show.
    pub fn apply(&self, rgb: Vec<u8>) -> Vec<u8> {
        let turned = self.turn.apply(rgb, self.stored.width, self.stored.height);
        resize::to_size(turned, self.turned(), [self.shown.height, self.shown.width], resize::Filter::default())
    }

    /// Size and rate of frames that are turned, but not stretched.
    fn turned(&self) -> VideoInfo {
        let VideoInfo { width, height, fps } = self.stored;
        if self.turn.transposed { VideoInfo { width: height, height: width, fps } } else { self.stored }
    }
}

/// The size with square pixels. An aspect ratio is ignored if it is 0 or makes frames larger than the largest that can
/// be read.
fn square(stored: VideoInfo, (across, down): (u32, u32)) -> VideoInfo {
    let scaled = |side: usize, above: u32, below: u32| {
        ((side as f64 * f64::from(above) / f64::from(below)).round() as usize).max(side)
    };
    if across == 0 || down == 0 {
        return stored;
    }
    let VideoInfo { width, height, fps } = stored;
    let (wide, tall) = (scaled(width, across, down), scaled(height, down, across));
    let shown = VideoInfo { width: wide, height: tall, fps };
    let fits = wide.max(tall) <= usize::from(u16::MAX) && wide.saturating_mul(tall) <= MAX_PIXELS;
    if fits { shown } else { stored }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::FrameRate;
    use image::{DynamicImage, RgbImage};

    fn view(transposed: bool, aspect: (u32, u32)) -> View {
        let stored = VideoInfo { width: 64, height: 48, fps: FrameRate::default() };
        View::new(stored, Turn { transposed, ..Turn::default() }, aspect)
    }

    #[test]
    fn turns_follow_exif() {
        let (width, height) = (3, 2);
        let rgb: Vec<u8> = (0..18).collect();
        for value in 1..=8 {
            let orientation = Orientation::from_exif(value).unwrap();
            let mut image = DynamicImage::ImageRgb8(RgbImage::from_raw(3, 2, rgb.clone()).unwrap());
            image.apply_orientation(orientation);
            assert_eq!(Turn::exif(orientation).apply(rgb.clone(), width, height), image.into_bytes(), "{value}");
        }
    }

    #[test]
    fn matrices_turn_as_they_move_corners() {
        let by = |matrix| Turn::matrix(matrix).unwrap();
        assert_eq!(by([1, 0, 0, 1]), Turn::default());
        assert_eq!(by([0, 1, -1, 0]), Turn::exif(Orientation::Rotate90));
        assert_eq!(by([-1, 0, 0, -1]), Turn::exif(Orientation::Rotate180));
        assert_eq!(by([0, -1, 1, 0]), Turn::exif(Orientation::Rotate270));
        assert_eq!(by([-1, 0, 0, 1]), Turn::exif(Orientation::FlipHorizontal));
        assert_eq!(by([1, 0, 0, -1]), Turn::exif(Orientation::FlipVertical));
        assert_eq!(by([0, 1, 1, 0]), Turn::exif(Orientation::Rotate90FlipH));
        assert_eq!(by([0, -1, -1, 0]), Turn::exif(Orientation::Rotate270FlipH));
        assert_eq!(by([3, 65_536, -65_536, -2]), Turn::exif(Orientation::Rotate90));
        for crooked in [[1, 1, -1, 1], [0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]] {
            assert_eq!(Turn::matrix(crooked), None);
        }
    }

    #[test]
    fn pixels_become_square_by_growing_and_nonsense_is_ignored() {
        let sides = |aspect, transposed| {
            let shown = view(transposed, aspect).shown();
            (shown.width, shown.height)
        };
        assert_eq!(sides((1, 1), false), (64, 48));
        assert_eq!(sides((2, 1), false), (128, 48));
        assert_eq!(sides((1, 2), false), (64, 96));
        assert_eq!(sides((2, 1), true), (48, 128));
        for nonsense in [(0, 1), (1, 0), (u32::MAX, 1), (1, u32::MAX)] {
            assert_eq!(sides(nonsense, false), (64, 48));
        }
        assert!(view(false, (8, 9)).warning().unwrap().contains("64x48 to 64x54"));
        assert_eq!(view(false, (1, 1)).warning(), None);
    }
}
