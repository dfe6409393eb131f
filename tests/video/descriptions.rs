use super::{ALONE, file, has_ffmpeg, noise, run_ffmpeg, smooth};
use osp::Error;
use osp::video::{Clip, Format, MAX_DESCRIPTION, Writer, description, read_clip, write_clip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::{TempDir, tempdir};

/// Outputs that hold a description, with their numbers of frames.
const OUTPUTS: [(&str, usize); 4] = [("a.mp4", 20), ("a.gif", 20), ("a.png", 1), ("frames", 3)];
/// A text with everything that needs care.
const TEXT: &str = "{\"prompt\": \"ein “Kreis” – 円 🎈 \\\"é\\\"\",\r\n\t'seed': 7}\n";

fn write(path: &Path, clip: &Clip, text: &str) {
    let mut writer = start(path, clip).described(text).unwrap();
    clip.iter().for_each(|frame| writer.push(frame).unwrap());
    writer.finish().unwrap();
}

fn start(path: &Path, clip: &Clip) -> Writer {
    Writer::create(path, Format::from_path(path).unwrap(), clip.info(), Some(clip.frames)).unwrap()
}

/// The same clip without a description and with `text`, and the folder of both.
fn pair(name: &str, frames: usize, text: &str) -> (PathBuf, PathBuf, TempDir) {
    let folder = tempdir().unwrap();
    let [plain, described] = ["plain", "described"].map(|place| {
        fs::create_dir(folder.path().join(place)).unwrap();
        folder.path().join(place).join(name)
    });
    let clip = smooth(frames, 32, 48);
    write_clip(&plain, &clip).unwrap();
    write(&described, &clip, text);
    (plain, described, folder)
}

/// Writes `bytes` to a file and reads its description.
fn of(bytes: &[u8]) -> osp::Result<Option<String>> {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, bytes).unwrap();
    description(&path)
}

/// Where `part` begins in `bytes`.
fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("it is there")
}

#[test]
fn every_format_gives_back_the_text() {
    let long: String = TEXT.chars().cycle().take(100_000).collect();
    let longest = "x".repeat(MAX_DESCRIPTION);
    // 255 bytes fill a block of a GIF.
    let block = "y".repeat(255);
    for (name, frames) in OUTPUTS {
        for text in ["", TEXT, &block, &long, &longest] {
            let (plain, described, _folder) = pair(name, frames, text);
            let found = description(&described).unwrap();
            assert!(found.as_deref() == Some(text), "{name}: {} bytes", text.len());
            assert_eq!(description(&plain).unwrap(), None, "{name}");
            assert_eq!(read_clip(&described, &ALONE).unwrap(), read_clip(&plain, &ALONE).unwrap(), "{name}");
        }
    }
}

#[test]
fn formats_without_descriptions_have_none() {
    let (plain, described, _folder) = pair("a.y4m", 2, TEXT);
    assert_eq!(fs::read(&plain).unwrap(), fs::read(&described).unwrap());
    assert_eq!(description(&described).unwrap(), None);
    for name in ["browser.webm", "exif6.jpg", "animated.webp", "still.avif", "animated.png", "trimmed.mp4", "sound.mp4"]
    {
        assert_eq!(description(&file(name)).unwrap(), None, "{name}");
    }
    assert_eq!(of(b"plain text").unwrap(), None);
}

#[test]
fn an_mp4_gains_one_box() {
    let (plain, described, _folder) = pair("a.mp4", 20, TEXT);
    let mut expected = fs::read(plain).unwrap();
    let word = |bytes: &[u8], at: usize| u32::from_be_bytes(*bytes[at..].first_chunk().unwrap());
    let boxed = |name: &[u8], contents: &[u8]| [&(contents.len() as u32 + 8).to_be_bytes(), name, contents].concat();
    let data = boxed(b"data", &[b"\0\0\0\x01\0\0\0\0", TEXT.as_bytes()].concat());
    let handler = boxed(b"hdlr", b"\0\0\0\0\0\0\0\0mdirappl\0\0\0\0\0\0\0\0\0");
    let list = boxed(b"ilst", &boxed(b"\xa9cmt", &data));
    let user = boxed(b"udta", &boxed(b"meta", &[b"\0\0\0\0", &*handler, &list].concat()));
    let (index, offset) = (find(&expected, b"moov") - 4, find(&expected, b"stco") + 12);
    let size = word(&expected, index);
    for at in [index, offset] {
        let moved = word(&expected, at) + user.len() as u32;
        expected[at..at + 4].copy_from_slice(&moved.to_be_bytes());
    }
    let end = index + size as usize;
    expected.splice(end..end, user);
    assert!(fs::read(described).unwrap() == expected);
}

#[test]
fn a_gif_gains_one_extension_behind_its_loop() {
    let (plain, described, _folder) = pair("a.gif", 3, &TEXT.repeat(5));
    let mut expected = fs::read(plain).unwrap();
    let loops = b"NETSCAPE2.0\x03\x01\0\0\0";
    let end = find(&expected, loops) + loops.len();
    let blocks = TEXT.repeat(5).into_bytes();
    let blocks = blocks.chunks(255).flat_map(|block| [&[block.len() as u8], block].concat());
    let extension: Vec<u8> = b"\x21\xfe".iter().copied().chain(blocks).chain([0]).collect();
    expected.splice(end..end, extension);
    assert!(fs::read(described).unwrap() == expected);
}

#[test]
fn a_png_gains_one_chunk_before_its_image() {
    let (plain, described, folder) = pair("a.png", 1, TEXT);
    let (plain, described) = (fs::read(plain).unwrap(), fs::read(described).unwrap());
    let at = find(&plain, b"IDAT") - 4;
    let chunk = [b"iTXtComment\0\0\0\0\0", TEXT.as_bytes()].concat();
    let gained = 4 + chunk.len() + 4;
    assert_eq!(described.len(), plain.len() + gained);
    assert_eq!(described[..at], plain[..at]);
    assert_eq!(described[at..at + 4], (chunk.len() as u32 - 4).to_be_bytes());
    assert_eq!(described[at + 4..at + 4 + chunk.len()], chunk);
    assert!(described[at + gained..] == plain[at..]);
    // Without a description, the file is that of the image crate.
    let (image, clip) = (folder.path().join("image.png"), smooth(1, 32, 48));
    image::save_buffer(&image, &clip.pixels, 48, 32, image::ExtendedColorType::Rgb8).unwrap();
    assert!(fs::read(image).unwrap() == plain);
}

#[test]
fn a_folder_has_its_description_in_the_first_frame() {
    let (plain, described, _folder) = pair("frames", 3, TEXT);
    assert_eq!(description(&described.join("frame_00000.png")).unwrap().unwrap(), TEXT);
    for name in ["frame_00001.png", "frame_00002.png"] {
        assert_eq!(fs::read(plain.join(name)).unwrap(), fs::read(described.join(name)).unwrap());
    }
    fs::remove_file(described.join("frame_00000.png")).unwrap();
    assert_eq!(description(&described).unwrap(), None);
    for name in ["frame_00001.png", "frame_00002.png"] {
        fs::remove_file(described.join(name)).unwrap();
    }
    assert!(matches!(description(&described), Err(Error::Media { .. })), "a folder without images");
}

#[test]
fn equal_texts_make_equal_files() {
    for (name, frames) in &OUTPUTS[..3] {
        let files = [(); 2].map(|()| {
            let (_, described, _folder) = pair(name, *frames, TEXT);
            fs::read(described).unwrap()
        });
        assert!(files[0] == files[1], "{name}");
    }
}

#[test]
fn texts_that_a_video_cannot_hold_are_refused_before_any_frame() {
    let (folder, clip) = (tempdir().unwrap(), noise(2, 16, 16));
    for name in ["a.mp4", "a.gif", "a.y4m", "frames"] {
        let path = folder.path().join(name);
        let refused = |writer: Writer, text: &str| {
            let error = writer.described(text).map(drop).unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{name}: {error}");
            error.to_string()
        };
        assert!(refused(start(&path, &clip), &"x".repeat(MAX_DESCRIPTION + 1)).contains("1048577"));
        assert!(refused(start(&path, &clip), "ab\0").contains("byte 2"));
        let mut begun = start(&path, &clip);
        begun.push(clip.frame(0)).unwrap();
        assert!(refused(begun, "late").contains("before the first frame"));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let path = folder.path().join("a.gif");
    let mut writer = start(&path, &clip).described("first").unwrap().described("second").unwrap();
    writer.push(clip.frame(0)).unwrap();
    writer.finish().unwrap();
    assert_eq!(description(&path).unwrap().unwrap(), "second", "a later text replaces an earlier one");
}

#[test]
fn other_programs_read_descriptions() {
    for (name, frames) in [("a.mp4", 5), ("a.gif", 5)] {
        let (_, described, _folder) = pair(name, frames, TEXT);
        let args = ["-v", "error", "-show_entries", "format_tags=comment", "-of", "json"];
        let Ok(output) = Command::new("ffprobe").args(args).arg(described).output() else {
            eprintln!("skipped: no ffprobe");
            return;
        };
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["format"]["tags"]["comment"], TEXT, "{name}");
    }
}

#[test]
fn comments_of_other_programs_are_descriptions() {
    if !has_ffmpeg() {
        return;
    }
    let (plain, _, folder) = pair("a.mp4", 5, TEXT);
    for name in ["b.mp4", "b.mov", "b.gif"] {
        let path = folder.path().join(name);
        let (from, to) = (plain.to_str().unwrap(), path.to_str().unwrap());
        let copied: &[&str] = if name == "b.gif" { &[] } else { &["-c", "copy"] };
        let comment = format!("comment={TEXT}");
        if !run_ffmpeg(&[&["-i", from], copied, &["-metadata", &comment, to]].concat(), folder.path()) {
            return;
        }
        // ffmpeg's GIFs hold no metadata.
        let expected = (name != "b.gif").then_some(TEXT);
        assert_eq!(description(&path).unwrap().as_deref(), expected, "{name}");
    }
}
