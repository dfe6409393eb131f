//! A hub whose lists and answers are not what they claim.

use super::hub::{CONFIG, Hub, LIST, PARTIAL, SHA256, TARGET, begin, head, list, reply, weights};
use crate::cli::{contents, names};

/// What a download says if the hub's list is this.
fn listed(list: &str) -> (Option<i32>, String) {
    let hub = Hub::listing(list.to_owned());
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = hub.download(folder.path(), &[]);
    let files = contents(folder.path()).into_keys().filter(|path| path.is_file()).count();
    assert_eq!(files, 0, "{said}");
    (code, said)
}

#[test]
fn lists_that_make_no_sense_are_refused_before_a_file_is_asked_for() {
    let right = list(SHA256, 5000);
    let deep = "[".repeat(100_000);
    for (list, words) in [
        ("<html>", "not a list of files"),
        ("", "not a list of files"),
        (&deep, "not a list of files"),
        (&right[..right.len() / 2], "not a list of files"),
        (&right.replace("0123abcd", "../../api"), "of a commit \"../../api\""),
        (&right.replace("vae/config.json", "../vae/config.json"), "outside of the model"),
        (&right.replace("README.md", "\\u001b[2JREADME.md"), "strange name"),
        (&right.replace(SHA256, &SHA256[1..]), "expected 64 hexadecimal digits"),
        (&right.replace("README.md", "vae/config.json"), "vae/config.json twice"),
    ] {
        let (code, said) = listed(list);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.lines().count() == 1 && said.contains(words) && said.contains(LIST), "{said}");
        assert!(!said.trim_end().contains(char::is_control), "{said:?}");
    }
}

/// What a download says if the hub sends this for the weights, of which 1,000 bytes are there already.
fn stored(status: &'static str, range: &'static str, bytes: usize) -> (Option<i32>, String) {
    let hub = Hub::storing(move |_, stream| {
        head(stream, status, range, bytes)?;
        stream.write_all(&vec![7; bytes])
    });
    let folder = tempfile::tempdir().unwrap();
    begin(folder.path(), &weights()[..1000]);
    let (code, said) = hub.download(folder.path(), &[]);
    assert!(!folder.path().join(TARGET).exists());
    (code, said)
}

#[test]
fn another_range_than_requested_is_not_appended() {
    for range in [
        "",
        "Content-Range: bytes 999-4999/5000\r\n",
        "Content-Range: bytes 1000-4999/9000\r\n",
        "Content-Range: bytes */5000\r\n",
        "Content-Range: pages 1000-4999/5000\r\n",
    ] {
        let (code, said) = stored("206 Partial Content", range, 4000);
        assert_eq!(code, Some(1), "{range}");
        assert!(said.contains("another range than requested"), "{said}");
    }
}

#[test]
fn more_or_fewer_bytes_than_the_list_says_are_an_error() {
    let (code, said) = stored("200 OK", "", 5001);
    assert_eq!(code, Some(1));
    assert!(said.contains("longer than the 5000 bytes"), "{said}");
    let (code, said) = stored("200 OK", "", 4999);
    assert_eq!(code, Some(1));
    assert!(said.contains("4999 of 5000 bytes"), "{said}");
    // Of the right length, but other bytes.
    let (code, said) = stored("206 Partial Content", "Content-Range: bytes 1000-4999/5000\r\n", 4000);
    assert_eq!(code, Some(5));
    assert!(said.contains("another hash"), "{said}");
}

#[test]
fn a_file_for_which_the_list_has_another_size_never_gets_its_name() {
    for size in [4999, 5001] {
        let hub = Hub::listing(list(SHA256, size));
        let folder = tempfile::tempdir().unwrap();
        let (code, said) = hub.download(folder.path(), &[]);
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(names(&folder.path().join("ORG/NAME/vae")), ["check point.ckpt.partial", "config.json"]);
    }
}

#[test]
fn a_config_of_the_right_length_with_other_bytes_is_refused() {
    let hub = Hub::with(|request, stream| match request.path == super::hub::SMALL {
        true => reply(stream, "200 OK", "", CONFIG.to_uppercase().as_bytes()).map(|()| true),
        false => Ok(false),
    });
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = hub.download(folder.path(), &[]);
    assert_eq!(code, Some(5));
    assert!(said.contains("another hash") && !folder.path().join(PARTIAL).exists(), "{said}");
}
