use super::{from_fn, noise, smooth};
use osp::Error;
use osp::video::metrics::psnr;
use osp::video::resize::{Cover, Filter, cover, cut_middle, repeat, shorter_side};
use osp::video::sheet::{contact_sheet, spaced, strip, tiled};

const FILTERS: [Filter; 3] = [Filter::Triangle, Filter::CatmullRom, Filter::Lanczos3];

#[test]
fn covering_gives_the_requested_size_for_every_aspect_ratio() {
    let sizes = [(1, 1), (7, 100), (100, 7), (64, 64), (33, 47)];
    for (height, width) in sizes {
        for (to_height, to_width) in sizes {
            let clip = cover(&smooth(2, height, width), to_height, to_width, Filter::Triangle).unwrap();
            assert_eq!((clip.frames, clip.height, clip.width), (2, to_height, to_width));
        }
    }
}

#[test]
fn covering_keeps_the_middle() {
    let bars = from_fn(1, 10, 30, |_, _, x, _| if (10..20).contains(&x) { 200 } else { 0 });
    for filter in FILTERS {
        assert_eq!(cover(&bars, 10, 10, filter).unwrap().pixels, vec![200; 300]);
    }
    let clip = noise(2, 12, 9);
    assert_eq!(cover(&clip, 12, 9, Filter::Lanczos3).unwrap(), clip);
}

#[test]
fn the_middle_is_cut_out_of_a_frame() {
    let frame: Vec<u8> = (0..4 * 3).flat_map(|pixel| [pixel; 3]).collect();
    assert_eq!(cut_middle(frame, [4, 3], [2, 1]), [4, 4, 4, 7, 7, 7]);
}

#[test]
fn frames_are_resized_one_by_one_as_a_clip_is() {
    let clip = smooth(3, 40, 30);
    let one_by_one = Cover::new(clip.info(), 16, 24, Filter::default()).unwrap();
    let frames: Vec<u8> = clip.iter().flat_map(|frame| one_by_one.apply(frame.to_vec())).collect();
    assert!(frames == cover(&clip, 16, 24, Filter::default()).unwrap().pixels);
}

#[test]
fn the_shorter_side_gets_its_length_and_the_aspect_ratio_stays() {
    for (height, width, to_height, to_width) in
        [(90, 160, 45, 80), (160, 90, 80, 45), (45, 45, 45, 45), (3, 1000, 45, 15000)]
    {
        let clip = shorter_side(&noise(1, height, width), 45, Filter::Triangle).unwrap();
        assert_eq!((clip.height, clip.width), (to_height, to_width));
    }
}

#[test]
fn smooth_pictures_survive_resizing() {
    let clip = smooth(2, 80, 120);
    for filter in FILTERS {
        let larger = cover(&clip, 160, 240, filter).unwrap();
        let back = cover(&larger, 80, 120, filter).unwrap();
        assert!(psnr(&clip, &back).unwrap().overall > 40.0, "{filter:?}");
    }
}

#[test]
fn impossible_sizes_are_refused() {
    let clip = smooth(1, 4, 4);
    assert!(matches!(cover(&clip, 0, 5, Filter::default()), Err(Error::Usage(_))));
    assert!(matches!(cover(&clip, 5, 0, Filter::default()), Err(Error::Usage(_))));
    assert!(matches!(cover(&clip, 1 << 20, 1, Filter::default()), Err(Error::Usage(_))));
    assert!(matches!(shorter_side(&clip, 0, Filter::default()), Err(Error::Usage(_))));
    assert!(matches!(shorter_side(&noise(1, 1, 500), 500, Filter::default()), Err(Error::Usage(_))));
}

#[test]
fn a_contact_sheet_places_clips_in_rows_and_holds_last_frames() {
    let clips: Vec<_> = (1..=5).map(|level| from_fn(level, 2, 3, |time, _, _, _| (level * 10 + time) as u8)).collect();
    let sheet = contact_sheet(&clips, 1).unwrap();
    assert_eq!((sheet.frames, sheet.height, sheet.width), (5, 2 + 1 + 2, 3 + 1 + 3 + 1 + 3));
    let at = |time: usize, y: usize, x: usize| sheet.frame(time)[(y * sheet.width + x) * 3];
    assert_eq!([at(0, 0, 0), at(0, 0, 4), at(0, 1, 10), at(0, 3, 0), at(0, 4, 6)], [10, 20, 30, 40, 50]);
    assert_eq!([at(4, 0, 0), at(4, 0, 4), at(4, 0, 8), at(4, 3, 0), at(4, 3, 4)], [10, 21, 32, 43, 54]);
    assert_eq!([at(0, 0, 3), at(0, 2, 0), at(0, 3, 8)], [0; 3], "gaps and the empty cell");
}

#[test]
fn grids_are_close_to_square() {
    for (count, columns, rows) in [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 3, 2), (9, 3, 3), (10, 4, 3)] {
        let sheet = contact_sheet(&vec![noise(1, 4, 4); count], 0).unwrap();
        assert_eq!((sheet.width / 4, sheet.height / 4), (columns, rows), "{count}");
    }
}

#[test]
fn a_sheet_of_nothing_or_of_different_sizes_is_an_error() {
    assert!(matches!(contact_sheet(&[], 0), Err(Error::Usage(_))));
    assert!(matches!(contact_sheet(&[noise(1, 4, 4), noise(1, 4, 5)], 0), Err(Error::Shape { .. })));
}

#[test]
fn a_strip_spans_the_clip() {
    let clip = from_fn(10, 2, 2, |time, _, _, _| time as u8);
    let levels = |count: usize| -> Vec<u8> {
        let strip = strip(&clip, count, 1).unwrap();
        assert_eq!((strip.frames, strip.height, strip.width), (1, 2, count * 3 - 1));
        (0..count).map(|index| strip.pixels[index * 9]).collect()
    };
    assert_eq!(levels(1), [0]);
    assert_eq!(levels(2), [0, 9]);
    assert_eq!(levels(4), [0, 3, 6, 9]);
    assert_eq!(levels(12).len(), 12);
    assert!(strip(&clip, 0, 1).is_err());
    let (sheet, few) = (tiled(&spaced(&clip, 3).unwrap(), 2, 1).unwrap(), spaced(&clip, 3).unwrap());
    assert_eq!((few.frames, sheet.frames, sheet.height, sheet.width), (3, 1, 2 * clip.height + 1, 2 * clip.width + 1));
    // The last frame is below the first; beside it nothing is.
    let row = |y: usize| &sheet.pixels[y * sheet.width * 3..(y + 1) * sheet.width * 3];
    let (first, last) = row(clip.height + 1).split_at(clip.width * 3);
    assert!(*first == few.frame(2)[..clip.width * 3] && last.iter().all(|byte| *byte == 0));
    assert!(tiled(&clip, 0, 1).is_err() && spaced(&clip, 0).is_err());
}

#[test]
fn enlarged_pixels_are_squares() {
    let clip = noise(2, 2, 3);
    let large = repeat(&clip, 3).unwrap();
    assert_eq!((large.frames, large.height, large.width), (2, 6, 9));
    for (at, pixel) in large.frame(1).chunks_exact(3).enumerate() {
        let from = (at / 9 / 3 * 3 + at % 9 / 3) * 3;
        assert_eq!(pixel, &clip.frame(1)[from..from + 3], "pixel {at}");
    }
    assert_eq!(repeat(&clip, 1).unwrap(), clip);
    assert!(repeat(&clip, 0).is_err() && repeat(&clip, 30_000).is_err());
}
