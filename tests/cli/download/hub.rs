//! A hub on this machine, which can misbehave.

use crate::cli::osp;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// A connection, encrypted or not.
pub trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// What the client asks for.
#[derive(Clone)]
pub struct Request {
    pub path: String,
    headers: Vec<String>,
    /// The hub's own port.
    pub port: u16,
}

impl Request {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let value = |line: &'_ String| line.split_once(": ").filter(|(key, _)| *key == name).is_some();
        self.headers.iter().find(|line| value(line)).map_or("", |line| line.split_once(": ").unwrap().1)
    }

    /// The first byte of the requested range.
    pub fn start(&self) -> usize {
        self.header("range").trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0)
    }
}

/// Answers a request if it wants to.
type Answer = dyn Fn(&Request, &mut dyn Stream) -> io::Result<bool> + Send + Sync;

pub struct Hub {
    pub endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// The bytes of the weights.
pub fn weights() -> Vec<u8> {
    (0..5000u32).map(|i| (i * i % 251) as u8).collect()
}

pub const SHA256: &str = "660faa7089afce64fd1e9dd44cdbce136859740a4fe371c564b58687a67f7b8b";
pub const CONFIG: &str = "{\"_class_name\": \"CausalVAEModel\"}\n";
/// Git's hash of the config.
const BLOB: &str = "86e3f4618101648230f8df2a2b409407137d7af6";

pub const LIST: &str = "/api/models/ORG/NAME/revision/main?blobs=true";
/// Where the hub's own host has the config, and where another host has the weights.
pub const SMALL: &str = "/small";
pub const STORED: &str = "/stored";

impl Hub {
    /// A hub that behaves well.
    pub fn well() -> Self {
        Self::with(|_, _| Ok(false))
    }

    /// A hub that sends the weights in its own way.
    pub fn storing(own: impl Fn(&Request, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::with(move |request, stream| match request.path == STORED {
            true => own(request, stream).map(|()| true),
            false => Ok(false),
        })
    }

    /// A hub with its own list of files.
    pub fn listing(list: String) -> Self {
        Self::with(move |request, stream| match request.path == LIST {
            true => reply(stream, "200 OK", "", list.as_bytes()).map(|()| true),
            false => Ok(false),
        })
    }

    /// A hub that answers some requests in its own way.
    pub fn with(own: impl Fn(&Request, &mut dyn Stream) -> io::Result<bool> + Send + Sync + 'static) -> Self {
        Self::over("http", own, |tcp| Some(Box::new(tcp)))
    }

    /// As [`Hub::with`], over connections that `wrap` makes.
    pub fn over(
        scheme: &str,
        own: impl Fn(&Request, &mut dyn Stream) -> io::Result<bool> + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, own, wrap) = (requests.clone(), Arc::new(own), Arc::new(wrap));
        // The threads end with the process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (tcp, log, own, wrap) = (stream.unwrap(), log.clone(), own.clone(), wrap.clone());
                thread::spawn(move || {
                    // In some tests the client closes the connection.
                    wrap(tcp).map(|mut stream| answer(&mut stream, port, &*own, &log))
                });
            }
        });
        Self { endpoint: format!("{scheme}://127.0.0.1:{port}"), requests }
    }

    /// `osp download ORG/NAME` in `folder`, to be started.
    pub fn command(&self, folder: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(osp(folder).get_program());
        command.current_dir(folder).args(["download", "ORG/NAME"]).args(args);
        // With less patience, the pauses between attempts are shorter.
        command.env_remove("HF_TOKEN").env_remove("SSL_CERT_FILE").env("HF_HUB_DOWNLOAD_TIMEOUT", "10");
        command.env("HF_ENDPOINT", &self.endpoint).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Runs [`Hub::command`], and gives its exit code and what it says.
    pub fn download(&self, folder: &Path, args: &[&str]) -> (Option<i32>, String) {
        finish(self.command(folder, args))
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The requested ranges of the weights.
    pub fn ranges(&self) -> Vec<String> {
        let of_weights = |request: Request| (request.path == STORED).then(|| request.header("range").to_owned());
        self.requests().into_iter().filter_map(of_weights).collect()
    }
}

/// Runs a command, and gives its exit code and what it says.
pub fn finish(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn answer(stream: &mut dyn Stream, port: u16, own: &Answer, log: &Mutex<Vec<Request>>) -> io::Result<()> {
    let lines = BufReader::new(&mut *stream).lines();
    let mut lines = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
    let Some(first) = lines.next() else { return Ok(()) };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let request = Request { path, headers: lines.collect(), port };
    log.lock().unwrap().push(request.clone());
    if own(&request, stream)? {
        return Ok(());
    }
    match request.path.as_str() {
        STORED if !request.header("authorization").is_empty() => reply(stream, "400 Bad Request", "", b""),
        STORED => send(stream, &request, &weights(), usize::MAX),
        LIST => reply(stream, "200 OK", "", list(SHA256, 5000).as_bytes()),
        // The hub redirects small files within its host, and weights to another host.
        "/ORG/NAME/resolve/0123abcd/vae/config.json" => redirect(stream, SMALL),
        SMALL => reply(stream, "200 OK", "", CONFIG.as_bytes()),
        "/ORG/NAME/resolve/0123abcd/vae/check%20point.ckpt" => {
            redirect(stream, &format!("http://localhost:{port}{STORED}"))
        }
        _ => reply(stream, "404 Not Found", "", b"no"),
    }
}

/// The hub's list, with this hash and size of the weights.
pub fn list(sha256: &str, size: u64) -> String {
    let list = serde_json::json!({"sha": "0123abcd", "siblings": [
        {"rfilename": "README.md", "size": 10, "blobId": "00"},
        {"rfilename": "vae/config.json", "size": CONFIG.len(), "blobId": BLOB},
        {"rfilename": "vae/check point.ckpt", "size": size, "blobId": "00",
         "lfs": {"sha256": sha256, "size": size, "pointerSize": 130}},
    ]});
    list.to_string()
}

/// Sends the requested range of `bytes`, but at most `count` bytes of it.
pub fn send(stream: &mut dyn Stream, request: &Request, bytes: &[u8], count: usize) -> io::Result<()> {
    let start = request.start();
    let rest = &bytes[start..];
    if start == 0 {
        head(stream, "200 OK", "", rest.len())?;
    } else {
        let range = format!("Content-Range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len());
        head(stream, "206 Partial Content", &range, rest.len())?;
    }
    stream.write_all(&rest[..rest.len().min(count)])
}

/// Sends an answer without its body.
pub fn head(stream: &mut dyn Stream, status: &str, headers: &str, length: usize) -> io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n")?;
    stream.flush()
}

pub fn reply(stream: &mut dyn Stream, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
    head(stream, status, headers, body.len())?;
    stream.write_all(body)?;
    stream.flush()
}

pub fn redirect(stream: &mut dyn Stream, to: &str) -> io::Result<()> {
    reply(stream, "302 Found", &format!("Location: {to}\r\n"), b"")
}

pub const TARGET: &str = "ORG/NAME/vae/check point.ckpt";
pub const PARTIAL: &str = "ORG/NAME/vae/check point.ckpt.partial";

/// Makes a partial file with these bytes.
pub fn begin(folder: &Path, bytes: &[u8]) {
    fs::create_dir_all(folder.join("ORG/NAME/vae")).unwrap();
    fs::write(folder.join(PARTIAL), bytes).unwrap();
}

/// Checks that the model is there, and nothing else.
#[track_caller]
pub fn arrived(folder: &Path) {
    assert_eq!(crate::cli::names(&folder.join("ORG/NAME/vae")), ["check point.ckpt", "config.json"]);
    assert!(fs::read(folder.join(TARGET)).unwrap() == weights());
    assert_eq!(fs::read_to_string(folder.join("ORG/NAME/vae/config.json")).unwrap(), CONFIG);
}
