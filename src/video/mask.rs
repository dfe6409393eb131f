//! Where an edit may change a clip.

use super::Clip;

/// How much of each pixel an edit replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Number of frames, T.
    pub frames: usize,
    /// Rows of a frame, H.
    pub height: usize,
    /// Pixels in a row, W.
    pub width: usize,
    /// `[T, H, W]`: 0 keeps a pixel, 255 replaces it, and between the two are mixed.
    pub shares: Vec<u8>,
}

impl Mask {
    /// The mask that replaces the pixels of `inside`, `[T, H, W]`. Towards the edge of the inside, replaced pixels fade into kept
    /// ones over `feather` pixels, which all lie inside. The border of the frame is no edge.
    ///
    /// # Panics
    /// If `inside` has another number of pixels than `size`, frames, rows and columns.
    pub fn new(size: [usize; 3], inside: &[bool], feather: usize) -> Self {
        let [frames, height, width] = size;
        assert_eq!(inside.len(), frames * height * width, "there is one value for each pixel");
        let steps = feather + 1;
        let share = |distance: usize| match distance {
            0 => 0,
            _ => (255 * distance.min(steps) / steps).max(1) as u8,
        };
        let frame = |inside: &[bool]| distances(inside, width, steps).into_iter().map(share).collect::<Vec<_>>();
        let shares = inside.chunks_exact((height * width).max(1)).flat_map(frame).collect();
        Self { frames, height, width, shares }
    }

    /// Whether the mask keeps every pixel.
    pub fn keeps_all(&self) -> bool {
        self.shares.iter().all(|&share| share == 0)
    }

    /// The shares of frame `index`, `[H, W]`.
    ///
    /// # Panics
    /// If the mask has no such frame.
    pub fn frame(&self, index: usize) -> &[u8] {
        let pixels = self.height * self.width;
        &self.shares[index * pixels..(index + 1) * pixels]
    }

    /// Frame `index` of `original` with the replaced pixels of `rgb`, both `[H, W, 3]`. Kept pixels have the original's bytes.
    ///
    /// # Panics
    /// If the mask or the original has no such frame, or `rgb` has another size.
    pub fn paste(&self, original: &Clip, index: usize, rgb: &[u8]) -> Vec<u8> {
        let kept = original.frame(index);
        assert_eq!(kept.len(), rgb.len(), "the frames have one size");
        let pixels = kept.chunks_exact(3).zip(rgb.chunks_exact(3)).zip(self.frame(index));
        let mix = |(kept, new): (&u8, &u8), share: u8| {
            let (kept, new, share) = (u32::from(*kept), u32::from(*new), u32::from(share));
            ((kept * (255 - share) + new * share + 127) / 255) as u8
        };
        pixels.flat_map(|((kept, new), &share)| kept.iter().zip(new).map(move |pair| mix(pair, share))).collect()
    }
}

/// The distance of each pixel of a frame to the nearest pixel that is not inside, at most `most`: the larger one of rows and
/// columns. It takes a pass from each corner, because a nearest pixel lies beyond one of the eight neighbours.
fn distances(inside: &[bool], width: usize, most: usize) -> Vec<usize> {
    let mut distances: Vec<usize> = inside.iter().map(|&inside| if inside { most } else { 0 }).collect();
    let height = distances.len() / width.max(1);
    let mut look = |row: usize, column: usize, neighbours: [(isize, isize); 4]| {
        let here = row * width + column;
        for (down, right) in neighbours {
            let (Some(row), Some(column)) = (row.checked_add_signed(down), column.checked_add_signed(right)) else {
                continue;
            };
            if row < height && column < width {
                distances[here] = distances[here].min(distances[row * width + column] + 1);
            }
        }
    };
    for row in 0..height {
        (0..width).for_each(|column| look(row, column, [(-1, -1), (-1, 0), (-1, 1), (0, -1)]));
    }
    for row in (0..height).rev() {
        (0..width).rev().for_each(|column| look(row, column, [(1, 1), (1, 0), (1, -1), (0, 1)]));
    }
    distances
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{FrameRate, VideoInfo};

    /// A mask of one frame from a picture, where `#` is inside.
    fn mask(picture: &[&str], feather: usize) -> Mask {
        let inside: Vec<bool> = picture.concat().chars().map(|pixel| pixel == '#').collect();
        Mask::new([1, picture.len(), picture[0].len()], &inside, feather)
    }

    #[test]
    fn the_feather_lies_inside_and_the_border_of_the_frame_is_no_edge() {
        let picture = ["......", ".#####", ".#####", ".#####", ".#####"];
        let shares = [0, 0, 0, 0, 0, 0, 0, 85, 85, 85, 85, 85, 0, 85, 170, 170, 170, 170, 0, 85, 170, 255, 255, 255];
        let found = mask(&picture, 2);
        assert_eq!(&found.shares[..24], shares);
        assert_eq!(&found.shares[24..], &shares[18..], "the lower border is no edge");
        assert!(mask(&picture, 0).shares.iter().all(|&share| share == 0 || share == 255));
        assert!(mask(&["##", "##"], 9).shares.iter().all(|&share| share == 255), "nothing is outside");
        assert!(mask(&[".#"], 1000).shares == [0, 1], "a pixel inside is never kept whole");
    }

    #[test]
    fn kept_pixels_have_the_bytes_of_the_original() {
        let info = VideoInfo { width: 3, height: 1, fps: FrameRate::default() };
        let original = Clip::new(info, (0..9).map(|i| i * 20).collect()).unwrap();
        let mask = Mask { frames: 1, height: 1, width: 3, shares: vec![0, 255, 51] };
        let pasted = mask.paste(&original, 0, &[255; 9]);
        assert_eq!(pasted[..6], [0, 20, 40, 255, 255, 255]);
        assert_eq!(pasted[6..], [147, 163, 179]);
        assert!(!mask.keeps_all() && Mask::new([1, 1, 2], &[false; 2], 3).keeps_all());
    }
}
