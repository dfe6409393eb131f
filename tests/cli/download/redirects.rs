//! Redirects that lead nowhere, or where nobody should go.

use super::hub::{Hub, redirect, reply};

/// What a download says of which each file is redirected to this address.
fn redirected(to: &'static str) -> (Option<i32>, String, usize) {
    let hub = Hub::with(move |request, stream| match request.path.ends_with("config.json") || request.path == to {
        true => redirect(stream, to).map(|()| true),
        false => Ok(false),
    });
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = hub.download(folder.path(), &[]);
    (code, said, hub.requests().len())
}

#[test]
fn addresses_that_are_no_web_addresses_are_refused_at_once() {
    for to in ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher:x", "config", "http://", ""] {
        let (code, said, requests) = redirected(to);
        assert_eq!((code, requests), (Some(1), 2), "{said}");
        assert!(said.contains("vae/config.json") && said.contains("redirects to no address (302"), "{said}");
    }
}

#[test]
fn redirects_in_circles_come_to_an_end() {
    let (code, said, requests) = redirected("/circle");
    assert_eq!((code, requests), (Some(1), 12), "{said}");
    assert!(said.contains("more than 10 redirects, the last to http://127.0.0.1"), "{said}");
}

#[test]
fn a_redirect_without_an_address_is_refused() {
    let hub = Hub::with(|_, stream| reply(stream, "304 Not Modified", "", b"").map(|()| true));
    let (code, said) = hub.download(tempfile::tempdir().unwrap().path(), &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("redirects to no address (304"), "{said}");
}
