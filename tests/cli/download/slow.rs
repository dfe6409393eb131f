//! A hub that answers slowly, or not at all.

use super::hub::{Hub, LIST, PARTIAL, TARGET, arrived, finish, send, weights};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Downloads with a patience of two seconds.
fn hastily(hub: &Hub, folder: &Path) -> (Option<i32>, String) {
    let mut command = hub.command(folder, &[]);
    command.env("HF_HUB_DOWNLOAD_TIMEOUT", "2");
    finish(command)
}

#[test]
fn a_hub_that_never_answers_is_given_up() {
    let hub = Hub::with(|request, _| {
        sleep(Duration::from_secs(if request.path == LIST { 60 } else { 0 }));
        Ok(true)
    });
    let (folder, since) = (tempfile::tempdir().unwrap(), Instant::now());
    let (code, stderr) = hastily(&hub, folder.path());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("the hub sent nothing for 2.0 s"), "{stderr}");
    assert!(since.elapsed() < Duration::from_secs(30));
    assert!(!folder.path().join("ORG").exists());
}

#[test]
fn a_hub_that_falls_silent_is_asked_again() {
    let hub = Hub::storing(|request, stream| {
        send(stream, request, &weights(), 2500)?;
        stream.flush()?;
        sleep(Duration::from_secs(60));
        Ok(())
    });
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr) = hastily(&hub, folder.path());
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(hub.ranges(), ["", "bytes=2500-"]);
    arrived(folder.path());
}

#[test]
fn a_hub_that_sends_a_byte_now_and_then_is_given_up() {
    // Each byte comes in time, but the file never would.
    let hub = Hub::storing(|request, stream| {
        send(stream, request, &weights(), 0)?;
        for byte in &weights()[request.start()..] {
            stream.write_all(&[*byte])?;
            stream.flush()?;
            sleep(Duration::from_millis(100));
        }
        Ok(())
    });
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr) = hastily(&hub, folder.path());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("the hub sent only") && stderr.contains("run it again to resume"), "{stderr}");
    assert_eq!(hub.ranges().len(), 4);
    let kept = std::fs::read(folder.path().join(PARTIAL)).unwrap();
    assert!(!kept.is_empty() && kept == weights()[..kept.len()] && !folder.path().join(TARGET).exists());
}
