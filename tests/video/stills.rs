//! Pillow made the files. `exif6.jpg` is a ramp of 96x64 pixels with the orientation of a turned camera. `animated.png`
//! and `animated.webp` have nine frames of 64x64 of 42 ms each. Half of `hidden_colour.png` is transparent magenta.

use super::{ALONE, file, from_fn, has_ffmpeg, noise, run_ffmpeg};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, RgbImage};
use osp::video::{Clip, FrameRate, ReadOptions, read_clip, write_clip};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

/// An Exif block with only this orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let entry = [1, 0, 0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0, 0, 0, 0, 0];
    [&b"II*\0\x08\0\0\0"[..], &entry].concat()
}

#[test]
fn images_of_every_format_come_upright() {
    let folder = tempdir().unwrap();
    let (stored, path) = (noise(1, 16, 24), folder.path().join("a.image"));
    let upright = |orientation| {
        let mut image = DynamicImage::ImageRgb8(RgbImage::from_raw(24, 16, stored.pixels.clone()).unwrap());
        image.apply_orientation(Orientation::from_exif(orientation).unwrap());
        (image.width() as usize, image.height() as usize, image.into_bytes())
    };
    for orientation in 1..=8 {
        let (width, height, expected) = upright(orientation);
        let write = |mut encoder: Box<dyn DynEncoder>| {
            encoder.exif(exif(orientation));
            encoder.write(&stored.pixels, 24, 16);
        };
        let create = || fs::File::create(&path).unwrap();
        for format in ["png", "webp", "jpeg"] {
            match format {
                "png" => write(Box::new(Some(PngEncoder::new(create())))),
                "webp" => write(Box::new(Some(WebPEncoder::new_lossless(create())))),
                _ => write(Box::new(Some(JpegEncoder::new_with_quality(create(), 100)))),
            }
            let read = read_clip(&path, &ALONE).unwrap();
            assert_eq!((read.width, read.height), (width, height), "{format} {orientation}");
            let lossless = format != "jpeg";
            assert!(!lossless || read.pixels == expected, "{format} {orientation}");
        }
    }
    let clip = read_clip(&file("exif6.jpg"), &ALONE).unwrap();
    assert_eq!((clip.width, clip.height), (64, 96));
    // Stored, red grows to the right and green grows downwards. Upright, red grows downwards and green to the left.
    let at = |x: usize, y: usize| [0, 1].map(|channel| clip.pixels[(y * 64 + x) * 3 + channel]);
    assert!(at(32, 90)[0] > at(32, 5)[0] + 150 && at(4, 48)[1] > at(60, 48)[1] + 150);
}

/// A common interface of the image encoders.
trait DynEncoder {
    fn exif(&mut self, exif: Vec<u8>);
    fn write(&mut self, rgb: &[u8], width: u32, height: u32);
}

impl<E: ImageEncoder> DynEncoder for Option<E> {
    fn exif(&mut self, exif: Vec<u8>) {
        self.as_mut().unwrap().set_exif_metadata(exif).unwrap();
    }

    fn write(&mut self, rgb: &[u8], width: u32, height: u32) {
        self.take().unwrap().write_image(rgb, width, height, ExtendedColorType::Rgb8).unwrap();
    }
}

/// Checks the moving ramp of the animated files: it is 8 columns further in each frame.
fn assert_is_ramp(clip: &Clip) {
    assert_eq!((clip.frames, clip.height, clip.width), (9, 64, 64));
    assert!((0..8).all(|time| clip.frame(time) != clip.frame(time + 1)));
    for (time, frame) in clip.iter().enumerate() {
        for (pixel, rgb) in frame.chunks_exact(3).enumerate() {
            let green = (pixel / 64 * 255 + 32) / 63;
            assert!(
                usize::from(rgb[1]).abs_diff(green) <= 4 && rgb[0].abs_diff(255 - rgb[2]) <= 4,
                "{time} {pixel}: {rgb:?}"
            );
        }
    }
    assert!((clip.fps.as_f64() - 1.0 / 0.042).abs() < 0.01, "{}", clip.fps);
}

#[test]
fn animated_png_and_webp_have_all_frames_and_their_rate() {
    assert_is_ramp(&read_clip(&file("animated.png"), &ALONE).unwrap());
    assert_is_ramp(&read_clip(&file("animated.webp"), &ALONE).unwrap());
}

/// A PNG of these chunks.
fn png(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, contents) in chunks {
        let named = [&name[..], contents].concat();
        bytes.extend((contents.len() as u32).to_be_bytes());
        bytes.extend(&named);
        bytes.extend(crc(&named).to_be_bytes());
    }
    bytes
}

fn crc(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), step))
}

/// Rows of RGBA pixels as a zlib stream without compression.
fn stored(width: usize, rgba: &[[u8; 4]]) -> Vec<u8> {
    let rows: Vec<u8> = rgba.chunks(width).flat_map(|row| [&[0][..], row.as_flattened()].concat()).collect();
    let (a, b) = rows
        .iter()
        .fold((1u32, 0), |(a, b), &byte| ((a + u32::from(byte)) % 65_521, (b + a + u32::from(byte)) % 65_521));
    let length = rows.len() as u16;
    [&[0x78, 0x01, 0x01][..], &length.to_le_bytes(), &(!length).to_le_bytes(), &rows, &(b << 16 | a).to_be_bytes()]
        .concat()
}

/// (number, [width, height, x, y], milliseconds, dispose, blend) of a frame.
fn control((number, place, milliseconds, dispose, blend): (u32, [u32; 4], u16, u8, u8)) -> Vec<u8> {
    let place = place.map(u32::to_be_bytes).concat();
    [&number.to_be_bytes()[..], &place, &milliseconds.to_be_bytes(), &1000u16.to_be_bytes(), &[dispose, blend]].concat()
}

#[test]
fn an_animated_png_follows_its_dispose_and_blend_operations() {
    const RED: [u8; 4] = [255, 0, 0, 255];
    const BLUE: [u8; 4] = [0, 0, 255, 255];
    const HALF_GREEN: [u8; 4] = [0, 255, 0, 128];
    let data = |number: u32, pixels: Vec<u8>| [&number.to_be_bytes()[..], &pixels].concat();
    let header = [&[0, 0, 0, 2, 0, 0, 0, 1][..], &[8, 6, 0, 0, 0]].concat();
    // Two pixels. Frames: red, which stays; a half-transparent green over the right pixel, disposed to previous; blue
    // on the left, disposed to background; a green that replaces; red on the left, disposed to background; blue on the
    // right.
    let bytes = png(&[
        (b"IHDR", header),
        (b"acTL", [6u32, 0].map(u32::to_be_bytes).concat()),
        (b"fcTL", control((0, [2, 1, 0, 0], 50, 0, 0))),
        (b"IDAT", stored(2, &[RED, RED])),
        (b"fcTL", control((1, [1, 1, 1, 0], 50, 2, 1))),
        (b"fdAT", data(2, stored(1, &[HALF_GREEN]))),
        (b"fcTL", control((3, [1, 1, 0, 0], 50, 1, 0))),
        (b"fdAT", data(4, stored(1, &[BLUE]))),
        (b"fcTL", control((5, [1, 1, 1, 0], 0, 0, 0))),
        (b"fdAT", data(6, stored(1, &[HALF_GREEN]))),
        (b"fcTL", control((7, [1, 1, 0, 0], 50, 2, 0))),
        (b"fdAT", data(8, stored(1, &[RED]))),
        (b"fcTL", control((9, [1, 1, 1, 0], 50, 0, 0))),
        (b"fdAT", data(10, stored(1, &[BLUE]))),
        (b"IEND", Vec::new()),
    ]);
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.png");
    fs::write(&path, bytes).unwrap();
    let clip = read_clip(&path, &ALONE).unwrap();
    let frames: Vec<_> = clip.iter().map(<[u8]>::to_vec).collect();
    assert_eq!(frames[0], [255, 0, 0, 255, 0, 0]);
    assert!(frames[1][..3] == [255, 0, 0] && frames[1][3].abs_diff(127) <= 1 && frames[1][4].abs_diff(128) <= 1);
    assert_eq!(frames[2], [0, 0, 255, 255, 0, 0]);
    assert_eq!(frames[3], [0, 0, 0, 0, 128, 0]);
    assert_eq!(frames[4], [255, 0, 0, 0, 128, 0]);
    assert_eq!(frames[5], [0, 0, 0, 0, 0, 255]);
    // Five frames of 50 ms, and one with the duration 0, which counts as a tenth of a second.
    assert_eq!((clip.frames, clip.fps), (6, FrameRate::new(120, 7).unwrap()));
}

#[test]
fn transparent_pixels_are_black_and_half_transparent_ones_are_blended() {
    let clip = read_clip(&file("hidden_colour.png"), &ALONE).unwrap();
    let stored = image::open(file("hidden_colour.png")).unwrap().into_rgba8();
    let hidden = stored.pixels().zip(clip.pixels.chunks_exact(3)).filter(|(stored, _)| stored.0[3] == 0);
    let hidden: Vec<_> = hidden.collect();
    assert!(hidden.len() == 3072 && hidden.iter().all(|(stored, shown)| stored.0[0] == 255 && *shown == [0, 0, 0]));
    let folder = tempdir().unwrap();
    let rgba = [[200, 100, 50, 255], [200, 100, 50, 128], [200, 100, 50, 0]];
    for name in ["a.png", "a.webp"] {
        let path = folder.path().join(name);
        image::save_buffer(&path, rgba.as_flattened(), 3, 1, ExtendedColorType::Rgba8).unwrap();
        assert_eq!(read_clip(&path, &ALONE).unwrap().pixels, [200, 100, 50, 100, 50, 25, 0, 0, 0], "{name}");
    }
}

#[test]
fn ffmpeg_puts_transparent_video_onto_black_too() {
    let folder = tempdir().unwrap();
    let rgba: Vec<u8> = (0..32 * 32).flat_map(|pixel| [200, 100, 50, if pixel % 32 < 16 { 0 } else { 128 }]).collect();
    image::save_buffer(folder.path().join("a.png"), &rgba, 32, 32, ExtendedColorType::Rgba8).unwrap();
    for (name, codec) in [("a.mov", "png"), ("b.mov", "qtrle"), ("c.mkv", "ffv1"), ("d.webm", "libvpx-vp9")] {
        if run_ffmpeg(&["-i", "a.png", "-c:v", codec, name], folder.path()) {
            let clip = read_clip(&folder.path().join(name), &ReadOptions::default()).unwrap();
            for (pixel, rgb) in clip.pixels.chunks_exact(3).enumerate() {
                let meant = if pixel % 32 < 16 { [0, 0, 0] } else { [100, 50, 25] };
                assert!(rgb.iter().zip(meant).all(|(&found, meant)| found.abs_diff(meant) <= 6), "{codec}: {rgb:?}");
            }
        }
    }
}

#[test]
fn companion_files_of_desktop_systems_are_ignored() {
    let folder = tempdir().unwrap();
    for (name, level) in ["fr0.png", "fr1.png"].iter().zip(1..) {
        write_clip(&folder.path().join(name), &from_fn(1, 2, 2, |_, _, _, _| level)).unwrap();
    }
    for name in ["._fr0.png", ".DS_Store", "Thumbs.db", ".hidden.jpg", "desktop.ini"] {
        fs::write(folder.path().join(name), b"\0\x05\x16\x07\0\x02\0\0Mac OS X").unwrap();
    }
    let clip = read_clip(folder.path(), &ALONE).unwrap();
    assert_eq!(clip.iter().map(|frame| frame[0]).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn an_animation_in_a_folder_counts_as_its_first_frame() {
    let folder = tempdir().unwrap();
    let first = |name: &str| {
        let path = folder.path().join(name);
        fs::copy(file(name), &path).unwrap();
        let all = read_clip(&path, &ALONE).unwrap();
        let clip = read_clip(folder.path(), &ALONE).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(clip.frames == 1 && clip.pixels == all.frame(0), "{name}");
    };
    first("animated.png");
    first("animated.webp");
}

#[test]
fn avif_is_read_through_ffmpeg_or_named() {
    let path = file("still.avif");
    let said = super::problem(&path);
    assert!(said.contains("AVIF image") && !said.contains("damaged"), "{said}");
    match read_clip(&path, &ReadOptions::default()) {
        Ok(clip) => assert_eq!((clip.frames, clip.height, clip.width, clip.fps), (1, 64, 64, FrameRate::default())),
        Err(problem) => {
            let said = problem.to_string();
            assert!(said.contains("AVIF image") && said.contains("ffmpeg") && !said.contains("moov"), "{said}");
            assert!(has_ffmpeg() || said.contains("install ffmpeg"), "{said}");
        }
    }
}

#[test]
fn heic_is_named() {
    let folder = tempdir().unwrap();
    let path: &Path = &folder.path().join("a.heic");
    for (brands, name) in
        [("mif1....mif1heic", "HEIC"), ("heix....mif1", "HEIC"), ("mif1....miaf", "HEIF"), ("avis....", "AVIF")]
    {
        let size = (brands.len() as u32 + 8).to_be_bytes();
        fs::write(path, [&size[..], b"ftyp", brands.as_bytes(), b"\0\0\0\x0cmeta\0\0\0\0"].concat()).unwrap();
        let said = super::problem(path);
        assert!(said.contains(name) && !said.contains("damaged"), "{said}");
    }
}
