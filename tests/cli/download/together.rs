//! Two downloads of one file, and things that lie where a download would write.

use super::hub::{Hub, PARTIAL, arrived, send, weights};
use std::fs;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn of_two_downloads_of_a_file_one_goes_on_and_the_other_says_so() {
    // The first answer waits until it may go on.
    let (go, wait) = channel::<()>();
    let wait = Arc::new(Mutex::new(Some(wait)));
    let hub = Hub::storing(move |request, stream| {
        if let Some(wait) = wait.lock().unwrap().take() {
            let _ = wait.recv();
        }
        send(stream, request, &weights(), usize::MAX)
    });
    let folder = tempfile::tempdir().unwrap();
    let first = hub.command(folder.path(), &[]).spawn().unwrap();
    let since = Instant::now();
    while hub.ranges().is_empty() {
        assert!(since.elapsed() < Duration::from_secs(60), "the first download never asked");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (code, said) = hub.download(folder.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("check point.ckpt.partial") && said.contains("another process is downloading it"), "{said}");
    go.send(()).unwrap();
    assert!(first.wait_with_output().unwrap().status.success());
    arrived(folder.path());
    assert_eq!(hub.ranges().len(), 1);
}

#[cfg(unix)]
#[test]
fn a_link_or_a_pipe_where_the_partial_file_belongs_is_refused() {
    use std::os::unix::fs::symlink;
    use std::process::Command;
    let hub = Hub::well();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("ORG/NAME/vae")).unwrap();
    fs::write(folder.path().join("precious"), "precious").unwrap();
    let partial = folder.path().join(PARTIAL);
    for strange in ["link", "dangling link", "second name", "pipe", "folder"] {
        match strange {
            "link" => symlink(folder.path().join("precious"), &partial),
            "dangling link" => symlink(folder.path().join("new"), &partial),
            "second name" => fs::hard_link(folder.path().join("precious"), &partial),
            "pipe" => Command::new("mkfifo").arg(&partial).status().map(|done| assert!(done.success())),
            _ => fs::create_dir(&partial),
        }
        .unwrap();
        let (code, said) = hub.download(folder.path(), &[]);
        assert_eq!(code, Some(1), "{strange}: {said}");
        assert!(said.contains("check point.ckpt.partial") && said.contains("remove it"), "{strange}: {said}");
        if strange == "folder" { fs::remove_dir(&partial) } else { fs::remove_file(&partial) }.unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("precious")).unwrap(), "precious");
        assert!(!folder.path().join("new").exists());
    }
    assert_eq!(hub.download(folder.path(), &[]).0, Some(0));
    arrived(folder.path());
}
