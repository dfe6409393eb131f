//! Answers and files without an end, and files that no disk holds.

use super::hub::{Hub, SHA256, Stream, list};
use std::io;

/// Sends bytes until the client has enough, at most 1 GB.
fn endless(stream: &mut dyn Stream) -> io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
    (0..1000).try_for_each(|_| stream.write_all(&[b' '; 1_000_000]))
}

#[test]
fn a_list_without_an_end_is_not_read_to_it() {
    let hub = Hub::with(|_, stream| endless(stream).map(|()| true));
    let (code, said) = hub.download(tempfile::tempdir().unwrap().path(), &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("the answer has more than 16777216 bytes"), "{said}");
}

#[test]
fn a_head_without_an_end_is_not_read_to_it() {
    let hub = Hub::with(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nX: ")?;
        (0..1000).try_for_each(|_| stream.write_all(&[b'x'; 1_000_000])).map(|()| true)
    });
    let (code, said) = hub.download(tempfile::tempdir().unwrap().path(), &[]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("osp: error: cannot download") && said.contains("header"), "{said}");
}

#[test]
fn a_file_without_an_end_is_not_read_to_it() {
    let hub = Hub::storing(|_, stream| endless(stream));
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = hub.download(folder.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("longer than the 5000 bytes"), "{said}");
    let kept = std::fs::metadata(folder.path().join(super::hub::PARTIAL)).unwrap();
    assert!(kept.len() <= 5000);
}

#[test]
fn files_for_which_the_disk_has_no_room_are_not_begun() {
    for (size, words) in [(1 << 60, "but its disk has"), (u64::MAX, "larger than any disk")] {
        let hub = Hub::listing(list(SHA256, size));
        let folder = tempfile::tempdir().unwrap();
        let (code, said) = hub.download(folder.path(), &[]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(words), "{said}");
        assert_eq!(hub.requests().len(), 1);
        assert!(!folder.path().join("ORG").exists());
    }
}
