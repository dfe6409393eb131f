use super::smooth;
use osp::Error;
use osp::video::{Format, MAX_DESCRIPTION, Writer, description};
use png::text_metadata::{EncodableTextChunk, ITXtChunk, TEXtChunk, ZTXtChunk};
use proptest::prelude::*;
use std::fs;
use std::sync::LazyLock;
use tempfile::{NamedTempFile, tempdir};

const TEXT: &str = "{\"prompt\": \"円 🎈\"}\n";

/// A small file of each format with the description [`TEXT`].
static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = tempdir().unwrap();
    let write = |(name, frames)| {
        let (path, clip) = (folder.path().join(name), smooth(frames, 16, 16));
        let writer = Writer::create(&path, Format::from_path(&path).unwrap(), clip.info(), None).unwrap();
        let mut writer = writer.described(TEXT).unwrap();
        clip.iter().for_each(|frame| writer.push(frame).unwrap());
        writer.finish().unwrap();
        fs::read(path).unwrap()
    };
    [("a.mp4", 2), ("a.gif", 2), ("a.png", 1)].map(write).into()
});

/// The description of a file of `bytes`; `Err` with the reason of an error, which must be one line about the file.
fn of(bytes: &[u8]) -> Result<Option<String>, String> {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    description(file.path()).map_err(|error| {
        let text = error.to_string();
        assert!(matches!(error, Error::Media { .. }) && !text.contains('\n'), "{error:?}");
        text
    })
}

/// A PNG of a pixel with text chunks before and after the image.
fn png(before: Texts, after: Texts) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = png::Encoder::new(&mut bytes, 1, 1).write_header().unwrap();
    before.iter().for_each(|text| text.put(&mut writer));
    writer.write_image_data(&[7]).unwrap();
    after.iter().for_each(|text| text.put(&mut writer));
    writer.finish().unwrap();
    bytes
}

type Texts<'a> = &'a [&'a dyn Text];

trait Text {
    fn put(&self, writer: &mut png::Writer<&mut Vec<u8>>);
}

impl<T: EncodableTextChunk> Text for T {
    fn put(&self, writer: &mut png::Writer<&mut Vec<u8>>) {
        writer.write_text_chunk(self).unwrap();
    }
}

fn compressed(text: &str) -> ITXtChunk {
    let mut chunk = ITXtChunk::new("Comment", text);
    chunk.compressed = true;
    chunk.language_tag = "ja".into();
    chunk
}

#[test]
fn each_kind_of_text_of_a_png_is_read() {
    let (plain, packed) = (TEXtChunk::new("Comment", "café"), ZTXtChunk::new("Comment", "thé"));
    let other = ITXtChunk::new("Title", "no comment");
    let cases: [(Texts, Texts, Option<&str>); 8] = [
        (&[&plain], &[], Some("café")),
        (&[&packed], &[], Some("thé")),
        (&[&compressed(TEXT)], &[], Some(TEXT)),
        (&[&packed, &plain, &other, &compressed(TEXT)], &[], Some(TEXT)),
        (&[&packed, &plain], &[], Some("café")),
        (&[&other], &[&plain], Some("café")),
        (&[&other], &[], None),
        (&[], &[], None),
    ];
    for (before, after, expected) in cases {
        assert_eq!(of(&png(before, after)).unwrap().as_deref(), expected);
    }
}

#[test]
fn texts_that_are_too_long_are_refused() {
    let long = "x".repeat(MAX_DESCRIPTION + 1);
    let limit = MAX_DESCRIPTION.to_string();
    // 64 MiB that are packed into 64 kB, and chunks larger than all memory that the decoder may take.
    let (bomb, huge) = ("x".repeat(1 << 26), "x".repeat(1 << 25));
    for bytes in [
        png(&[&ITXtChunk::new("Comment", long.as_str())], &[]),
        png(&[&TEXtChunk::new("Comment", long.as_str())], &[]),
        png(&[&compressed(&bomb)], &[]),
        png(&[&ZTXtChunk::new("Comment", bomb.as_str())], &[]),
        gif(long.as_bytes()),
        mp4(long.as_bytes()),
    ] {
        assert!(of(&bytes).unwrap_err().contains(&limit));
    }
    for keyword in ["Comment", "Title"] {
        assert!(of(&png(&[&ITXtChunk::new(keyword, huge.as_str())], &[])).unwrap_err().contains("memory"));
    }
    let longest = &long[1..];
    for bytes in [gif(longest.as_bytes()), mp4(longest.as_bytes()), png(&[&compressed(longest)], &[])] {
        assert!(of(&bytes).unwrap().unwrap() == longest);
    }
}

fn gif(comment: &[u8]) -> Vec<u8> {
    let blocks = comment.chunks(255).flat_map(|block| [&[block.len() as u8], block].concat());
    b"GIF89a\x01\0\x01\0\0\0\0!\xfe".iter().copied().chain(blocks).chain(*b"\0;").collect()
}

fn mp4(comment: &[u8]) -> Vec<u8> {
    let boxed = |name: &[u8], contents: &[u8]| [&(contents.len() as u32 + 8).to_be_bytes(), name, contents].concat();
    let data = boxed(b"\xa9cmt", &boxed(b"data", &[b"\0\0\0\x01\0\0\0\0", comment].concat()));
    let meta = boxed(b"meta", &[b"\0\0\0\0", boxed(b"ilst", &data).as_slice()].concat());
    [boxed(b"ftyp", b"isom\0\0\0\0"), boxed(b"moov", &boxed(b"udta", &meta))].concat()
}

#[test]
fn bytes_that_are_not_text_are_refused() {
    for bytes in [gif(b"caf\xe9!"), mp4(b"caf\xe9!")] {
        let problem = of(&bytes).unwrap_err();
        assert!(problem.contains("expected UTF-8, found byte 0xe9 at 3 of 5"), "{problem}");
    }
}

#[test]
fn truncated_files_never_give_a_part_of_the_text() {
    for bytes in SAMPLES.iter() {
        assert_eq!(of(bytes).unwrap().unwrap(), TEXT);
        for length in 0..bytes.len() {
            if let Ok(Some(text)) = of(&bytes[..length]) {
                assert_eq!(text, TEXT, "{length} of {} bytes", bytes.len());
            }
        }
    }
}

#[test]
fn flipped_bits_never_panic() {
    for bytes in SAMPLES.iter() {
        let is_png = bytes.starts_with(b"\x89PNG");
        // Each byte has one of its bits flipped.
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            if let (Ok(Some(text)), true) = (of(&changed), is_png) {
                assert_eq!(text, TEXT, "a checksum protects the texts of a PNG");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_files_never_panic(
        which in 0..3usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = SAMPLES[which].clone();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let _ = of(&bytes);
        let _ = of(&bytes[..length.index(bytes.len())]);
    }

    #[test]
    fn lengths_in_files_are_not_trusted(
        which in 0..3usize,
        place in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![0u32, 1, 7, 8, 16, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]),
    ) {
        let mut bytes = SAMPLES[which].clone();
        let place = place.index(bytes.len() - 4);
        bytes[place..place + 4].copy_from_slice(&value.to_be_bytes());
        let _ = of(&bytes);
    }
}
