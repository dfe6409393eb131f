//! What ffmpeg says, and the line of it that tells most.

use std::io::{self, Read};
use std::process::ChildStderr;
use std::thread::{self, JoinHandle};

/// Most bytes of messages that are kept.
const KEPT: u64 = 1 << 16;

/// The messages of a running ffmpeg. A thread reads them: a pipe that nobody empties would fill and stop it.
pub(super) struct Messages {
    reading: Option<JoinHandle<String>>,
    text: String,
}

impl Messages {
    pub fn of(mut pipe: ChildStderr) -> Self {
        let read = move || {
            let mut kept = Vec::new();
            // What cannot be read is not told: it only explains a failure that is known without.
            let _ = pipe.by_ref().take(KEPT).read_to_end(&mut kept);
            let _ = io::copy(&mut pipe, &mut io::sink());
            String::from_utf8_lossy(&kept).into_owned()
        };
        Self { reading: Some(thread::spawn(read)), text: String::new() }
    }

    /// All of them; waits until ffmpeg has ended.
    pub fn all(&mut self) -> String {
        if let Some(reading) = self.reading.take() {
            self.text = reading.join().unwrap_or_default();
        }
        self.text.clone()
    }
}

/// What ffmpeg says, and what it means.
const KNOWN: [(&str, &str); 7] = [
    ("matches no streams", "it has no video"),
    ("does not contain any stream", "it has no video"),
    ("skipping unsupported chunk: ANIM", "this ffmpeg does not know animated WebP"),
    ("moov atom not found", "it is damaged or truncated: it has no index (moov)"),
    ("No decoder could be found", "this ffmpeg has no decoder for it"),
    ("Decoder not found", "this ffmpeg has no decoder for it"),
    ("encrypted", "it is encrypted"),
];

/// Lines that only follow from another one.
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

/// What stands in the last line where ffmpeg knows nothing of a file.
const UNKNOWN: &str = "Invalid data found when processing input";

/// Why ffmpeg did not read a file, of its `messages`: in our words where they are known, else its first line that says
/// something.
pub(super) fn reason(messages: &str) -> String {
    if let Some((_, meaning)) = KNOWN.iter().find(|(said, _)| messages.contains(said)) {
        return (*meaning).to_owned();
    }
    let lines = || messages.lines().map(|line| without_place(line.trim())).filter(|line| !line.is_empty());
    let telling = |line: &&str| !line.contains(UNKNOWN) && !EMPTY.iter().any(|empty| line.contains(empty));
    match lines().find(telling) {
        Some(line) => line.to_owned(),
        None if messages.contains(UNKNOWN) => "it is damaged, or of no format that it knows".into(),
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
    fn reasons_are_in_our_words_where_they_are_known() {
        let said = "Stream map '0:V:0' matches no streams.\nTo ignore this, add a trailing '?' to the map.\n";
        assert_eq!(reason(said), "it has no video");
        let said =
            "[webp @ 0x1] skipping unsupported chunk: ANIM\n[webp @ 0x1] image data not found\nfile:a: Invalid\n";
        assert!(reason(said).contains("animated WebP"));
        assert!(reason("file:a.mkv: Invalid data found when processing input\n").contains("no format"));
    }

    #[test]
    fn else_the_first_line_that_says_something_is_taken() {
        let said = "Error while decoding stream #0:0: Invalid data found when processing input\n\
                    [vp9 @ 0x55d] Requested reference is not available\nConversion failed!\n";
        assert_eq!(reason(said), "Requested reference is not available");
        assert_eq!(reason("Conversion failed!\n"), "Conversion failed!");
        assert_eq!(reason("\n"), "it gave no reason");
    }
}
