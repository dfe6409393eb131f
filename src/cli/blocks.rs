//! Pictures as characters: a half block shows two pixels, one above the other.

use osp::Clip;
use std::fmt::Write;

/// The first frame of `clip` as lines of half blocks in 24-bit colours. Each line ends with the terminal's own colours.
pub fn lines(clip: &Clip) -> String {
    let rows: Vec<&[u8]> = clip.frame(0).chunks_exact(clip.width * 3).collect();
    let mut text = String::new();
    for pair in rows.chunks(2) {
        line(pair[0], pair.get(1).copied(), &mut text);
    }
    text
}

/// A line: the upper pixels in the colour of the text, the lower ones, if there are any, in that of the background.
fn line(upper: &[u8], lower: Option<&[u8]>, text: &mut String) {
    let pixels = |row: &[u8]| row.chunks_exact(3).map(|rgb| [rgb[0], rgb[1], rgb[2]]).collect::<Vec<[u8; 3]>>();
    let lower = lower.map(pixels);
    let mut before = [None; 2];
    for (column, upper) in pixels(upper).into_iter().enumerate() {
        let now = [Some(upper), lower.as_ref().map(|lower| lower[column])];
        for ((ground, now), before) in [38, 48].into_iter().zip(now).zip(before) {
            if let Some([red, green, blue]) = now.filter(|_| now != before) {
                // Formatting into a string cannot fail.
                let _ = write!(text, "\x1b[{ground};2;{red};{green};{blue}m");
            }
        }
        text.push('▀');
        before = now;
    }
    text.push_str("\x1b[0m\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use osp::video::{FrameRate, VideoInfo};

    fn clip(width: usize, height: usize, pixels: &[[u8; 3]]) -> Clip {
        Clip::new(VideoInfo { width, height, fps: FrameRate::default() }, pixels.concat()).unwrap()
    }

    #[test]
    fn two_pixels_share_a_character_and_colours_are_set_when_they_change() {
        let (red, blue, grey) = ([255, 0, 0], [0, 0, 255], [9, 9, 9]);
        let text = lines(&clip(3, 2, &[red, red, blue, grey, grey, grey]));
        let expected = "\x1b[38;2;255;0;0m\x1b[48;2;9;9;9m▀▀\x1b[38;2;0;0;255m▀\x1b[0m\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_odd_last_row_leaves_the_background_alone() {
        let text = lines(&clip(1, 3, &[[1; 3], [2; 3], [3; 3]]));
        assert_eq!(text, "\x1b[38;2;1;1;1m\x1b[48;2;2;2;2m▀\x1b[0m\n\x1b[38;2;3;3;3m▀\x1b[0m\n");
    }
}
