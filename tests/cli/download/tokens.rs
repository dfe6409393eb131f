//! The token: only the hub gets it, and nobody reads it.

use super::hub::{Hub, Request, STORED, arrived, finish, redirect, reply, send, weights};
use std::path::Path;

const TOKEN: &str = "hf_secret";

fn with_token(hub: &Hub, folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = hub.command(folder, args);
    command.env("HF_TOKEN", TOKEN);
    finish(command)
}

fn tokens(requests: &[Request]) -> Vec<(&str, bool)> {
    let token = |request: &Request| match request.header("authorization") {
        "" => false,
        value => {
            assert_eq!(value, format!("Bearer {TOKEN}"));
            true
        }
    };
    requests.iter().map(|request| (request.path.as_str(), token(request))).collect()
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    // The weights lie on a host of another name.
    let (hub, folder) = (Hub::well(), tempfile::tempdir().unwrap());
    let (code, stderr) = with_token(&hub, folder.path(), &[]);
    assert_eq!(code, Some(0), "{stderr}");
    arrived(folder.path());
    let requests = hub.requests();
    assert_eq!(requests.len(), 5);
    for (path, token) in tokens(&requests) {
        assert_eq!(token, path != STORED, "{path}");
    }
}

#[test]
fn the_token_goes_to_no_other_port_and_comes_back_with_the_hub() {
    let storage = Hub::with(|request, stream| match request.path.as_str() {
        STORED => send(stream, request, &weights(), usize::MAX).map(|()| true),
        // To the hub that the path names.
        path => redirect(stream, path.split_once("?to=").unwrap().1).map(|()| true),
    });
    let stored = storage.endpoint.clone() + STORED;
    let hub = Hub::with(move |request, stream| match request.path.as_str() {
        path if path.ends_with(".ckpt") => {
            let back = format!("{stored}?to=http://127.0.0.1:{}/back", request.port);
            redirect(stream, &back).map(|()| true)
        }
        "/back" => redirect(stream, &stored).map(|()| true),
        _ => Ok(false),
    });
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr) = with_token(&hub, folder.path(), &[]);
    assert_eq!(code, Some(0), "{stderr}");
    arrived(folder.path());
    let (at_hub, at_storage) = (hub.requests(), storage.requests());
    assert!(tokens(&at_hub).iter().all(|(_, token)| *token), "{:?}", tokens(&at_hub));
    assert_eq!(at_storage.len(), 2);
    assert!(tokens(&at_storage).iter().all(|(_, token)| !token), "{:?}", tokens(&at_storage));
}

#[test]
fn no_error_says_the_token_or_a_signature() {
    for status in ["302 Found", "400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "500 Oh"] {
        let hub = Hub::with(move |request, stream| match request.path.as_str() {
            path if path.ends_with(".ckpt") => {
                redirect(stream, &format!("http://me:hunter2@localhost:{}/signed?signature=abc", request.port))
                    .map(|()| true)
            }
            // A hub may send back what it was sent.
            path if path.starts_with("/signed") => {
                let headers = format!("X-Token: {TOKEN}\r\nLocation: ftp://x/{TOKEN}\r\n");
                reply(stream, status, &headers, TOKEN.as_bytes()).map(|()| true)
            }
            _ => Ok(false),
        });
        let folder = tempfile::tempdir().unwrap();
        for args in [&[][..], &["--progress", "json"]] {
            let (code, said) = with_token(&hub, folder.path(), args);
            assert_eq!(code, Some(1), "{said}");
            for secret in [TOKEN, "hunter2", "signature"] {
                assert!(!said.contains(secret), "{said}");
            }
        }
    }
}

#[test]
fn settings_that_would_leak_or_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value, words) in [
        ("HF_ENDPOINT", "https://me:hunter2@hub.example", "holds a user's name"),
        ("HF_ENDPOINT", "http://hub.example", "HF_TOKEN is not sent to http://hub.example"),
        ("HF_ENDPOINT", "hub.example", "expected http(s)://HOST"),
        ("HF_TOKEN", "hunter2 hunter2", "HF_TOKEN holds characters"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "soon", "whole seconds from 1 to 3600"),
    ] {
        let mut command = Hub::well().command(folder.path(), &[]);
        command.env("HF_TOKEN", TOKEN).env(name, value);
        let (code, said) = finish(command);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(words) && !said.contains(TOKEN) && !said.contains("hunter2"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
