//! `lossless.mp4` is H.264 of profile High 4:4:4 Predictive, `non_idr_start.mp4` begins with a frame that needs others,
//! `one_tick_vp9.mp4` is one frame of 1/90000 s, `browser.webm` has 17 frames with times in milliseconds and no rate,
//! `sound.mp4` has no video, and `encrypted.mp4` was encrypted by ffmpeg (cenc-aes-ctr).

use super::{ALONE, file, has_ffmpeg, problem, run_ffmpeg};
use osp::video::{FrameRate, ReadOptions, Reader, read_clip};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

/// The error of reading a file when ffmpeg may be used.
fn with_ffmpeg(name: &str) -> String {
    read_clip(&file(name), &ReadOptions::default()).expect_err("neither reader can read this file").to_string()
}

/// Checks that an error has no internal details of libraries.
#[track_caller]
fn plain(said: &str) {
    for word in ["Native", "Backtrace", "openh264", "0x", " @ "] {
        assert!(!said.contains(word), "{said}");
    }
}

#[test]
fn unsupported_h264_is_read_by_ffmpeg_or_named() {
    for (name, kind, frames) in
        [("lossless.mp4", "lossless", 5), ("non_idr_start.mp4", "cut out of a longer video", 36)]
    {
        let said = problem(&file(name));
        plain(&said);
        assert!(said.contains(kind) && said.contains("install ffmpeg"), "{said}");
        if has_ffmpeg() {
            assert_eq!(read_clip(&file(name), &ReadOptions::default()).unwrap().frames, frames, "{name}");
        }
    }
}

#[test]
fn an_error_in_the_middle_of_h264_says_what_to_do() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    let mut bytes = fs::read(file("trimmed.mp4")).unwrap();
    // The slice of the eighth coded frame becomes noise; lengths stay.
    let middle = bytes.windows(4).position(|name| name == b"mdat").unwrap() + 4000;
    bytes[middle..middle + 600].iter_mut().for_each(|byte| *byte = 0xa5);
    fs::write(&path, bytes).unwrap();
    let said = problem(&path);
    plain(&said);
    assert!(said.contains("at coded frame") && said.contains(" of 48"), "{said}");
}

#[test]
fn if_the_first_frame_cannot_be_decoded_ffmpeg_is_tried_and_its_concealment_is_a_notice() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    let mut bytes = fs::read(file("trimmed.mp4")).unwrap();
    // Its slice comes after 700 bytes with the encoder's settings.
    let first = bytes.windows(4).position(|name| name == b"mdat").unwrap() + 900;
    bytes[first..first + 200].iter_mut().for_each(|byte| *byte = 0xa5);
    fs::write(&path, bytes).unwrap();
    let said = problem(&path);
    plain(&said);
    assert!(said.contains("damaged, or coded in a way") && said.contains("install ffmpeg"), "{said}");
    if let Ok(mut reader) = Reader::open(&path, &ReadOptions::default()) {
        let is_error = reader.by_ref().any(|frame| frame.is_err());
        assert!(is_error || !reader.notices().is_empty());
    }
}

#[test]
fn variable_and_missing_rates_are_not_invented() {
    if !has_ffmpeg() {
        return;
    }
    let clip = read_clip(&file("browser.webm"), &ReadOptions::default()).unwrap();
    // 528 ms from the first frame to the last.
    assert_eq!((clip.frames, clip.fps), (17, FrameRate::new(1000, 33).unwrap()));
    let lone = read_clip(&file("one_tick_vp9.mp4"), &ReadOptions::default()).unwrap();
    assert_eq!((lone.frames, lone.fps), (1, FrameRate::default()));
}

#[test]
fn errors_give_the_reason_and_not_the_last_line_of_ffmpeg() {
    for (name, reason) in [("encrypted.mp4", "is encrypted"), ("sound.mp4", "has no video")] {
        for said in [problem(&file(name)), with_ffmpeg(name)] {
            plain(&said);
            assert!(said.contains(reason) && !said.contains("ffmpeg"), "{said}");
        }
    }
    if has_ffmpeg() {
        let folder = tempdir().unwrap();
        if run_ffmpeg(&["-f", "lavfi", "-i", "sine=d=0.2", "a.wav"], folder.path()) {
            let said = read_clip(&folder.path().join("a.wav"), &ReadOptions::default()).unwrap_err().to_string();
            plain(&said);
            assert!(said.contains("it has no video") && !said.contains("trailing"), "{said}");
        }
        for (name, bytes, reason) in [
            ("a.bin", &b"this is no video"[..], "of a format that ffmpeg does not know"),
            ("a.mkv", b"\x1aE\xdf\xa3 not to be decoded", "EBML header"),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let said = read_clip(&path, &ReadOptions::default()).unwrap_err().to_string();
            plain(&said);
            assert!(said.contains(reason) && !said.contains("Invalid data"), "{said}");
        }
    }
}

#[test]
fn warnings_of_a_successful_ffmpeg_are_notices() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.webm");
    let bytes = fs::read(file("browser.webm")).unwrap();
    fs::write(&path, &bytes[..5000]).unwrap();
    let mut reader = Reader::open(&path, &ReadOptions::default()).unwrap();
    assert!((1..17).contains(&reader.by_ref().filter(|frame| frame.is_ok()).count()));
    let said = reader.notices().concat();
    assert!(said.contains("reported: File ended prematurely"), "{said}");
}

#[test]
fn clips_without_loss_have_no_notices() {
    for name in ["b_frames.mp4", "joined.mp4", "animated.png", "exif6.jpg", "trimmed.mp4", "rot90.mp4"] {
        let mut reader = Reader::open(&file(name), &ALONE).unwrap();
        assert!(reader.by_ref().all(|frame| frame.is_ok()) && reader.notices().is_empty(), "{name}");
    }
}

#[test]
fn a_list_of_other_files_is_not_read() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempdir().unwrap();
    fs::copy(file("browser.webm"), folder.path().join("other.webm")).unwrap();
    let list = b"ffconcat version 1.0\nfile other.webm\n".to_vec();
    // ffmpeg also finds the list behind a tag of music.
    let tagged = [b"ID3\x03\0\0\0\0\0\x0a".to_vec(), vec![0; 10], list.clone()].concat();
    for bytes in [list, tagged] {
        let path = folder.path().join("list.mkv");
        fs::write(&path, bytes).unwrap();
        let said = read_clip(&path, &ReadOptions::default()).unwrap_err().to_string();
        assert!(said.contains("a list of other files"), "{said}");
    }
}

#[test]
fn a_gif_without_pixels_is_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/images/no_pixels.gif");
    let error = read_clip(&path, &ALONE).unwrap_err().to_string();
    assert!(error.contains("has frames of 0x0 pixels"), "{error}");
}
