//! The messages of ffmpeg, and the reason for a failure in them.

use crate::error::{Error, Result};
use std::io::{self, Read};
use std::process::ChildStderr;
use std::thread::{self, JoinHandle};

/// The most bytes of messages that are kept.
pub(super) const KEPT: u64 = 1 << 16;

/// The messages of a running ffmpeg. A thread reads them: if nothing emptied the pipe, it would fill and ffmpeg would
/// stop.
pub(super) struct Messages {
    reading: Option<JoinHandle<String>>,
    text: String,
}

impl Messages {
    /// # Errors
    /// [`Error::Io`] if the system has no room for a thread.
    pub fn of(mut pipe: ChildStderr) -> Result<Self> {
        let read = move || {
            let mut kept = Vec::new();
            // An error is ignored: the messages only explain a failure that another place reports.
            let _ = pipe.by_ref().take(KEPT).read_to_end(&mut kept);
            let _ = io::copy(&mut pipe, &mut io::sink());
            String::from_utf8_lossy(&kept).into_owned()
        };
        let reading = thread::Builder::new().spawn(read).map_err(Error::no_thread("reads messages of ffmpeg"))?;
        Ok(Self { reading: Some(reading), text: String::new() })
    }

    /// All messages; waits until ffmpeg has ended.
    pub fn all(&mut self) -> String {
        if let Some(reading) = self.reading.take() {
            self.text = reading.join().unwrap_or_default();
        }
        self.text.clone()
    }
}

/// Known messages of ffmpeg, and their meaning.
const KNOWN: [(&str, &str); 7] = [
    ("matches no streams", "it has no video"),
    ("does not contain any stream", "it has no video"),
    ("skipping unsupported chunk: ANIM", "this ffmpeg cannot read animated WebP"),
    ("moov atom not found", "it is damaged or truncated: it has no index (moov)"),
    ("No decoder could be found", "this ffmpeg has no decoder for it"),
    ("Decoder not found", "this ffmpeg has no decoder for it"),
    ("encrypted", "it is encrypted"),
];

/// Lines without a reason: they only follow from other errors.
const EMPTY: [&str; 15] = [
    "Conversion failed",
    "Error while decoding stream",
    "Error marking filters as finished",
    "Error initializing output stream",
    "Could not write header",
    "Could not find codec parameters",
    "Consider increasing the value",
    "Cannot determine format of input stream",
    "Output file is empty",
    "Nothing was written into output file",
    "Error opening input",
    "To ignore this",
    "Last message repeated",
    "Stream mapping",
    "Truncating packet",
];

/// The last line contains this if ffmpeg does not recognise a file.
const UNKNOWN: &str = "Invalid data found when processing input";

/// Why ffmpeg did not read a file, from its `messages`: our words for a known message, else the first line that gives a
/// reason.
pub(super) fn reason(messages: &str) -> String {
    if let Some((_, meaning)) = KNOWN.iter().find(|(said, _)| messages.contains(said)) {
        return (*meaning).to_owned();
    }
    let lines = || messages.lines().map(|line| without_place(line.trim())).filter(|line| !line.is_empty());
    let telling = |line: &&str| !line.contains(UNKNOWN) && !EMPTY.iter().any(|empty| line.contains(empty));
    match lines().find(telling) {
        Some(line) => line.to_owned(),
        None if messages.contains(UNKNOWN) => "it is damaged, or of a format that ffmpeg does not know".into(),
        None => lines().next_back().unwrap_or("it gave no reason").to_owned(),
    }
}

/// A message without `[h264 @ 0x55d0c8a0]` before it.
fn without_place(line: &str) -> &str {
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((place, message)) if place.contains(" @ ") => message,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn known_messages_become_our_words() {
        let said = "Stream map '0:V:0' matches no streams.\nTo ignore this, add a trailing '?' to the map.\n";
        assert_eq!(reason(said), "it has no video");
        let said =
            "[webp @ 0x1] skipping unsupported chunk: ANIM\n[webp @ 0x1] image data not found\nfile:a: Invalid\n";
        assert!(reason(said).contains("animated WebP"));
        assert!(reason("file:a.mkv: Invalid data found when processing input\n").contains("does not know"));
    }

    #[test]
    fn of_unknown_messages_the_first_line_with_a_reason_is_taken() {
        let said = "Error while decoding stream #0:0: Invalid data found when processing input\n\
                    [vp9 @ 0x55d] Requested reference is not available\nConversion failed!\n";
        assert_eq!(reason(said), "Requested reference is not available");
        assert_eq!(reason("Conversion failed!\n"), "Conversion failed!");
        assert_eq!(reason("\n"), "it gave no reason");
    }
}
