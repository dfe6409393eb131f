use super::{ALONE, from_fn, largest_difference, noise, smooth};
use osp::video::metrics::psnr;
use osp::video::{Clip, FrameRate, ReadOptions, Reader, read_clip, write_clip};
use std::fs;
use std::path::PathBuf;
use tempfile::{TempDir, tempdir};

/// Writes `clip` as `name` and reads it again.
fn there_and_back(clip: &Clip, name: &str) -> (Clip, TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let path = folder.path().join(name);
    write_clip(&path, clip).unwrap();
    (read_clip(&path, &ALONE).unwrap(), folder, path)
}

#[test]
fn folders_and_pngs_are_lossless() {
    for (frames, height, width) in [(1, 1, 1), (3, 7, 5), (12, 16, 24)] {
        let clip = noise(frames, height, width);
        assert!(there_and_back(&clip, "frames").0 == clip);
    }
    let clip = noise(1, 9, 4);
    assert!(there_and_back(&clip, "a.png").0 == clip);
}

#[test]
fn a_folder_names_frames_by_number() {
    let (_, _folder, path) = there_and_back(&noise(2, 2, 2), "frames/");
    let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["frame_00000.png", "frame_00001.png"]);
}

#[test]
fn y4m_is_as_exact_as_8_bit_luma_and_chroma_allow() {
    for (frames, height, width) in [(1, 1, 1), (3, 7, 5), (2, 16, 24)] {
        let clip = noise(frames, height, width);
        let (read, ..) = there_and_back(&clip, "a.y4m");
        assert!(largest_difference(&clip, &read) <= 3, "{}", largest_difference(&clip, &read));
        assert_eq!(read.fps, clip.fps);
    }
}

#[test]
fn greys_keep_their_level_in_y4m() {
    let clip = from_fn(1, 16, 16, |_, y, x, _| (y * 16 + x) as u8);
    assert!(largest_difference(&clip, &there_and_back(&clip, "a.y4m").0) <= 1);
}

#[test]
fn gifs_are_exact_up_to_256_colours_and_close_beyond() {
    let few = from_fn(3, 16, 16, |time, y, x, channel| ((y * 16 + x) / (channel + 1) + 40 * time) as u8);
    assert!(there_and_back(&few, "a.gif").0 == few);
    let many = smooth(20, 64, 48);
    let (read, ..) = there_and_back(&many, "a.gif");
    assert!(psnr(&many, &read).unwrap().frames.iter().all(|&score| score > 28.0));
    let pixel = noise(1, 1, 1);
    assert_eq!(there_and_back(&pixel, "a.gif").0, pixel);
}

#[test]
fn gifs_have_the_right_duration() {
    for (rate, frames) in [("24", 65), ("24", 2), ("30", 40), ("23.976", 48), ("12", 5), ("8", 3)] {
        let mut clip = from_fn(frames, 2, 2, |time, _, _, _| time as u8);
        clip.fps = rate.parse().unwrap();
        let (read, ..) = there_and_back(&clip, "a.gif");
        let seconds = |clip: &Clip| clip.frames as f64 / clip.fps.as_f64();
        assert!((seconds(&clip) - seconds(&read)).abs() <= 0.011, "{rate}: {} {}", seconds(&clip), seconds(&read));
        if !rate.contains('.') {
            assert_eq!(read.fps, clip.fps);
        }
    }
}

#[test]
fn mp4_frames_are_close_to_the_written_frames() {
    let clip = smooth(30, 64, 96);
    let (read, ..) = there_and_back(&clip, "a.mp4");
    assert_eq!(read.info(), clip.info());
    let scores = psnr(&clip, &read).unwrap();
    assert!(scores.frames.iter().all(|&score| score > 38.0), "{scores:?}");
}

#[test]
fn mp4_colours_are_neither_shifted_nor_swapped() {
    for colour in [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 120, 40]] {
        let clip = from_fn(3, 32, 32, |_, _, _, channel| colour[channel]);
        let (read, ..) = there_and_back(&clip, "a.mp4");
        assert!(largest_difference(&clip, &read) <= 4, "{colour:?} became {:?}", &read.pixels[..3]);
    }
}

#[test]
fn mp4_holds_one_frame_and_the_smallest_size() {
    let (read, ..) = there_and_back(&smooth(1, 16, 16), "a.mp4");
    assert_eq!((read.frames, read.height, read.width, read.fps), (1, 16, 16, FrameRate::default()));
}

#[test]
fn mp4_makes_odd_sizes_even_by_repeating_the_edge() {
    let clip = smooth(4, 37, 51);
    let (read, ..) = there_and_back(&clip, "a.mp4");
    assert_eq!((read.frames, read.height, read.width), (4, 38, 52));
    let repeated =
        from_fn(4, 38, 52, |time, y, x, channel| clip.frame(time)[(y.min(36) * 51 + x.min(50)) * 3 + channel]);
    assert!(psnr(&repeated, &read).unwrap().overall > 36.0);
}

#[test]
fn mp4_keeps_every_rate() {
    for rate in ["24", "23.976", "30000/1001", "7.5", "1/7", "1000", "0.001"] {
        let mut clip = smooth(2, 16, 16);
        clip.fps = rate.parse().unwrap();
        assert_eq!(there_and_back(&clip, "a.mp4").0.fps, clip.fps, "{rate}");
    }
}

#[test]
fn mp4_has_its_index_first_and_a_key_frame_every_two_seconds() {
    let (_, _folder, path) = there_and_back(&smooth(100, 16, 16), "a.mp4");
    let bytes = fs::read(path).unwrap();
    let find = |name: &[u8]| bytes.windows(4).position(|window| window == name).unwrap();
    assert!(find(b"ftyp") < find(b"moov") && find(b"moov") < find(b"mdat"));
    let mut words = bytes[find(b"stss") + 8..].chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
    let count = words.next().unwrap() as usize;
    let key_frames: Vec<u32> = words.take(count).collect();
    assert_eq!(key_frames[0], 1);
    assert!(key_frames.windows(2).all(|pair| pair[1] - pair[0] <= 48) && key_frames[count - 1] >= 53, "{key_frames:?}");
}

#[test]
fn mp4_of_noise_drops_no_frame() {
    let clip = noise(50, 48, 64);
    assert_eq!(there_and_back(&clip, "a.mp4").0.frames, 50);
}

#[test]
fn only_the_requested_frames_of_a_clip_are_read() {
    let clip = smooth(10, 32, 32);
    for name in ["a.mp4", "a.gif", "a.y4m", "frames"] {
        let (all, _folder, path) = there_and_back(&clip, name);
        let options = ReadOptions { start: 3, max_frames: Some(4), ..ALONE };
        let part = read_clip(&path, &options).unwrap();
        assert_eq!(part.pixels, all.pixels[3 * 32 * 32 * 3..7 * 32 * 32 * 3], "{name}");
        let rest = read_clip(&path, &ReadOptions { start: 8, max_frames: Some(4), ..ALONE }).unwrap();
        assert_eq!(rest.frames, 2, "{name}");
        let beyond = read_clip(&path, &ReadOptions { start: 11, ..ALONE }).unwrap_err().to_string();
        assert!(beyond.contains("10 frames"), "{beyond}");
        assert!(read_clip(&path, &ReadOptions { max_frames: Some(0), ..ALONE }).is_err());
        assert_eq!(Reader::open(&path, &ALONE).unwrap().map(Result::unwrap).collect::<Vec<_>>().concat(), all.pixels);
    }
}
