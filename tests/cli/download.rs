//! `osp download` from a mock hub server on this machine, which can misbehave.

use crate::cli::{fails, names, osp};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// How the mock hub behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Well,
    /// Each answer stops after 1000 bytes of the weights.
    Cuts,
    /// The answer stops before the first byte of the weights.
    Stops,
    /// It ignores ranges.
    Whole,
    /// One byte of the weights differs from the listed hash.
    Damages,
    /// The weights are missing.
    Lacks,
    /// It asks for a token.
    Asks,
}

struct Hub {
    endpoint: String,
    /// Path and range of every request.
    requests: Arc<Mutex<Vec<String>>>,
}

/// The bytes of the weights.
fn weights() -> Vec<u8> {
    (0..5000u32).map(|i| (i * i % 251) as u8).collect()
}

const SHA256: &str = "660faa7089afce64fd1e9dd44cdbce136859740a4fe371c564b58687a67f7b8b";
const CONFIG: &str = "{\"_class_name\": \"CausalVAEModel\"}\n";
/// Git's hash of the config.
const BLOB: &str = "86e3f4618101648230f8df2a2b409407137d7af6";

impl Hub {
    fn new(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        // The thread ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // In some tests the client closes the connection.
                let _ = answer(&mut stream.unwrap(), manner, &log);
            }
        });
        Self { endpoint, requests }
    }

    /// Runs `osp download ORG/NAME` in `folder`.
    fn download(&self, folder: &Path, args: &[&str]) -> (Option<i32>, String) {
        let output =
            osp(folder).env("HF_ENDPOINT", &self.endpoint).args(["download", "ORG/NAME"]).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// The requested ranges of the weights.
    fn ranges(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter_map(|request| Some(request.split_once("/stored ")?.1.to_owned())).collect()
    }
}

fn answer(stream: &mut TcpStream, manner: Manner, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    let lines: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let path = lines[0].split(' ').nth(1).unwrap_or_default().to_owned();
    let header = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    log.lock().unwrap().push(format!("{path} {}", header("range: ")));
    match path.as_str() {
        "/stored" if !header("authorization: ").is_empty() => reply(stream, "400 Bad Request", "", b""),
        "/stored" => stored(stream, manner, &header("range: ")),
        _ if manner == Manner::Asks && header("authorization: ") != "Bearer secret" => {
            reply(stream, "401 Unauthorized", "", b"")
        }
        "/api/models/ORG/NAME/revision/main?blobs=true" => {
            let list = serde_json::json!({"sha": "0123abcd", "siblings": [
                {"rfilename": "README.md", "size": 10, "blobId": "00"},
                {"rfilename": "vae/config.json", "size": CONFIG.len(), "blobId": BLOB},
                {"rfilename": "vae/check point.ckpt", "size": 5000, "blobId": "00",
                 "lfs": {"sha256": SHA256, "size": 5000, "pointerSize": 130}},
            ]});
            reply(stream, "200 OK", "", list.to_string().as_bytes())
        }
        // The hub redirects small files within its host, and weights to another host.
        "/ORG/NAME/resolve/0123abcd/vae/config.json" => {
            reply(stream, "307 Temporary Redirect", "Location: /small\r\n", b"")
        }
        "/small" => reply(stream, "200 OK", "", CONFIG.as_bytes()),
        "/ORG/NAME/resolve/0123abcd/vae/check%20point.ckpt" => {
            let location = format!("Location: http://localhost:{}/stored\r\n", stream.local_addr()?.port());
            reply(stream, "302 Found", &location, b"")
        }
        _ => reply(stream, "404 Not Found", "", b"no"),
    }
}

/// Answers a request for the weights, or for a range of them.
fn stored(stream: &mut TcpStream, manner: Manner, range: &str) -> std::io::Result<()> {
    let mut weights = weights();
    let start = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
    match manner {
        Manner::Lacks => return reply(stream, "404 Not Found", "", b"no"),
        Manner::Damages => weights[4321] ^= 1,
        _ => {}
    }
    if start == 0 || manner == Manner::Whole {
        return send(stream, "200 OK", "", &weights, manner);
    }
    let range = format!("Content-Range: bytes {start}-4999/5000\r\n");
    send(stream, "206 Partial Content", &range, &weights[start..], manner)
}

/// Sends `bytes`, or the first of them if the manner stops early.
fn send(stream: &mut TcpStream, status: &str, headers: &str, bytes: &[u8], manner: Manner) -> std::io::Result<()> {
    let count = match manner {
        Manner::Cuts => bytes.len().min(1000),
        Manner::Stops => 0,
        _ => bytes.len(),
    };
    let length = bytes.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n")?;
    stream.write_all(&bytes[..count])
}

fn reply(stream: &mut TcpStream, status: &str, headers: &str, bytes: &[u8]) -> std::io::Result<()> {
    send(stream, status, headers, bytes, Manner::Well)
}

const TARGET: &str = "ORG/NAME/vae/check point.ckpt";
const PARTIAL: &str = "ORG/NAME/vae/check point.ckpt.partial";

#[track_caller]
fn arrived(folder: &Path) {
    assert_eq!(names(&folder.join("ORG/NAME/vae")), ["check point.ckpt", "config.json"]);
    assert!(fs::read(folder.join(TARGET)).unwrap() == weights());
    assert_eq!(fs::read_to_string(folder.join("ORG/NAME/vae/config.json")).unwrap(), CONFIG);
}

#[test]
fn only_the_files_that_the_engine_reads_are_downloaded() {
    let (hub, folder) = (Hub::new(Manner::Well), tempfile::tempdir().unwrap());
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
fn a_lost_connection_resumes_where_it_stopped() {
    let (hub, folder) = (Hub::new(Manner::Cuts), tempfile::tempdir().unwrap());
    let (code, stderr) = hub.download(folder.path(), &["-o", "ORG/NAME"]);
    assert_eq!(code, Some(0), "{stderr}");
    arrived(folder.path());
    let expected = ["", "bytes=1000-", "bytes=2000-", "bytes=3000-", "bytes=4000-"];
    assert_eq!(hub.ranges(), expected);
}

#[test]
fn downloaded_bytes_are_kept_for_the_next_run() {
    let (hub, folder) = (Hub::new(Manner::Stops), tempfile::tempdir().unwrap());
    fs::create_dir_all(folder.path().join("ORG/NAME/vae")).unwrap();
    fs::write(folder.path().join(PARTIAL), &weights()[..1234]).unwrap();
    let (code, stderr) = hub.download(folder.path(), &[]);
    assert_eq!(code, Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap();
    for word in
        ["osp: error: cannot download", "check%20point.ckpt", "1234 of 5000 bytes are downloaded", "run it again"]
    {
        assert!(last.contains(word), "{stderr}");
    }
    assert!(!folder.path().join(TARGET).exists());
    let hub = Hub::new(Manner::Well);
    assert_eq!(hub.download(folder.path(), &[]).0, Some(0));
    assert_eq!(hub.ranges(), ["bytes=1234-"]);
    arrived(folder.path());
}

#[test]
fn a_server_without_ranges_or_a_partial_file_that_is_too_long_restarts_the_download() {
    for (manner, length) in [(Manner::Whole, 1234), (Manner::Well, 6000)] {
        let (hub, folder) = (Hub::new(manner), tempfile::tempdir().unwrap());
        fs::create_dir_all(folder.path().join("ORG/NAME/vae")).unwrap();
        fs::write(folder.path().join(PARTIAL), vec![7; length]).unwrap();
        let (code, stderr) = hub.download(folder.path(), &[]);
        assert_eq!(code, Some(0), "{stderr}");
        arrived(folder.path());
    }
}

#[test]
fn a_file_with_a_wrong_hash_never_gets_its_final_name() {
    let (hub, folder) = (Hub::new(Manner::Damages), tempfile::tempdir().unwrap());
    let (code, stderr) = hub.download(folder.path(), &[]);
    assert_eq!(code, Some(5), "{stderr}");
    assert!(stderr.contains("check point.ckpt: has another hash") && stderr.contains("was deleted"), "{stderr}");
    assert_eq!(names(&folder.path().join("ORG/NAME/vae")), ["config.json"]);
    // A partial file of another file is detected, too, and does not disturb the next download.
    let hub = Hub::new(Manner::Well);
    fs::write(folder.path().join(PARTIAL), vec![7; 1234]).unwrap();
    assert_eq!(hub.download(folder.path(), &[]).0, Some(5));
    assert_eq!(hub.download(folder.path(), &[]).0, Some(0));
    arrived(folder.path());
}

#[test]
fn files_that_the_hub_does_not_send_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr) = Hub::new(Manner::Lacks).download(folder.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("check%20point.ckpt: the hub has no such model or file (404"), "{stderr}");
    let hub = Hub::new(Manner::Asks);
    let (code, stderr) = hub.download(folder.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("HF_TOKEN") && stderr.contains("401"), "{stderr}");
    let output = osp(folder.path()).env("HF_ENDPOINT", &hub.endpoint).args(["download", "ORG/OTHER"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("ORG/OTHER"));
    let mut command = osp(folder.path());
    command.env("HF_ENDPOINT", &hub.endpoint).env("HF_TOKEN", "secret").args(["download", "ORG/NAME"]);
    command.assert().success();
    arrived(folder.path());
    let (_, stderr) = Hub::new(Manner::Well).download(folder.path(), &["--only", "transformer"]);
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
