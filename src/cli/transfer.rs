//! A progress bar for bytes.

use super::console::Console;
use super::events::{Clock, Event, Pace};
use super::interrupt;
use super::units::{duration, megabytes};
use indicatif::{ProgressBar, ProgressStyle};
use osp::Result;
use std::cell::RefCell;
use std::time::Instant;

/// The progress of a download or a conversion. Shows a bar on stderr, and prints a line when all bytes are written.
pub struct Transfer<'a> {
    console: &'a Console,
    label: String,
    bar: ProgressBar,
    total: u64,
    start: Instant,
    clock: RefCell<Clock>,
}

impl<'a> Transfer<'a> {
    /// A bar at 0 of `total` bytes.
    pub fn new(console: &'a Console, label: &str, total: u64) -> Self {
        let bar = if console.hides_bars() { ProgressBar::hidden() } else { ProgressBar::new(total) };
        let template =
            "{prefix:>8} {bar:32} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
        bar.set_prefix(label.to_owned());
        Self { console, label: label.to_owned(), bar, total, start: Instant::now(), clock: RefCell::default() }
    }

    /// Counts `bytes` more.
    ///
    /// # Errors
    /// [`osp::Error::Interrupted`] if the user wants to stop.
    pub fn advance(&self, bytes: u64) -> Result<()> {
        self.bar.inc(bytes);
        let (done, time) = (self.bar.position(), self.start.elapsed());
        if self.clock.borrow_mut().due(time, done >= self.total) {
            let pace = Pace::of(done, self.total, time);
            self.console.event(&Event::Transfer { stage: &self.label, bytes: done, of_bytes: self.total, pace });
        }
        interrupt::check()
    }

    /// Counts `bytes` less, because they must be downloaded again.
    #[cfg(feature = "download")]
    pub fn retreat(&self, bytes: u64) {
        self.bar.set_position(self.bar.position().saturating_sub(bytes));
    }

    /// Removes the bar and prints the line.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        let bytes = megabytes(self.bar.position());
        self.console.note(&format!("{}: {bytes} in {}", self.label, duration(self.start.elapsed())));
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
