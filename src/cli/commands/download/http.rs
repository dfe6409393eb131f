//! The hub over HTTP: short answers, and downloads that resume where they stopped.

use crate::cli::interrupt;
use crate::cli::transfer::Transfer;
use osp::{Error, Result};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// The hub's address, unless `HF_ENDPOINT` names another.
const HUB: &str = "https://huggingface.co";
/// A connection without data for this time counts as lost.
const SILENCE: Duration = Duration::from_secs(30);
/// A download fails after this number of attempts without a new byte.
const ATTEMPTS: u32 = 4;

/// A hub, with the user's token.
pub struct Hub {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// A file of a model.
pub struct File {
    /// Path in the model.
    pub path: String,
    pub size: u64,
    pub hash: Hash,
}

/// A file's hash according to the hub, in hexadecimal.
pub enum Hash {
    /// SHA-256 of the bytes.
    Sha256(String),
    /// Git's SHA-1, of a header and the bytes.
    GitBlob(String),
}

/// Why an attempt ended early.
enum Failure {
    /// The connection failed; another attempt may succeed.
    Cut(String),
    /// Another attempt would fail, too.
    Final(Error),
}

impl Hub {
    /// The hub that the environment names.
    pub fn new() -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // The hub redirects within its host, which needs the token, and to storage hosts, which must not get it.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .build();
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Self { agent: config.into(), endpoint, token: set("HF_TOKEN") }
    }

    /// An error about `path` of the hub.
    pub fn fault(&self, path: &str, problem: impl Into<String>) -> Error {
        Error::io("cannot download", format!("{}/{path}", self.endpoint))(io::Error::other(problem.into()))
    }

    /// Downloads a short answer into memory.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        let answer = || -> std::result::Result<Vec<u8>, Failure> {
            let response = self.request(path, 0)?;
            self.check(path, &response)?;
            response.into_body().read_to_vec().map_err(|error| Failure::Cut(error.to_string()))
        };
        match answer() {
            Ok(bytes) => Ok(bytes),
            Err(Failure::Cut(problem)) => Err(self.fault(path, problem)),
            Err(Failure::Final(error)) => Err(error),
        }
    }

    /// Requests `path` from byte `start` on.
    fn request(&self, path: &str, start: u64) -> std::result::Result<Response<Body>, Failure> {
        let mut request = self.agent.get(format!("{}/{path}", self.endpoint));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        request.call().map_err(|error| Failure::Cut(error.to_string()))
    }

    /// Fails if the answer is an error.
    fn check(&self, path: &str, response: &Response<Body>) -> std::result::Result<(), Failure> {
        let status = response.status();
        let problem = match status {
            _ if status.is_success() => return Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "access is restricted: accept the model's terms on its page, and set HF_TOKEN"
            }
            StatusCode::NOT_FOUND => "the hub has no such model or file",
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Failure::Cut(format!("the hub answers {status}")));
            }
            _ => "the hub refuses the request",
        };
        Err(Failure::Final(self.fault(path, format!("{problem} ({status})"))))
    }
}

/// A partly downloaded file, and the hash of its bytes.
struct Partial {
    path: PathBuf,
    file: fs::File,
    length: u64,
    context: Context,
}

impl File {
    /// Downloads the file from `url` of the hub to `target`. Until it is complete and its hash is right, its name is
    /// `target.partial`; a later call resumes it.
    pub fn fetch(&self, hub: &Hub, url: &str, target: &Path, transfer: &Transfer<'_>) -> Result<()> {
        if self.is_at(target)? {
            return transfer.advance(self.size);
        }
        let mut partial = Partial::open(target, self)?;
        transfer.advance(partial.length)?;
        let mut attempts = 0;
        while partial.length < self.size {
            let before = partial.length;
            match partial.fetch(self, hub, url, transfer) {
                Ok(()) => {}
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Cut(problem)) => {
                    attempts = if partial.length > before { 0 } else { attempts + 1 };
                    if attempts == ATTEMPTS {
                        let (length, size) = (partial.length, self.size);
                        let problem =
                            format!("{problem}; {length} of {size} bytes are downloaded: run it again to resume");
                        return Err(hub.fault(url, problem));
                    }
                    interrupt::check()?;
                    sleep(Duration::from_millis(100 << (2 * attempts)));
                }
            }
        }
        partial.finish(self, target)
    }

    /// Whether the complete file is already at `target`.
    fn is_at(&self, target: &Path) -> Result<bool> {
        if fs::metadata(target).is_ok_and(|found| found.is_file() && found.len() == self.size) {
            let mut file = fs::File::open(target).map_err(Error::io("cannot read", target))?;
            let mut context = self.hash.context(self.size);
            absorb(&mut file, &mut context).map_err(Error::io("cannot read", target))?;
            return Ok(self.hash.is(context));
        }
        Ok(false)
    }
}

impl Partial {
    /// Opens or creates the partial file beside `target`.
    fn open(target: &Path, file: &File) -> Result<Self> {
        let mut path = target.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        let folder = target.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder).map_err(Error::io("cannot make the folder", folder))?;
        let fault = || Error::io("cannot write", &path);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut opened = opened.map_err(fault())?;
        let mut context = file.hash.context(file.size);
        let length = absorb(&mut opened, &mut context).map_err(fault())?;
        let mut partial = Self { path, file: opened, length, context };
        if length > file.size {
            partial.restart(file)?;
        }
        Ok(partial)
    }

    fn restart(&mut self, file: &File) -> Result<()> {
        let cut = self.file.set_len(0).and_then(|()| self.file.rewind());
        cut.map_err(Error::io("cannot write", &self.path))?;
        (self.length, self.context) = (0, file.hash.context(file.size));
        Ok(())
    }

    /// One attempt to download the rest.
    fn fetch(
        &mut self,
        file: &File,
        hub: &Hub,
        url: &str,
        transfer: &Transfer<'_>,
    ) -> std::result::Result<(), Failure> {
        let response = hub.request(url, self.length)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            transfer.retreat(self.length);
            self.restart(file).map_err(Failure::Final)?;
            return Err(Failure::Cut("the hub has no such range".into()));
        }
        hub.check(url, &response)?;
        // A server may ignore the requested range and send the whole file.
        if response.status() != StatusCode::PARTIAL_CONTENT {
            transfer.retreat(self.length);
            self.restart(file).map_err(Failure::Final)?;
        } else if !begins_at(&response, self.length) {
            return Err(Failure::Final(hub.fault(url, "the hub sends another range than requested")));
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = body.read(&mut buffer).map_err(|error| Failure::Cut(error.to_string()))?;
            if count == 0 {
                break;
            }
            if self.length + count as u64 > file.size {
                return Err(Failure::Final(
                    hub.fault(url, format!("the file is longer than the {} bytes that the hub lists", file.size)),
                ));
            }
            let written = self.file.write_all(&buffer[..count]).map_err(Error::io("cannot write", &self.path));
            written.map_err(Failure::Final)?;
            self.context.update(&buffer[..count]);
            self.length += count as u64;
            transfer.advance(count as u64).map_err(Failure::Final)?;
        }
        if self.length < file.size { Err(Failure::Cut("the connection was cut".into())) } else { Ok(()) }
    }

    /// Checks the hash and gives the file its final name.
    fn finish(self, file: &File, target: &Path) -> Result<()> {
        if !file.hash.is(self.context) {
            fs::remove_file(&self.path).map_err(Error::io("cannot remove", &self.path))?;
            let problem = "has another hash than the hub lists: the damaged download was deleted; run it again";
            return Err(Error::weight(target, "", problem));
        }
        self.file.sync_all().map_err(Error::io("cannot write", &self.path))?;
        fs::rename(&self.path, target).map_err(Error::io("cannot write", target))
    }
}

/// Whether a partial answer begins at byte `start`.
fn begins_at(response: &Response<Body>, start: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {start}-")))
}

/// Adds a file's bytes to a hash, and returns their number.
fn absorb(file: &mut fs::File, context: &mut Context) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(length);
        }
        context.update(&buffer[..count]);
        length += count as u64;
    }
}

impl Hash {
    /// A hash before the first byte, for a file of `size` bytes.
    fn context(&self, size: u64) -> Context {
        match self {
            Self::Sha256(_) => Context::new(&SHA256),
            Self::GitBlob(_) => {
                let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                context.update(format!("blob {size}\0").as_bytes());
                context
            }
        }
    }

    fn is(&self, context: Context) -> bool {
        let found: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let (Self::Sha256(expected) | Self::GitBlob(expected)) = self;
        found == *expected
    }
}
