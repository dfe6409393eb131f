//! The hub over HTTP. A thread of its own waits for each answer. Meanwhile the program looks for Ctrl-C. A hub that sends nothing is
//! not waited for any longer.

use super::settings::{Address, Settings};
use crate::cli::interrupt;
use crate::cli::units::duration;
use osp::{Error, Result};
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use ureq::http::{Response, StatusCode};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

/// The most redirects of one request. The hub has two.
const REDIRECTS: usize = 10;
/// A hub that sends fewer bytes a second than this counts as lost.
pub const SLOWEST: u64 = 1 << 10;
/// How often a wait looks for Ctrl-C.
const GLANCE: Duration = Duration::from_millis(50);
/// Bytes of a piece of an answer.
const PIECE: usize = 1 << 18;
/// The most characters of an error, which may repeat words of the hub.
const WORDS: usize = 300;

/// A hub, with the user's token.
#[derive(Clone)]
pub struct Hub {
    agent: Agent,
    endpoint: Address,
    token: Option<String>,
    /// A hub that sends nothing for this time counts as lost.
    pub silence: Duration,
}

/// Why an attempt ended early.
#[derive(Debug)]
pub enum Failure {
    /// The connection failed; another attempt may succeed.
    Cut(String),
    /// Another attempt would fail, too.
    Final(Error),
}

/// What a request brings.
pub type Attempt<T> = std::result::Result<T, Failure>;

impl Hub {
    /// The hub of these settings.
    pub fn new(settings: Settings) -> Self {
        let Settings { endpoint, token, silence, roots } = settings;
        // The waits below are the ones that users notice. These end most threads that nobody waits for any more.
        let patience = Some(2 * silence);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_resolve(patience)
            .timeout_connect(patience)
            .timeout_per_read(patience)
            .timeout_per_write(patience)
            .timeout_recv_response(patience)
            .build();
        Self { agent: config.into(), endpoint, token, silence }
    }

    /// An error about `path` of the hub.
    pub fn fault(&self, path: &str, problem: impl Into<String>) -> Error {
        let problem = problem.into();
        let problem = match problem.char_indices().nth(WORDS) {
            Some((end, _)) => format!("{}…", &problem[..end]),
            None => problem,
        };
        Error::io("cannot download", format!("{}/{path}", self.endpoint))(io::Error::other(problem))
    }

    /// Downloads an answer of at most `most` bytes into memory.
    pub fn get(&self, path: &str, most: u64) -> Result<Vec<u8>> {
        let whole = || {
            let mut answer = self.request(path, 0)?;
            let mut bytes = Vec::new();
            while let Some(piece) = answer.piece()? {
                bytes.extend(piece);
                if bytes.len() as u64 > most {
                    let problem = format!("the answer has more than {most} bytes, the most that are read");
                    return Err(Failure::Final(self.fault(path, problem)));
                }
            }
            Ok(bytes)
        };
        whole().map_err(|failure| match failure {
            Failure::Cut(problem) => self.fault(path, problem),
            Failure::Final(error) => error,
        })
    }

    /// Requests `path` from byte `start` on.
    pub fn request(&self, path: &str, start: u64) -> Attempt<Answer> {
        let ((send_head, head), (send, pieces)) = (sync_channel(1), sync_channel(4));
        let (hub, to) = (self.clone(), path.to_owned());
        let spawned = thread::Builder::new().spawn(move || match hub.ask(&to, start) {
            Err(failure) => drop(send_head.send(Err(failure))),
            Ok(response) => {
                let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
                let _ = send_head.send(Ok((response.status(), range.map(str::to_owned))));
                receive(response.into_body(), &send);
            }
        });
        spawned.map_err(|error| Failure::Final(self.fault(path, format!("no thread can be had: {error}"))))?;
        let lost = || Failure::Cut("the connection failed".into());
        let (status, range) = wait(&head, self.silence)?.ok_or_else(lost)??;
        Ok(Answer { status, range, pieces, silence: self.silence, waited: Duration::ZERO, bytes: 0, slow: None })
    }

    /// The answer of the hub, or of the host to which it redirects. Only the hub itself gets the token.
    fn ask(&self, path: &str, start: u64) -> Attempt<Response<Body>> {
        let wrong = |problem: String| Failure::Final(self.fault(path, problem));
        let mut to = self.endpoint.join(path).ok_or_else(|| wrong("this is no address".into()))?;
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(to.uri());
            if to.is_here() {
                // A proxy would get the token unencrypted.
                request = request.config().proxy(None).build();
            }
            if let Some(token) = self.token.as_ref().filter(|_| to.is_beside(&self.endpoint)) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if start > 0 {
                request = request.header("Range", format!("bytes={start}-"));
            }
            let response = request.call().map_err(|error| match certificate(&error) {
                true => wrong(format!("{}: {error}; SSL_CERT_FILE can name certificates to trust", to.site())),
                false => Failure::Cut(error.to_string()),
            })?;
            if !response.status().is_redirection() {
                self.check(path, response.status())?;
                return Ok(response);
            }
            let location = response.headers().get("location").and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| to.follow(location));
            let nowhere = || wrong(format!("{} redirects to no address ({})", to.site(), response.status()));
            let next = next.ok_or_else(nowhere)?;
            if to.is_exposed_by(&next) {
                return Err(wrong(format!("{} redirects to {}, which is not encrypted", to.site(), next.site())));
            }
            to = next;
        }
        Err(wrong(format!("more than {REDIRECTS} redirects, the last to {}", to.site())))
    }

    /// Fails if the answer is an error.
    fn check(&self, path: &str, status: StatusCode) -> Attempt<()> {
        let problem = match status {
            _ if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => return Ok(()),
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

/// Whether an error says that the other side is not who it claims to be, which no other attempt changes. All errors of a handshake
/// have one kind, so words tell.
fn certificate(error: &ureq::Error) -> bool {
    error.to_string().contains("certificate")
}

/// Sends the pieces of a body until one end has enough.
fn receive(body: Body, to: &SyncSender<io::Result<Vec<u8>>>) {
    let mut body = body.into_reader();
    let mut buffer = vec![0; PIECE];
    loop {
        let piece = match body.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => Ok(buffer[..count].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = piece.is_err();
        if to.send(piece).is_err() || last {
            return;
        }
    }
}

/// The next thing that a thread sends; `None` if it has ended. Ctrl-C and silence end the wait.
fn wait<T>(from: &Receiver<T>, silence: Duration) -> Attempt<Option<T>> {
    let since = Instant::now();
    loop {
        match from.recv_timeout(GLANCE) {
            Ok(thing) => return Ok(Some(thing)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => interrupt::check().map_err(Failure::Final)?,
        }
        if since.elapsed() > silence {
            return Err(Failure::Cut(format!("the hub sent nothing for {}", duration(silence))));
        }
    }
}

/// An answer whose bytes are still to come.
pub struct Answer {
    pub status: StatusCode,
    /// The header `Content-Range`.
    pub range: Option<String>,
    pieces: Receiver<io::Result<Vec<u8>>>,
    silence: Duration,
    /// The time for which the program has waited, and the bytes that came in it.
    waited: Duration,
    bytes: u64,
    /// What is wrong with the pace.
    slow: Option<String>,
}

impl Answer {
    /// The next bytes; `None` at the end.
    pub fn piece(&mut self) -> Attempt<Option<Vec<u8>>> {
        if let Some(problem) = self.slow.take() {
            return Err(Failure::Cut(problem));
        }
        let since = Instant::now();
        let Some(piece) = wait(&self.pieces, self.silence)? else { return Ok(None) };
        let piece = piece.map_err(|error| Failure::Cut(error.to_string()))?;
        self.waited += since.elapsed();
        self.bytes += piece.len() as u64;
        if self.waited >= self.silence {
            // This piece is taken all the same: it may be the last.
            let slow = self.bytes < SLOWEST * self.silence.as_secs();
            self.slow = slow.then(|| format!("the hub sent only {} bytes in {}", self.bytes, duration(self.waited)));
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
        Ok(Some(piece))
    }
}
