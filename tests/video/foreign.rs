//! The files in `files/` were made with ffmpeg and x264 from plain colours, without their comments: `b_frames.mp4` has
//! 14 frames of 64x48, coded IBBBP…, High profile, BT.709; `full_range_bt601.mp4` one of (200, 60, 30); `ten_bits.mp4` is
//! High 10 profile.

use super::{ALONE, file, from_fn, largest_difference, noise, problem, smooth};
use osp::video::metrics::psnr;
use osp::video::{FrameRate, ReadOptions, read_clip, write_clip};
use std::fs;
use std::process::Command;
use tempfile::tempdir;

#[test]
fn b_frames_come_in_presentation_order() {
    let clip = read_clip(&file("b_frames.mp4"), &ALONE).unwrap();
    assert_eq!((clip.frames, clip.height, clip.width, clip.fps), (14, 48, 64, FrameRate::new(25, 1).unwrap()));
    let shown = from_fn(14, 48, 64, |time, _, _, channel| [20 + 15 * time as u8, 120, 230 - 15 * time as u8][channel]);
    assert!(largest_difference(&shown, &clip) <= 3, "{}", largest_difference(&shown, &clip));
    let part = read_clip(&file("b_frames.mp4"), &ReadOptions { start: 2, max_frames: Some(3), ..ALONE }).unwrap();
    assert_eq!(part.pixels, clip.pixels[2 * 48 * 64 * 3..5 * 48 * 64 * 3]);
}

#[test]
fn flagged_range_and_matrix_are_applied() {
    let clip = read_clip(&file("full_range_bt601.mp4"), &ALONE).unwrap();
    let meant = from_fn(1, 16, 32, |_, _, _, channel| [200, 60, 30][channel]);
    assert!(largest_difference(&meant, &clip) <= 2, "{:?}", &clip.pixels[..3]);
}

#[test]
fn h264_with_frames_larger_than_its_level_allows_is_read() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    // 300 macroblocks; level 1 allows 99.
    write_clip(&path, &smooth(3, 240, 320)).unwrap();
    let clip = read_clip(&path, &ALONE).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let configuration = bytes.windows(4).position(|window| window == b"avcC").unwrap() + 4;
    // The level is in the box and in the parameter set.
    for level in [configuration + 3, configuration + 8 + 3] {
        assert!(bytes[level] > 10, "level {}", bytes[level]);
        bytes[level] = 10;
    }
    fs::write(&path, bytes).unwrap();
    assert!(read_clip(&path, &ALONE).unwrap() == clip);
}

#[test]
fn unsupported_kinds_are_named_and_ffmpeg_is_recommended() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    let renamed = |from: &[u8; 4], to: &[u8; 4]| {
        let mut bytes = fs::read(file("b_frames.mp4")).unwrap();
        let at = bytes.windows(4).rposition(|window| window == from).unwrap();
        bytes[at..at + 4].copy_from_slice(to);
        fs::write(&path, bytes).unwrap();
        problem(&path)
    };
    let problems = [
        (problem(&file("ten_bits.mp4")), "10 bits"),
        (renamed(b"avc1", b"hvc1"), "hvc1"),
        (renamed(b"vide", b"pict"), "sequence of images"),
        (renamed(b"mvhd", b"mvex"), "fragments"),
    ];
    for (problem, reason) in problems {
        assert!(problem.contains(reason) && problem.contains("install ffmpeg"), "{problem}");
    }
}

/// Reads a Y4M file of one frame.
fn y4m(header: &str, planes: &[u8]) -> osp::Result<osp::video::Clip> {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.y4m");
    fs::write(&path, [format!("YUV4MPEG2 {header}\nFRAME\n").as_bytes(), planes].concat()).unwrap();
    read_clip(&path, &ALONE)
}

#[test]
fn y4m_chroma_is_interpolated_according_to_its_siting() {
    let luma = [[120; 6], [130; 6], [140; 6], [150; 6]].concat();
    // Blue-difference levels along a row, and red-difference levels down the rows, of a 6x4 frame.
    let (rising, falling) = ([100, 120, 140], [150, 110]);
    let cases = [
        ("C420jpeg", [100, 105, 115, 125, 135, 140], [150, 140, 120, 110]),
        ("C420mpeg2", [100, 110, 120, 130, 140, 140], [150, 140, 120, 110]),
    ];
    for (name, along, down) in cases {
        let read = y4m(
            &format!("W6 H4 F25:1 {name}"),
            &[&luma[..], &rising, &rising, &[falling[0]; 3], &[falling[1]; 3]].concat(),
        );
        let full: Vec<u8> = down.iter().flat_map(|&level| [level; 6]).collect();
        let expected = y4m("W6 H4 F25:1 C444", &[&luma[..], &along.repeat(4), &full].concat()).unwrap();
        assert!(largest_difference(&expected, &read.unwrap()) <= 1, "{name}");
    }
    let read = y4m("W6 H4 F25:1 C422", &[&luma[..], &rising.repeat(4), &[128; 12]].concat()).unwrap();
    let expected = y4m("W6 H4 F25:1 C444", &[&luma[..], &cases[1].1.repeat(4), &[128; 24]].concat()).unwrap();
    assert!(largest_difference(&expected, &read) <= 1);
}

#[test]
fn y4m_headers_decide_the_meaning_of_the_bytes() {
    let grey = y4m("W2 H1 Cmono F30000:1001 Ip A1:1", &[16, 235]).unwrap();
    assert_eq!(grey.pixels, [0, 0, 0, 255, 255, 255]);
    assert_eq!(grey.fps, "29.97".parse().unwrap());
    let full = y4m("W2 H1 Cmono XCOLORRANGE=FULL", &[16, 235]).unwrap();
    assert_eq!(full.pixels, [16, 16, 16, 235, 235, 235]);
    // BT.601: pure red is Y' = 81, Cb = 90, Cr = 240. Odd sizes have chroma samples for the last column and row.
    let red = y4m("W3 H3 F24:1", &[[81; 9].as_slice(), &[90; 4], &[240; 4]].concat()).unwrap();
    assert!(red.pixels.chunks(3).all(|rgb| rgb[0] >= 253 && rgb[1] <= 1 && rgb[2] <= 1), "{:?}", &red.pixels[..3]);
    assert_eq!(y4m("W2 H1 F0:0 Cmono", &[16, 235]).unwrap().fps, FrameRate::default(), "0:0 is unknown");
    let deep = y4m("W2 H2 C420p10", &[0; 12]).unwrap_err().to_string();
    assert!(deep.contains("C420p10") && deep.contains("ffmpeg"), "{deep}");
}

#[test]
fn folders_are_read_in_natural_order() {
    let folder = tempdir().unwrap();
    let names = ["a1.png", "a2.png", "a010.PNG", "a10.png", "a10b.png", "a99999999999999999999999.png", "b.png"];
    for (name, level) in names.iter().zip(0..) {
        write_clip(&folder.path().join(name), &from_fn(1, 2, 2, |_, _, _, _| level)).unwrap();
    }
    fs::write(folder.path().join("notes.txt"), "ignored").unwrap();
    let clip = read_clip(folder.path(), &ALONE).unwrap();
    assert_eq!(clip.iter().map(|frame| frame[0]).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(clip.fps, FrameRate::default());
}

#[test]
fn all_frames_of_a_folder_must_have_the_same_size() {
    let folder = tempdir().unwrap();
    write_clip(&folder.path().join("1.png"), &noise(1, 2, 2)).unwrap();
    write_clip(&folder.path().join("2.png"), &noise(1, 2, 3)).unwrap();
    let problem = problem(folder.path());
    assert!(problem.contains("2.png") && problem.contains("3x2") && problem.contains("1.png is 2x2"), "{problem}");
}

#[test]
fn the_content_decides_the_format_not_the_name() {
    let folder = tempdir().unwrap();
    let clip = noise(1, 8, 8);
    let path = folder.path().join("a.png");
    write_clip(&path, &clip).unwrap();
    fs::rename(&path, folder.path().join("a.mp4")).unwrap();
    assert_eq!(read_clip(&folder.path().join("a.mp4"), &ALONE).unwrap(), clip);
}

#[test]
fn jpegs_are_read() {
    let folder = tempdir().unwrap();
    let clip = smooth(1, 32, 48);
    let path = folder.path().join("a.jpg");
    image::save_buffer(&path, &clip.pixels, 48, 32, image::ExtendedColorType::Rgb8).unwrap();
    assert!(psnr(&clip, &read_clip(&path, &ALONE).unwrap()).unwrap().overall > 30.0);
}

#[test]
fn other_formats_are_read_through_ffmpeg_if_it_is_installed() {
    let folder = tempdir().unwrap();
    let (source, other) = (folder.path().join("a.y4m"), folder.path().join("a.mkv"));
    let clip = smooth(5, 48, 64);
    write_clip(&source, &clip).unwrap();
    fs::write(&other, b"\x1aE\xdf\xa3 not to be decoded").unwrap();
    assert!(problem(&other).contains("install ffmpeg"));
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-y", "-i"]).arg(&source).args(["-c:v", "ffv1"]).arg(&other);
    match ffmpeg.status() {
        Ok(status) if status.success() => {
            let read = read_clip(&other, &ReadOptions::default()).unwrap();
            assert_eq!(read.info(), clip.info());
            assert!(largest_difference(&clip, &read) <= 3);
            let part = read_clip(&other, &ReadOptions { start: 1, max_frames: Some(2), ffmpeg: true }).unwrap();
            assert_eq!(part.frames, 2);
        }
        _ => assert!(read_clip(&other, &ReadOptions::default()).unwrap_err().to_string().contains("install ffmpeg")),
    }
}
