//! One file of kernels in a process of its own, and again in another where that one ends early.

use super::Where;
use crate::cli::interrupt;
use osp::selftest::{Findings, merge};
use osp::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// What a process says, a line each.
#[derive(Serialize, Deserialize)]
pub enum Event {
    /// What it runs on.
    Device(String),
    /// A check begins.
    Begin { number: usize, check: String },
    /// All that was found of kernels so far.
    Found(Findings),
    /// Why the check did not get to its end.
    Problem(String),
    /// There are no more checks.
    End,
}

/// What is tested.
#[derive(Clone, Copy)]
pub struct Extent {
    pub device: Where,
    pub quick: bool,
}

/// A check that did not get to its end.
#[derive(Serialize)]
pub struct Problem {
    pub stem: String,
    pub check: String,
    pub problem: String,
}

/// What came of a file.
#[derive(Default)]
pub struct Tested {
    pub device: String,
    pub findings: Findings,
    pub problems: Vec<Problem>,
}

/// How a process ended.
enum End {
    /// After its last check.
    Whole,
    /// In the check of this number.
    During(usize),
}

/// Longest time of a check on a GPU, where one takes a second.
const LONGEST: Duration = Duration::from_secs(60);
/// Longest time of a check on the emulator, which takes minutes on a slow machine.
const LONGEST_EMULATED: Duration = Duration::from_secs(3600);

/// Tests a file, going on in a new process behind a check that ended the last one.
///
/// # Errors
/// [`Error::Device`] if there is no GPU, [`Error::Failed`] if no process can be started.
pub fn test(extent: Extent, stem: &str) -> Result<Tested> {
    let (mut tested, mut first) = (Tested::default(), 0);
    while let End::During(number) = once(extent, stem, first, &mut tested)? {
        first = number + 1;
    }
    Ok(tested)
}

/// One process, from the check of number `first` on.
fn once(extent: Extent, stem: &str, first: usize, tested: &mut Tested) -> Result<End> {
    let mut child = start(extent, stem, first)?;
    let events = listen(&mut child);
    let longest = if extent.device == Where::Cuda { LONGEST } else { LONGEST_EMULATED };
    let (mut begun, mut found): (Option<(usize, String)>, _) = (None, Findings::new());
    let problem = |check: &str, problem: String| Problem { stem: stem.to_owned(), check: check.to_owned(), problem };
    let silent = loop {
        match events.recv_timeout(longest) {
            Ok(Event::Device(device)) => tested.device = device,
            Ok(Event::Begin { number, check }) => begun = Some((number, check)),
            Ok(Event::Found(findings)) => found = findings,
            Ok(Event::Problem(text)) => {
                let check = begun.as_ref().map_or("", |(_, check)| check);
                tested.problems.push(problem(check, text));
            }
            Ok(Event::End) => {
                merge(&mut tested.findings, found);
                // It has nothing left to do.
                let _ = child.wait();
                return Ok(End::Whole);
            }
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
        interrupt::check()?;
    };
    merge(&mut tested.findings, found);
    let (code, words) = last_words(child, silent)?;
    interrupt::check()?;
    let words = if silent { format!("no end after {} s", longest.as_secs()) } else { words };
    match begun {
        Some((number, check)) => {
            tested.problems.push(problem(&check, words));
            Ok(End::During(number))
        }
        None if code == Some(3) => Err(Error::Device(words)),
        None => Err(Error::Failed(format!("{stem} could not be tested: {words}"))),
    }
}

fn start(extent: Extent, stem: &str, first: usize) -> Result<Child> {
    let failed = |error| Error::Failed(format!("cannot start the program again for {stem}: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    let device = if extent.device == Where::Cuda { "cuda" } else { "emulated" };
    command.args(["selftest", stem, "--device", device, "--here", &first.to_string()]);
    if extent.quick {
        command.arg("--quick");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(failed)
}

/// The events of a process, until it closes its output. Lines that are none are left out.
fn listen(child: &mut Child) -> Receiver<Event> {
    let (send, receive) = channel();
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    std::thread::spawn(move || {
        for line in lines.map_while(|line| line.ok()) {
            let Ok(event) = serde_json::from_str(&line) else { continue };
            if send.send(event).is_err() {
                break;
            }
        }
    });
    receive
}

/// The exit code of a process that ends before its time, and what it said last: its error, or how it ended.
fn last_words(mut child: Child, kill: bool) -> Result<(Option<i32>, String)> {
    let failed = |error| Error::Failed(format!("the process of a test is lost: {error}"));
    if kill {
        child.kill().map_err(failed)?;
    }
    let mut said = Vec::new();
    // What cannot be read was not said.
    let _ = child.stderr.take().expect("it is piped").read_to_end(&mut said);
    let status = child.wait().map_err(failed)?;
    let said = String::from_utf8_lossy(&said);
    let error = said.lines().rev().find_map(|line| line.strip_prefix("osp: error: "));
    let words = error.or_else(|| said.lines().last()).map_or_else(|| status.to_string(), str::to_owned);
    Ok((status.code(), words))
}
