//! This crate and ffmpeg read the same clip equally: the same frames, upright, cut and stretched in the same way, at
//! the same rate.
//!
//! `rot90.mp4` (9 frames of 96x64), `sar2.mp4` (9 of 64x64), `trimmed.mp4` (48, of which an edit list shows 30) and
//! `joined.mp4` (two clips of 9 in one track) were made with ffmpeg and x264 from a moving ramp; `vfr_fine_ticks.mp4` has
//! 240,000,000 ticks a second.

use super::{ALONE, file, has_ffmpeg, run_ffmpeg};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use osp::video::{Clip, FrameRate, ReadOptions, Reader, read_clip};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

/// Matrices (a, b, c, d) of the eight orientations of Exif, in order from 1.
const MATRICES: [[i32; 4]; 8] = [
    [1, 0, 0, 1],
    [-1, 0, 0, 1],
    [-1, 0, 0, -1],
    [1, 0, 0, -1],
    [0, 1, 1, 0],
    [0, 1, -1, 0],
    [0, -1, -1, 0],
    [0, -1, 1, 0],
];

/// An MP4 in memory, whose boxes can be changed.
struct Movie(Vec<u8>);

impl Movie {
    fn read(path: &Path) -> Self {
        Self(fs::read(path).unwrap())
    }

    /// Sets words of the contents of the first box `name`.
    fn set(&mut self, name: &[u8; 4], words: &[(usize, i32)]) -> &mut Self {
        let at = self.0.windows(4).position(|bytes| bytes == name).unwrap() + 4;
        for &(word, value) in words {
            self.0[at + 4 * word..][..4].copy_from_slice(&value.to_be_bytes());
        }
        self
    }

    /// Sets the matrix to Exif's `orientation`.
    fn turn(&mut self, orientation: usize) -> &mut Self {
        let [a, b, c, d] = MATRICES[orientation - 1].map(|entry| entry << 16);
        self.set(b"tkhd", &[(10, a), (11, b), (13, c), (14, d)])
    }

    /// Reads it without ffmpeg.
    fn alone(&self) -> Clip {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        fs::write(&path, &self.0).unwrap();
        read_clip(&path, &ALONE).unwrap()
    }

    /// Reads it through ffmpeg: without the box `ftyp`, this crate does not recognise an MP4.
    fn through_ffmpeg(&self) -> Clip {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let mut bytes = self.0.clone();
        assert_eq!(&bytes[4..8], b"ftyp");
        bytes[4..8].copy_from_slice(b"free");
        fs::write(&path, bytes).unwrap();
        assert!(read_clip(&path, &ALONE).is_err());
        read_clip(&path, &ReadOptions::default()).unwrap()
    }

    /// Reads it both ways, if ffmpeg is installed, and checks that the results agree.
    #[track_caller]
    fn both(&self, what: &str) -> Clip {
        let alone = self.alone();
        if has_ffmpeg() {
            let other = self.through_ffmpeg();
            assert_eq!((alone.frames, alone.info()), (other.frames, other.info()), "{what}");
            let differences = alone.pixels.iter().zip(&other.pixels).map(|(&a, &b)| a.abs_diff(b));
            // This crate and ffmpeg interpolate chroma differently: single pixels at edges differ more.
            let (most, sum) = differences.fold((0, 0u64), |(most, sum), d| (d.max(most), sum + u64::from(d)));
            let mean = sum as f64 / alone.pixels.len() as f64;
            assert!(mean < 1.0 && most < 40, "{what}: {mean} in the mean, at most {most}");
        }
        alone
    }
}

/// `clip`, turned by the image crate.
fn turned(clip: &Clip, orientation: usize) -> Vec<u8> {
    let orientation = Orientation::from_exif(orientation as u8).unwrap();
    let turn = |frame: &[u8]| {
        let image = RgbImage::from_raw(clip.width as u32, clip.height as u32, frame.to_vec()).unwrap();
        let mut image = DynamicImage::ImageRgb8(image);
        image.apply_orientation(orientation);
        image.into_bytes()
    };
    clip.iter().flat_map(turn).collect()
}

#[test]
fn all_eight_orientations_come_upright() {
    let mut movie = Movie::read(&file("rot90.mp4"));
    let stored = movie.turn(1).both("as stored");
    assert_eq!((stored.frames, stored.height, stored.width), (9, 64, 96));
    for orientation in 1..=8 {
        let clip = movie.turn(orientation).both(&format!("orientation {orientation}"));
        assert_eq!((clip.height, clip.width), if orientation < 5 { (64, 96) } else { (96, 64) });
        assert!(clip.pixels == turned(&stored, orientation), "orientation {orientation}");
    }
}

#[test]
fn the_movies_matrix_applies_after_the_tracks() {
    let mut movie = Movie::read(&file("rot90.mp4"));
    let stored = movie.turn(1).alone();
    // Two quarter turns.
    movie.turn(6).set(b"mvhd", &[(9, 0), (10, 1 << 16), (12, -1 << 16), (13, 0)]);
    assert!(movie.both("turned twice").pixels == turned(&stored, 3));
    movie.set(b"mvhd", &[(9, 1 << 15), (10, 1 << 16)]);
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    fs::write(&path, &movie.0).unwrap();
    assert!(super::problem(&path).contains("quarter"));
}

#[test]
fn other_codecs_come_upright_through_ffmpeg() {
    if has_ffmpeg() {
        let clip = read_clip(&file("rot90_hevc.mp4"), &ReadOptions::default()).unwrap();
        assert_eq!((clip.frames, clip.height, clip.width), (9, 96, 64));
    }
}

#[test]
fn edit_lists_cut_at_both_ends() {
    let mut movie = Movie::read(&file("trimmed.mp4"));
    let cut = movie.both("as it is");
    let all = movie.set(b"elst", &[(2, 2000), (3, 0)]).both("all");
    assert_eq!((cut.frames, all.frames), (30, 48));
    assert!(cut.pixels == all.pixels[18 * 64 * 64 * 3..]);
    // 512 of 12288 ticks a frame; durations are in thousandths.
    for (first, frames) in [(3, 20), (0, 1), (47, 1), (10, 38)] {
        let words = [(2, frames * 1000 / 24), (3, first * 512)];
        let part = movie.set(b"elst", &words).both(&format!("{frames} frames from {first}"));
        assert_eq!((part.frames, part.fps), (frames as usize, FrameRate::default()));
        assert!(part.pixels == all.pixels[first as usize * 64 * 64 * 3..][..part.pixels.len()]);
    }
    // A cut between two frames, and a cut to the end.
    assert_eq!(movie.set(b"elst", &[(2, 1000), (3, 5 * 512 + 200)]).both("between").frames, 24);
    assert_eq!(movie.set(b"elst", &[(2, 0), (3, 512)]).alone().frames, 47);
}

/// A box.
fn boxed(name: &[u8; 4], contents: &[u8]) -> Vec<u8> {
    [&(contents.len() as u32 + 8).to_be_bytes()[..], name, contents].concat()
}

/// `bytes`, which are boxes, with new contents of the box at `path`.
fn with_box(bytes: &[u8], path: &[&[u8; 4]], contents: &[u8]) -> Vec<u8> {
    let mut at = 0;
    while at < bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        if &bytes[at + 4..at + 8] == path[0] {
            let inner = match path {
                [_] => contents.to_vec(),
                [_, rest @ ..] => with_box(&bytes[at + 8..at + size], rest, contents),
                [] => unreachable!(),
            };
            return [&bytes[..at], &boxed(path[0], &inner), &bytes[at + size..]].concat();
        }
        at += size;
    }
    panic!("no box {path:?}")
}

/// A table: four zeros, the number of rows, and their words.
fn table<const N: usize>(rows: &[[i32; N]]) -> Vec<u8> {
    let words = rows.as_flattened().iter().flat_map(|word| word.to_be_bytes());
    [0, rows.len() as i32].into_iter().flat_map(i32::to_be_bytes).chain(words).collect()
}

/// `trimmed.mp4` with an edit list of these rows (duration, media time).
fn with_edits(rows: &[(i32, i32)]) -> Movie {
    let rows: Vec<_> = rows.iter().map(|&(duration, time)| [duration, time, 1 << 16]).collect();
    let bytes = fs::read(file("trimmed.mp4")).unwrap();
    Movie(with_box(&bytes, &[b"moov", b"trak", b"edts", b"elst"], &table(&rows)))
}

#[test]
fn all_entries_of_an_edit_list_are_shown() {
    let all = with_edits(&[(2000, 0)]).both("all");
    let frames = |range: std::ops::Range<usize>| &all.pixels[range.start * 64 * 64 * 3..range.end * 64 * 64 * 3];
    let late = with_edits(&[(500, -1), (1000, 12 * 512)]).both("a delay");
    assert!(late.pixels == frames(12..36) && late.fps == FrameRate::default());
    let movie = with_edits(&[(500, 0), (500, 24 * 512)]);
    let two = movie.alone();
    assert!(two.pixels == [frames(0..12), frames(24..36)].concat() && two.fps == FrameRate::default());
    if has_ffmpeg() {
        assert_eq!(movie.through_ffmpeg().frames, two.frames);
    }
    // 11 intervals, a second and an interval, and 11 intervals.
    let gap = with_edits(&[(500, 0), (1000, -1), (500, 24 * 512)]).alone();
    assert_eq!((gap.frames, gap.fps), (24, FrameRate::new(552, 47).unwrap()));
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    for rows in [[(500, 24 * 512), (500, 0)], [(500, 0), (500, 0)]] {
        fs::write(&path, with_edits(&rows).0).unwrap();
        assert!(super::problem(&path).contains("edit list"), "{rows:?}");
        if has_ffmpeg() {
            assert_eq!(read_clip(&path, &ReadOptions::default()).unwrap().frames, 24, "{rows:?}");
        }
    }
}

#[test]
fn pixels_that_are_not_square_are_stretched_with_a_notice() {
    let mut movie = Movie::read(&file("sar2.mp4"));
    let clip = movie.both("2:1");
    assert_eq!((clip.frames, clip.height, clip.width), (9, 64, 128));
    assert_eq!((movie.turn(6).both("2:1, turned").height, clip.width), (128, 128));
    // Without the box pasp, the stream's aspect ratio counts.
    let at = movie.0.windows(4).position(|bytes| bytes == b"pasp").unwrap();
    movie.0[at..at + 4].copy_from_slice(b"free");
    assert!(movie.turn(1).both("2:1 in the stream") == clip);
    let said = Reader::open(&file("sar2.mp4"), &ALONE).unwrap().notices();
    assert!(said.len() == 1 && said[0].contains("64x64 to 128x64"), "{said:?}");
    assert!(Reader::open(&file("rot90.mp4"), &ALONE).unwrap().notices().is_empty());
}

#[test]
fn all_frames_of_joined_clips_are_read() {
    let clip = Movie::read(&file("joined.mp4")).both("joined");
    assert_eq!((clip.frames, clip.fps), (18, FrameRate::default()));
    let part = read_clip(&file("joined.mp4"), &ReadOptions { start: 7, max_frames: Some(4), ..ALONE }).unwrap();
    assert!(part.pixels == clip.pixels[7 * 64 * 64 * 3..11 * 64 * 64 * 3]);
}

#[test]
fn samples_may_have_several_descriptions() {
    const TABLES: [&[u8; 4]; 5] = [b"moov", b"trak", b"mdia", b"minf", b"stbl"];
    let one = Movie::read(&file("joined.mp4"));
    let find = |name: &[u8; 4]| one.0.windows(4).position(|bytes| bytes == name).unwrap() + 4;
    let word = |at: usize| i32::from_be_bytes(one.0[at..at + 4].try_into().unwrap());
    let description = &one.0[find(b"stsd") + 8..][..word(find(b"stsd") - 8) as usize - 16];
    let sizes = (0..9).map(|index| word(find(b"stsz") + 12 + 4 * index)).sum::<i32>();
    let first = word(find(b"stco") + 8);
    let descriptions = [&[0, 0, 0, 0, 0, 0, 0, 2][..], description, description].concat();
    let mut bytes = with_box(&one.0, &[&TABLES[..], &[b"stsd"]].concat(), &descriptions);
    bytes = with_box(&bytes, &[&TABLES[..], &[b"stsc"]].concat(), &table(&[[1, 9, 1], [2, 9, 2]]));
    bytes = with_box(&bytes, &[&TABLES[..], &[b"stco"]].concat(), &table(&[[first], [first + sizes]]));
    assert!(Movie(bytes).both("two descriptions") == one.alone());
}

#[test]
fn the_files_colour_flags_count_if_the_stream_has_none() {
    let mut movie = Movie::read(&file("rot90.mp4"));
    let plain = movie.both("without flags");
    // The box btrt, whose contents are not needed, becomes a colr: BT.2020, PQ, BT.709 in full range.
    let at = movie.0.windows(4).position(|bytes| bytes == b"btrt").unwrap();
    movie.0[at..at + 16].copy_from_slice(b"colrnclx\0\x09\0\x10\0\x01\x80\0");
    assert!(movie.both("flags of the file").pixels != plain.pixels);
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    fs::write(&path, &movie.0).unwrap();
    let said = Reader::open(&path, &ALONE).unwrap().notices().concat();
    assert!(said.contains("PQ"), "{said}");
}

#[test]
fn rates_are_fractions_that_every_format_holds() {
    let clip = Movie::read(&file("vfr_fine_ticks.mp4")).both("fine ticks");
    assert_eq!((clip.frames, clip.fps), (17, FrameRate::new(10, 1).unwrap()));
    let mut movie = Movie::read(&file("rot90.mp4"));
    // Unusual ticks: 512 ticks are a frame.
    for (ticks, rate) in [(12_289, "12289/512"), (500_009, "976.58"), (1_000_003, "none"), (512, "1")] {
        let clip = movie.set(b"mdhd", &[(3, ticks)]).set(b"elst", &[(2, 0)]).alone();
        assert!(clip.fps.numerator() <= 65_535 && clip.fps.denominator() <= 1001, "{rate}: {:?}", clip.fps);
        let exact = f64::from(ticks) / 512.0;
        let expected = if exact > 1000.0 { 24.0 } else { exact };
        assert!((clip.fps.as_f64() - expected).abs() < 1e-3 * expected, "{:?} for {exact}", clip.fps);
    }
}

#[test]
fn hdr_is_read_with_a_warning() {
    let folder = tempdir().unwrap();
    let (source, coded) = (folder.path().join("a.y4m"), folder.path().join("a.mp4"));
    osp::video::write_clip(&source, &super::smooth(2, 32, 48)).unwrap();
    for (transfer, matrix, kind) in
        [("smpte2084", "bt709", "PQ"), ("arib-std-b67", "bt2020nc", "HLG"), ("bt709", "bt2020nc", "BT.2020")]
    {
        let flags = ["-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", matrix];
        if run_ffmpeg(
            &[&["-i", "a.y4m", "-c:v", "libx264", "-pix_fmt", "yuv420p"], &flags[..], &["a.mp4"]].concat(),
            folder.path(),
        ) {
            for path in [&coded, &without_ftyp(&coded)] {
                let said = Reader::open(path, &ReadOptions::default()).unwrap().notices();
                assert!(said.len() == 1 && said[0].contains(kind), "{kind}: {said:?}");
            }
        }
    }
}

/// A copy that only ffmpeg reads.
fn without_ftyp(path: &Path) -> std::path::PathBuf {
    let mut bytes = fs::read(path).unwrap();
    bytes[4..8].copy_from_slice(b"free");
    let copy = path.with_extension("mov");
    fs::write(&copy, bytes).unwrap();
    copy
}

#[test]
fn unflagged_high_definition_is_bt709_both_ways() {
    let folder = tempdir().unwrap();
    osp::video::write_clip(&folder.path().join("a.y4m"), &super::smooth(2, 592, 32)).unwrap();
    if run_ffmpeg(&["-i", "a.y4m", "-c:v", "libx264", "-pix_fmt", "yuv420p", "a.mp4"], folder.path()) {
        Movie::read(&folder.path().join("a.mp4")).both("592 rows without flags");
    }
}

/// Every pair of values of B-frames, rate, colours and aspect ratio occurs; orientations alternate; each clip is read
/// whole and cut.
#[test]
fn clips_with_all_pairs_of_features_are_read_equally_both_ways() {
    let folder = tempdir().unwrap();
    osp::video::write_clip(&folder.path().join("a.y4m"), &super::smooth(14, 48, 64)).unwrap();
    let colours: [&[&str]; 3] = [
        &["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", "-color_range", "tv"],
        &["-vf", "scale=out_range=full", "-colorspace", "smpte170m", "-color_range", "pc"],
        &[],
    ];
    // The last filter keeps three of five frames, so intervals are one or two frames long.
    let rates: [(&str, &str); 3] = [("24", "null"), ("30000/1001", "null"), ("25", "select='lt(mod(n,5),3)'")];
    for make in 0..9 {
        let (row, column) = (make / 3, make % 3);
        let (b_frames, (rate, select), colours) = (["0", "1", "3"][row], rates[column], colours[(row + column) % 3]);
        let (aspect, orientation) = (["1/1", "2/1", "8/9"][(2 * row + column) % 3], make % 8 + 1);
        let filters = match colours {
            [_, scale, ..] => format!("{select},{scale},setsar={aspect}"),
            _ => format!("{select},setsar={aspect}"),
        };
        let mut args = vec!["-r", rate, "-i", "a.y4m", "-vf", &filters, "-vsync", "vfr", "-pix_fmt", "yuv420p"];
        args.extend(["-c:v", "libx264", "-g", "6", "-b_strategy", "0", "-bf", b_frames]);
        args.extend(colours.get(2..).unwrap_or_default());
        args.push("a.mp4");
        if !run_ffmpeg(&args, folder.path()) {
            return;
        }
        let mut movie = Movie::read(&folder.path().join("a.mp4"));
        let (what, at) = (format!("{args:?}, orientation {orientation}"), edit(&movie));
        movie.turn(orientation);
        let whole = movie.both(&what);
        // A cut of the shown frames, from the fourth on.
        let ticks = i32::from_be_bytes(movie.0[mdhd(&movie)..][..4].try_into().unwrap());
        let rate = whole.fps.as_f64();
        let begin = at + (3.4 / rate * f64::from(ticks)) as i32;
        let part = movie.set(b"elst", &[(2, (5000.0 / rate) as i32), (3, begin)]).both(&format!("{what}, cut"));
        assert!(part.frames > 2 && part.frames < whole.frames, "{what}: {} of {}", part.frames, whole.frames);
    }
}

/// The offset of the ticks per second in the box `mdhd`.
fn mdhd(movie: &Movie) -> usize {
    movie.0.windows(4).position(|bytes| bytes == b"mdhd").unwrap() + 4 + 12
}

/// The media time of the first edit, in ticks.
fn edit(movie: &Movie) -> i32 {
    let at = movie.0.windows(4).position(|bytes| bytes == b"elst").unwrap() + 4 + 12;
    i32::from_be_bytes(movie.0[at..at + 4].try_into().unwrap())
}
