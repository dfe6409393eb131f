//! Connections that end early, and runs that do.

use super::hub::{Hub, PARTIAL, TARGET, arrived, begin, head, reply, send, weights};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A hub whose answers stop after this number of bytes of the weights.
fn cutting(count: usize) -> Hub {
    Hub::storing(move |request, stream| send(stream, request, &weights(), count))
}

#[test]
fn a_lost_connection_resumes_where_it_stopped() {
    let (hub, folder) = (cutting(1000), tempfile::tempdir().unwrap());
    let (code, stderr) = hub.download(folder.path(), &["-o", "ORG/NAME"]);
    assert_eq!(code, Some(0), "{stderr}");
    arrived(folder.path());
    let expected = ["", "bytes=1000-", "bytes=2000-", "bytes=3000-", "bytes=4000-"];
    assert_eq!(hub.ranges(), expected);
}

#[test]
fn downloaded_bytes_are_kept_for_the_next_run() {
    let (hub, folder) = (cutting(0), tempfile::tempdir().unwrap());
    begin(folder.path(), &weights()[..1234]);
    let (code, stderr) = hub.download(folder.path(), &[]);
    assert_eq!(code, Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap();
    for word in
        ["osp: error: cannot download", "check%20point.ckpt", "1234 of 5000 bytes are downloaded", "run it again"]
    {
        assert!(last.contains(word), "{stderr}");
    }
    assert!(!folder.path().join(TARGET).exists());
    let hub = Hub::well();
    assert_eq!(hub.download(folder.path(), &[]).0, Some(0));
    assert_eq!(hub.ranges(), ["bytes=1234-"]);
    arrived(folder.path());
}

#[test]
fn attempts_that_bring_next_to_nothing_come_to_an_end() {
    let (hub, folder) = (cutting(1), tempfile::tempdir().unwrap());
    let (code, stderr) = hub.download(folder.path(), &[]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("4 of 5000 bytes are downloaded"), "{stderr}");
    assert_eq!(hub.ranges().len(), 4);
}

#[test]
fn a_hub_that_takes_back_what_it_sent_comes_to_an_end() {
    // It never has the rest, and then begins again.
    let hub = Hub::storing(|request, stream| match request.start() {
        0 => send(stream, request, &weights(), 600),
        _ => reply(stream, "416 Range Not Satisfiable", "", b""),
    });
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr) = hub.download(folder.path(), &[]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("of 5000 bytes are downloaded") && hub.ranges().len() < 8, "{stderr}");
}

#[test]
fn a_server_without_ranges_or_a_partial_file_that_is_too_long_restarts_the_download() {
    let without = Hub::storing(|_, stream| {
        head(stream, "200 OK", "", 5000)?;
        stream.write_all(&weights())
    });
    for (hub, length) in [(without, 1234), (Hub::well(), 6000)] {
        let folder = tempfile::tempdir().unwrap();
        begin(folder.path(), &vec![7; length]);
        let (code, stderr) = hub.download(folder.path(), &[]);
        assert_eq!(code, Some(0), "{stderr}");
        arrived(folder.path());
    }
}

/// Starts a download of which 2,000 bytes arrive; then the hub says nothing more.
fn stalled(folder: &Path) -> Child {
    let hub = Hub::storing(|request, stream| {
        send(stream, request, &weights(), 2000)?;
        stream.flush()?;
        sleep(Duration::from_secs(60));
        Ok(())
    });
    let child = hub.command(folder, &[]).spawn().unwrap();
    let since = Instant::now();
    while fs::metadata(folder.join(PARTIAL)).map_or(0, |found| found.len()) < 2000 {
        assert!(since.elapsed() < Duration::from_secs(30), "the first bytes never came");
        sleep(Duration::from_millis(10));
    }
    child
}

fn ended_by(signal: &str, mut child: Child) -> (Option<i32>, String) {
    let status = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let since = Instant::now();
    let code = child.wait().unwrap().code();
    assert!(since.elapsed() < Duration::from_secs(10), "it waited for the hub");
    (code, std::io::read_to_string(child.stderr.take().unwrap()).unwrap())
}

#[test]
fn a_run_that_ends_while_the_hub_is_silent_keeps_what_came() {
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
        let folder = tempfile::tempdir().unwrap();
        let (found, said) = ended_by(signal, stalled(folder.path()));
        assert_eq!(found, code, "{signal}: {said}");
        assert!(fs::read(folder.path().join(PARTIAL)).unwrap() == weights()[..2000], "{signal}");
        assert!(!folder.path().join(TARGET).exists());
        let hub = Hub::well();
        assert_eq!(hub.download(folder.path(), &[]).0, Some(0));
        assert_eq!(hub.ranges(), ["bytes=2000-"], "{signal}");
        arrived(folder.path());
    }
}
