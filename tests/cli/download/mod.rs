//! `osp download` from a hub on this machine, which can misbehave.

mod certificates;
#[cfg(unix)]
mod cut;
mod hub;
mod huge;
mod lying;
mod redirects;
mod slow;
mod together;
mod tokens;

use crate::cli::{fails, names, osp};
use hub::{Hub, PARTIAL, TARGET, arrived, begin, finish, reply, send, weights};
use std::fs;

#[test]
fn only_the_files_that_the_engine_reads_are_downloaded() {
    let (hub, folder) = (Hub::well(), tempfile::tempdir().unwrap());
    let (code, stderr) = hub.download(folder.path(), &[]);
    assert_eq!(code, Some(0), "{stderr}");
    arrived(folder.path());
    assert_eq!(names(&folder.path().join("ORG/NAME")), ["vae"]);
    assert_eq!(hub.ranges(), [""]);
    // The second download transfers nothing. A file with other contents is downloaded again.
    hub.download(folder.path(), &[]);
    assert_eq!(hub.ranges().len(), 1);
    fs::write(folder.path().join(TARGET), vec![0; 5000]).unwrap();
    hub.download(folder.path(), &[]);
    arrived(folder.path());
    assert_eq!(hub.ranges().len(), 2);
}

#[test]
fn files_that_the_hub_does_not_send_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let lacks = Hub::storing(|_, stream| reply(stream, "404 Not Found", "", b"no"));
    let (code, stderr) = lacks.download(folder.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("check%20point.ckpt: the hub has no such model or file (404"), "{stderr}");
    let asks = Hub::with(|request, stream| match request.header("authorization") {
        "" if request.path != hub::STORED => reply(stream, "401 Unauthorized", "", b"").map(|()| true),
        _ => Ok(false),
    });
    let (code, stderr) = asks.download(folder.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("HF_TOKEN") && stderr.contains("401"), "{stderr}");
    let mut command = asks.command(folder.path(), &[]);
    let (code, stderr) = finish({
        command.env("HF_TOKEN", "secret");
        command
    });
    assert_eq!(code, Some(0), "{stderr}");
    arrived(folder.path());
    let well = Hub::well();
    let output =
        osp(folder.path()).env("HF_ENDPOINT", &well.endpoint).args(["download", "ORG/OTHER"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("ORG/OTHER"));
    let (_, stderr) = well.download(folder.path(), &["--only", "transformer"]);
    assert!(stderr.contains("transformer holds no files that the engine reads"), "{stderr}");
    for name in ["NAME", "a/b/c", "../b", "a/b?c", "/a"] {
        fails(folder.path(), &["download", name], 2, &[name, "ORG/NAME"]);
    }
}

#[test]
fn an_output_that_cannot_be_written_is_found_before_the_hub_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "precious").unwrap();
    // No server listens there.
    let endpoint = "http://127.0.0.1:9";
    for (output, code) in [("file", 2), ("file/model", 2), ("/proc/model", 1)] {
        let mut command = osp(folder.path());
        command.env("HF_ENDPOINT", endpoint).args(["download", "a/b", "-o", output]);
        let said = String::from_utf8(command.assert().code(code).get_output().stderr.clone()).unwrap();
        assert!(!said.contains("127.0.0.1") && said.contains(output.split('/').find(|part| !part.is_empty()).unwrap()));
    }
}

#[test]
fn a_file_with_a_wrong_hash_never_gets_its_final_name() {
    let hub = Hub::storing(|request, stream| {
        let mut damaged = weights();
        damaged[4321] ^= 1;
        send(stream, request, &damaged, usize::MAX)
    });
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr) = hub.download(folder.path(), &[]);
    assert_eq!(code, Some(5), "{stderr}");
    assert!(stderr.contains("check point.ckpt: has another hash") && stderr.contains("was deleted"), "{stderr}");
    assert_eq!(names(&folder.path().join("ORG/NAME/vae")), ["config.json"]);
    // A partial file of another file is detected, too, and does not disturb the next download.
    let hub = Hub::well();
    begin(folder.path(), &[7; 1234]);
    assert_eq!(hub.download(folder.path(), &[]).0, Some(5));
    assert!(!folder.path().join(PARTIAL).exists());
    assert_eq!(hub.download(folder.path(), &[]).0, Some(0));
    arrived(folder.path());
}
