//! Reading through the `ffmpeg` program, where it is installed: it sends Y4M, which we read.

use super::reader::{FrameSource, Opened};
use super::{VideoInfo, y4m};
use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Frames from a running ffmpeg, which is ended when this is dropped.
struct Source {
    frames: Box<dyn FrameSource>,
    child: Child,
    path: PathBuf,
    messages: File,
}

/// Frames, or ffmpeg's reason for not giving any.
type Started = std::result::Result<(VideoInfo, Box<dyn FrameSource>), String>;

/// Lets ffmpeg read `path`; none if there is no ffmpeg.
///
/// # Errors
/// [`Error::Io`] if it cannot be started.
pub(super) fn start(path: &Path) -> Result<Option<Started>> {
    let failed = || Error::io("cannot run ffmpeg on", path);
    // Its messages go to a file: a pipe that nobody empties would fill and stop it.
    let mut messages = tempfile::tempfile().map_err(failed())?;
    let mut child = match command(path).stderr(messages.try_clone().map_err(failed())?).spawn() {
        Ok(child) => child,
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(problem) => return Err(failed()(problem)),
    };
    let pipe = child.stdout.take().expect("its output was asked for");
    match y4m::open(pipe, path) {
        Ok(Opened::Ready(info, frames)) => {
            Ok(Some(Ok((info, Box::new(Source { frames, child, path: path.to_path_buf(), messages })))))
        }
        Ok(Opened::NotHandled(_)) | Err(_) => {
            // It ends by itself: nobody reads its output any more.
            child.wait().map_err(failed())?;
            Ok(Some(Err(last_line(&mut messages))))
        }
    }
}

fn command(path: &Path) -> Command {
    // The protocol is named so that no file name is taken for an option or an address.
    let mut input = OsString::from("file:");
    input.push(path);
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-i"]).arg(input);
    // Y4M has no flag for the matrix; ours is read as BT.601 in limited range.
    command.args(["-map", "0:v:0", "-vf", "scale=out_color_matrix=bt601:out_range=limited,format=yuv444p"]);
    command.args(["-f", "yuv4mpegpipe", "pipe:1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn last_line(messages: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = messages.rewind().and_then(|()| messages.take(1 << 16).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.filter(|_| read.is_ok()).unwrap_or("it gave no reason").to_string()
}

impl FrameSource for Source {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(frame) = self.frames.next()? {
            return Ok(Some(frame));
        }
        let status = self.child.wait().map_err(Error::io("cannot run ffmpeg on", &self.path))?;
        if status.success() {
            return Ok(None);
        }
        Err(Error::media(&self.path, format!("ffmpeg stopped reading it: {}", last_line(&mut self.messages))))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Fails only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
