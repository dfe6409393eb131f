//! Reads files through the `ffmpeg` program, if it is installed: ffmpeg sends Y4M, which this crate reads.
//!
//! ffmpeg runs twice. The first run decodes nothing and reports times and kind of the frames ([`probe`]), which Y4M
//! does not hold.

mod messages;
mod probe;

use super::input::Input;
use super::stream::{FrameSource, Opened, Stream};
use super::y4m;
use crate::error::{Error, Result};
use crate::reading::STDIN;
use messages::Messages;
use probe::Facts;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Frames from a running ffmpeg. Dropping this ends ffmpeg.
struct Source {
    frames: Box<dyn FrameSource>,
    child: Child,
    path: PathBuf,
    messages: Messages,
    /// A warning of an ffmpeg that succeeded.
    complaint: Option<String>,
}

/// Frames, or ffmpeg's reason for sending none.
type Started = std::result::Result<Stream, String>;

/// Lets ffmpeg read `input`; `None` if ffmpeg is not installed.
///
/// # Errors
/// [`Error::Io`] if it cannot be started.
pub(super) fn start(input: &mut Input) -> Result<Option<Started>> {
    let Some(facts) = probe::run(input)? else { return Ok(None) };
    if let Some(reason) = facts.refusal {
        return Ok(Some(Err(reason.to_owned())));
    }
    // ffmpeg must not repeat or drop frames to keep a rate. Before version 5.1 the option for this had another name.
    let (mut passthrough, mut decoder) = ("-fps_mode", facts.decoder);
    loop {
        match frames(input, &facts, passthrough, decoder)? {
            Ok(stream) => return Ok(Some(Ok(stream))),
            Err(said) if said.contains("fps_mode") && passthrough != "-vsync" => passthrough = "-vsync",
            Err(said) if said.contains("Unknown decoder") && decoder.is_some() => decoder = None,
            Err(said) => return Ok(Some(Err(messages::reason(&said)))),
        }
    }
}

/// Starts ffmpeg and reads the header that it sends. If ffmpeg fails, returns its messages.
fn frames(input: &mut Input, facts: &Facts, passthrough: &str, decoder: Option<&str>) -> Result<Started> {
    let path = input.path().to_path_buf();
    let mut command = command(input, "error", decoder)?;
    command.args(["-vf", &facts.filters(), passthrough, "passthrough", "-f", "yuv4mpegpipe", "pipe:1"]);
    let Some((mut child, mut messages)) = spawn(command, &path)? else {
        return Ok(Err("it was removed during the run".into()));
    };
    let pipe = child.stdout.take().expect("its output is piped");
    match y4m::open_at(pipe, &path, Some(facts.rate)) {
        Ok(Opened::Ready(Stream { view, frames, mut notices })) => {
            notices.extend(facts.warning.clone());
            let source = Source { frames, child, path, messages, complaint: None };
            Ok(Ok(Stream { view, frames: Box::new(source), notices }))
        }
        Ok(Opened::NotHandled(_)) | Err(_) => {
            // ffmpeg ends: its output has no reader any more.
            child.wait().map_err(Error::io("cannot run ffmpeg on", &path))?;
            Ok(Err(messages.all()))
        }
    }
}

/// The command that reads the first video stream of `input`, with messages of `level` and above.
fn command(input: &mut Input, level: &str, decoder: Option<&str>) -> Result<Command> {
    let mut command = Command::new("ffmpeg");
    // With the protocol before it, ffmpeg cannot take a file name for an option or an address.
    let mut url = OsString::from("file:");
    if input.is_named() {
        url.push(input.path());
        command.stdin(Stdio::null());
    } else {
        url.push(STDIN);
        command.stdin(input.file()?);
    }
    command.args(["-hide_banner", "-nostats", "-nostdin", "-v", level, "-protocol_whitelist", "file,pipe"]);
    command.args(decoder.iter().flat_map(|decoder| ["-c:v", decoder])).arg("-i").arg(url);
    // An upper-case V excludes cover pictures of songs.
    command.args(["-map", "0:V:0"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Starts ffmpeg; `None` if it is not installed.
fn spawn(mut command: Command, path: &Path) -> Result<Option<(Child, Messages)>> {
    match command.spawn() {
        Ok(mut child) => {
            let messages = Messages::of(child.stderr.take().expect("its messages are piped")).inspect_err(|_| {
                // Both fail only if ffmpeg has ended.
                let _ = child.kill().and_then(|()| child.wait());
            });
            Ok(Some((child, messages?)))
        }
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(problem) => Err(Error::io("cannot run ffmpeg on", path)(problem)),
    }
}

impl FrameSource for Source {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(frame) = self.frames.next()? {
            return Ok(Some(frame));
        }
        let status = self.child.wait().map_err(Error::io("cannot run ffmpeg on", &self.path))?;
        let messages = self.messages.all();
        if !status.success() {
            let reason = messages::reason(&messages);
            return Err(Error::media(&self.path, format!("ffmpeg stopped reading it: {reason}")));
        }
        if !messages.is_empty() {
            self.complaint = Some(format!("ffmpeg read it, but reported: {}", messages::reason(&messages)));
        }
        Ok(None)
    }

    fn notice(&self) -> Option<String> {
        self.complaint.clone()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Fails only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
