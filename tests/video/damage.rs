use super::{ALONE, file, problem, smooth};
use osp::Error;
use osp::video::{ReadOptions, read_clip, write_clip};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::tempdir;

/// A small file of each format, with its number of frames.
static SAMPLES: LazyLock<Vec<(Vec<u8>, usize)>> = LazyLock::new(|| {
    let folder = tempdir().unwrap();
    let write = |(name, frames)| {
        let path = folder.path().join(name);
        write_clip(&path, &smooth(frames, 16, 32)).unwrap();
        (fs::read(path).unwrap(), frames)
    };
    let mut samples: Vec<_> = [("a.mp4", 6), ("a.gif", 3), ("a.png", 1), ("a.y4m", 2)].map(write).into();
    let jpeg = folder.path().join("a.jpg");
    image::save_buffer(&jpeg, &smooth(1, 16, 32).pixels, 32, 16, image::ExtendedColorType::Rgb8).unwrap();
    samples.push((fs::read(jpeg).unwrap(), 1));
    for (name, frames) in
        [("b_frames.mp4", 14), ("animated.png", 9), ("animated.webp", 9), ("trimmed.mp4", 30), ("joined.mp4", 18)]
    {
        samples.push((fs::read(file(name)).unwrap(), frames));
    }
    samples
});

/// Reads `bytes` as a file: the number of frames, or `None` for an error, which must be about the file.
fn read(bytes: &[u8]) -> Option<usize> {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, bytes).unwrap();
    match read_clip(&path, &ReadOptions { max_frames: Some(40), ..ALONE }) {
        Ok(clip) => Some(clip.frames),
        Err(Error::Media { .. }) => None,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn empty_files_and_folders_are_reported_as_empty() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    fs::write(&path, "").unwrap();
    assert!(problem(&path).contains("empty"));
    assert!(problem(folder.path()).contains(".png"), "a folder without images");
    assert!(matches!(read_clip(Path::new("/no/such/file.mp4"), &ALONE), Err(Error::Io { .. })));
}

#[test]
fn truncated_files_are_errors_or_have_fewer_frames() {
    for (bytes, frames) in SAMPLES.iter() {
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 200).chain(bytes.len() - 12..bytes.len()) {
            if let Some(read) = read(&bytes[..length]) {
                // The last bytes of a PNG hold no pixels, and Y4M may end after any frame.
                let harmless = bytes.starts_with(b"\x89P") && length >= bytes.len() - 12;
                assert!(harmless || read < *frames, "{length} of {} bytes gave {read} frames", bytes.len());
            }
        }
    }
}

#[test]
fn a_truncated_mp4_is_never_read() {
    for (bytes, _) in SAMPLES.iter().filter(|(bytes, _)| &bytes[4..8] == b"ftyp") {
        assert!((0..bytes.len()).step_by(7).all(|length| read(&bytes[..length]).is_none()));
    }
}

#[test]
fn sizes_in_headers_are_not_trusted() {
    let claims: [&[u8]; 6] = [
        b"YUV4MPEG2 W8192 H8192 F24:1 C444\nFRAME\nabc",
        b"YUV4MPEG2 W1000000000 H1000000000 F24:1 C444\nFRAME\nabc",
        b"YUV4MPEG2 W99999999999999999999 H1 F24:1\n",
        b"YUV4MPEG2 W0 H8\nFRAME\n",
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\xff\xff\xff\0\xff\xff\xff\x08\x06\0\0\0\0\0\0\0",
    ];
    for claim in claims {
        assert_eq!(read(claim), None, "{}", claim.escape_ascii());
    }
}

#[test]
fn counts_in_an_mp4_are_not_trusted() {
    let (bytes, _) = &SAMPLES[0];
    for name in [b"stts", b"stsc", b"stsz", b"stco", b"avcC", b"stsd", b"mdhd"] {
        let at = bytes.windows(4).position(|window| window == name).unwrap();
        for word in 0..5 {
            for value in [0u32, 1, 0x7fff_ffff, 0xffff_ffff] {
                let mut bytes = bytes.clone();
                let place = at + 4 + 4 * word;
                bytes[place..place + 4].copy_from_slice(&value.to_be_bytes());
                read(&bytes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn corrupted_files_never_panic(
        which in 0..10usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = SAMPLES[which].0.clone();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        read(&bytes);
    }

    #[test]
    fn random_bytes_are_not_read(
        magic in prop::sample::select(vec![
            &b""[..], b"RIFF\0\0\0\0WEBPVP8X", b"YUV4MPEG2 ", b"YUV4MPEG2 W4 H4 F24:1\nFRAME\n", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0",
            b"\0\0\0\x08ftyp\0\0\0\x40moov",
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [magic, rest.as_slice()].concat();
        // Any bytes are a valid Y4M frame; a frame of 4x4 in 4:2:0 has 24.
        let may_be_read = magic.ends_with(b"FRAME\n") && rest.len() >= 24;
        prop_assert!(may_be_read || read(&bytes).is_none());
    }
}
