//! Tests one file of kernels in a separate process. If the process ends early, another process tests the rest.

use super::Where;
use crate::cli::interrupt;
use osp::cuda::Variant;
use osp::selftest::{FACTS, Findings, chosen_cases, merge};
use osp::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{Builder, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// A message of a process, one line.
#[derive(Serialize, Deserialize)]
pub enum Event {
    /// The device it runs on.
    Device(String),
    /// A check begins.
    Begin { number: usize, check: String },
    /// A case of the check begins, with the kernels of this variant.
    Case { variant: Variant, words: String },
    /// All results up to now.
    Found(Findings),
    /// Why the check did not finish.
    Problem(String),
    /// All checks have run.
    End,
}

/// Starts the processes.
pub struct Runner {
    program: PathBuf,
    device: Where,
    quick: bool,
    /// The longest time in which a check may say nothing: that of a case.
    longest: Duration,
    /// Whether a file ends at the first check of the kernels for every GPU that does not finish.
    decides: bool,
}

/// A check that did not finish.
#[derive(Debug, Serialize)]
pub struct Problem {
    pub stem: String,
    pub check: String,
    pub problem: String,
    /// The variant whose kernels ended or hung the process; unknown before the first case, and if the check itself gave up.
    pub variant: Option<Variant>,
}

/// The results of a file.
#[derive(Default)]
pub struct Tested {
    pub device: String,
    pub findings: Findings,
    pub problems: Vec<Problem>,
}

/// How a process ended.
enum End {
    /// After the last check.
    Whole,
    /// During the check of this number, with the kernels of this variant.
    During(usize, Option<Variant>),
}

/// What a process tests.
#[derive(Clone, Copy, Default)]
struct Part {
    /// The number of the first check.
    first: usize,
    /// A variant that is not tested.
    without: Option<Variant>,
}

/// Processes that share a GPU, because most of the time of a quick test is their start, or the processors, because many
/// launches on the PTX machine have one block.
const BESIDE: usize = 4;
/// The longest time of a case on a GPU, where the longest takes a fifth of a second on two processors.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest time of what is slow. Opening a GPU and loading the kernels can take half a minute, and facts are compared
/// with the emulator, which takes seconds for a case.
const LONGEST_SLOW: Duration = Duration::from_secs(60);
/// The longest time in which a process ends that has said its last word. A driver may hang there.
const LONGEST_END: Duration = Duration::from_secs(10);
/// How long a killed process may take to end. A driver may hold it for as long as a kernel hangs.
const LONGEST_DEATH: Duration = Duration::from_secs(1);
/// The longest time of a case on the emulator, where a check takes minutes on a slow machine, and of checks with as
/// many cases as the user asks for.
const LONGEST_EMULATED: Duration = Duration::from_secs(3600);

impl Runner {
    /// A runner of this program.
    ///
    /// # Errors
    /// [`Error::Failed`] if the path of this program is unknown, [`Error::Usage`] if `OSP_ORACLE` chooses no cases.
    pub fn new(device: Where, quick: bool) -> Result<Self> {
        let program = std::env::current_exe();
        let program =
            program.map_err(|error| Error::Failed(format!("cannot find the path of this program: {error}")))?;
        let many_cases = chosen_cases()?.is_some();
        let longest = if device == Where::Cuda && !many_cases { LONGEST } else { LONGEST_EMULATED };
        Ok(Self { program, device, quick, longest, decides: false })
    }

    /// This runner, but for a verdict on the kernels for every GPU: nothing that a check finds after another one that did
    /// not finish changes it, and each check that hangs takes long.
    pub fn deciding(self) -> Self {
        Self { decides: true, ..self }
    }

    /// Tests files and hands over the results of each, in order. Several files are tested in parallel, except on the
    /// emulator, where one process already uses all processors. An interrupt or a failure loses nothing that was found
    /// before it.
    ///
    /// # Errors
    /// As for [`Self::test`]; those of `each`.
    pub fn test_all(&self, stems: &[String], each: &mut dyn FnMut(&str, Tested) -> Result<()>) -> Result<()> {
        let beside = if self.device == Where::Emulated { 1 } else { BESIDE };
        for stems in stems.chunks(beside) {
            let tested: Vec<Result<(Tested, Result<()>)>> = std::thread::scope(|scope| {
                let test = |stem| move || self.test(stem);
                let refused = || Error::no_thread("tests a kernel");
                let run = stems.iter().map(|stem| Builder::new().spawn_scoped(scope, test(stem)).map_err(refused()));
                let threads: Vec<_> = run.collect();
                let join = |thread: ScopedJoinHandle<_>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
                threads.into_iter().map(|thread| thread.map(join)).collect()
            });
            let mut ended = Ok(());
            for (stem, tested) in stems.iter().zip(tested) {
                let (tested, end) = tested?;
                // A process that never opened its device has found nothing.
                if end.is_ok() || !tested.device.is_empty() {
                    each(stem, tested)?;
                }
                ended = ended.and(end);
            }
            ended?;
        }
        Ok(())
    }

    /// Tests a file, and returns what it found beside how it ended. If a check ends its process, a new process continues
    /// with the next check. If Hopper's kernels have ended or hung it, the new process runs the same check without them:
    /// its cases of the kernels for every GPU would stay untested, and each further hang would take as long.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no GPU, [`Error::Failed`] if no process can be started, [`Error::Interrupted`].
    fn test(&self, stem: &str) -> (Tested, Result<()>) {
        let (mut tested, mut part) = (Tested::default(), Part::default());
        loop {
            match self.once(stem, part, &mut tested) {
                Ok(End::During(first, Some(Variant::Sm90))) if part.without.is_none() => {
                    part = Part { first, without: Some(Variant::Sm90) };
                }
                Ok(End::During(..)) if self.decides => return (tested, Ok(())),
                Ok(End::During(number, _)) => part.first = number + 1,
                Ok(End::Whole) => return (tested, Ok(())),
                Err(error) => return (tested, Err(error)),
            }
        }
    }

    /// Runs one process.
    fn once(&self, stem: &str, part: Part, tested: &mut Tested) -> Result<End> {
        // A file, not a pipe: it can be read even if another process still has it open.
        let said =
            tempfile::tempfile().map_err(Error::io("cannot make a temporary file in TMPDIR,", std::env::temp_dir()))?;
        let mut child = self.start(stem, part, &said)?;
        let events = listen(&mut child).inspect_err(|_| drop(wait(&mut child, Duration::ZERO)))?;
        let (mut begun, mut case, mut found): (Option<(usize, String)>, _, _) = (None, None, Findings::new());
        let problem = |check: &str, problem, variant| {
            let [stem, check] = [stem, check].map(str::to_owned);
            Problem { stem, check, problem, variant }
        };
        let silent = loop {
            match receive(&events, self.longest(stem, begun.is_some())) {
                Ok(Event::Device(device)) => tested.device = device,
                Ok(Event::Begin { number, check }) => (begun, case) = (Some((number, check)), None),
                Ok(Event::Case { variant, words }) => case = Some((variant, words)),
                Ok(Event::Found(findings)) => found = findings,
                Ok(Event::Problem(text)) => {
                    let check = begun.as_ref().map_or("", |(_, check)| check);
                    tested.problems.push(problem(check, text, None));
                }
                Ok(Event::End) => {
                    merge(&mut tested.findings, found);
                    let _ = wait(&mut child, LONGEST_END);
                    return Ok(End::Whole);
                }
                Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) => break true,
            }
            if interrupt::requested() {
                break true;
            }
        };
        merge(&mut tested.findings, found);
        let (code, words) = last_words(child, said, if silent { Duration::ZERO } else { LONGEST_END })?;
        let stopped = interrupt::check();
        let words = match (&stopped, silent) {
            (Err(_), _) => "interrupted".to_owned(),
            (_, true) => format!("did not finish within {} s", self.longest(stem, begun.is_some()).as_secs()),
            _ => words,
        };
        match begun {
            Some((number, check)) => {
                let (variant, during) = case.map(|(variant, words)| (variant, format!(", during {words}"))).unzip();
                tested.problems.push(problem(&check, words + &during.unwrap_or_default(), variant));
                stopped.map(|()| End::During(number, variant))
            }
            None if stopped.is_err() => Err(Error::Interrupted),
            None if code == Some(3) => Err(Error::Device(words)),
            None => Err(Error::Failed(format!("{stem} could not be tested: {words}"))),
        }
    }

    /// The longest time in which the process of a file may say nothing, before and after its first check has begun.
    fn longest(&self, stem: &str, begun: bool) -> Duration {
        if begun && stem != FACTS { self.longest } else { self.longest.max(LONGEST_SLOW) }
    }

    fn start(&self, stem: &str, part: Part, said: &File) -> Result<Child> {
        let failed = |error| Error::Failed(format!("cannot start {}: {error}", self.program.display()));
        let mut command = Command::new(&self.program);
        let device = self.device.name();
        command.args(["selftest", stem, "--device", &device, "--here", &part.first.to_string()]);
        command.args(part.without.iter().flat_map(|variant| ["--without", variant.name()]));
        if self.quick {
            command.arg("--quick");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said.try_clone().map_err(failed)?);
        command.spawn().map_err(failed)
    }
}

/// Waits for the end of a process, but not longer than `longest`, and not when the user wants to stop. Then kills it. `None`: it was
/// killed, and may still be about to end.
fn wait(child: &mut Child, longest: Duration) -> io::Result<Option<ExitStatus>> {
    let since = Instant::now();
    while since.elapsed() < longest && !interrupt::requested() {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    let since = Instant::now();
    while child.try_wait()?.is_none() && since.elapsed() < LONGEST_DEATH {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(None)
}

/// The events of a process, until it closes its output. Other lines are ignored.
fn listen(child: &mut Child) -> Result<Receiver<Event>> {
    let (send, receive) = channel();
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let listener = Builder::new().spawn(move || {
        for line in lines.map_while(|line| line.ok()) {
            let Ok(event) = serde_json::from_str(&line) else { continue };
            if send.send(event).is_err() {
                break;
            }
        }
    });
    listener.map(|_| receive).map_err(Error::no_thread("reads what a test says"))
}

/// The next event. Stops waiting after `longest`, or when the user wants to stop.
fn receive(events: &Receiver<Event>, longest: Duration) -> std::result::Result<Event, RecvTimeoutError> {
    const LOOK: Duration = Duration::from_millis(100);
    let end = Instant::now() + longest;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match events.recv_timeout(left.min(LOOK)) {
            Err(RecvTimeoutError::Timeout) if left > LOOK && !interrupt::requested() => {}
            other => return other,
        }
    }
}

/// The exit code of a process that ends early, at the latest after `longest`, and its last message: its error, else its last line, else its
/// status.
fn last_words(mut child: Child, mut file: File, longest: Duration) -> Result<(Option<i32>, String)> {
    let failed = |error| Error::Failed(format!("cannot wait for the process of a test: {error}"));
    let Some(status) = wait(&mut child, longest).map_err(failed)? else {
        return Ok((None, format!("closed its output, and did not end within {} s", longest.as_secs())));
    };
    let mut said = Vec::new();
    // If the file cannot be read, the message is empty.
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut said));
    let said = String::from_utf8_lossy(&said);
    let error = said.lines().rev().find_map(|line| line.strip_prefix("osp: error: "));
    let words = error.or_else(|| said.lines().last()).map_or_else(|| status.to_string(), str::to_owned);
    Ok((status.code(), words))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A runner of a script. From check 0 on, the script prints `lines`, then executes `at_the_end`; from check 1 on,
    /// it finishes.
    fn runner(lines: &str, at_the_end: &str, run: impl FnOnce(Runner) -> Result<()>) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("osp");
        let found = r#"{"Found":{"a":{"cases":2,"worst":0.5,"failed":0,"failure":null}}}"#;
        let script = format!(
            "#!/bin/sh\nif [ \"$6\" = 0 ]; then\n{lines}\n{at_the_end}\nexit\nfi\n\
             echo '{{\"Begin\":{{\"number\":1,\"check\":\"second\"}}}}'\necho '{found}'\necho '\"End\"'\n"
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let runner =
            Runner { program, device: Where::Cuda, quick: false, longest: Duration::from_secs(2), decides: false };
        run(runner)
    }

    fn tested(lines: &str, at_the_end: &str) -> Result<Tested> {
        let mut tested = Tested::default();
        runner(lines, at_the_end, |runner| {
            let end;
            (tested, end) = runner.test("gemm");
            end
        })?;
        Ok(tested)
    }

    const BEGIN: &str = r#"echo '{"Device":"a card"}'; echo '{"Begin":{"number":0,"check":"first"}}'"#;

    #[test]
    fn a_check_that_ends_its_process_does_not_hide_the_others() {
        for (at_the_end, words) in [
            ("kill -9 $$", "signal: 9"),
            ("echo 'osp: error: an illegal address' >&2; exit 3", "an illegal address"),
            ("sleep 60", "did not finish within 2 s"),
            ("exit 0", "exit status: 0"),
            ("echo nonsense; echo 'thread panicked' >&2; exit 101", "thread panicked"),
        ] {
            let tested = tested(BEGIN, at_the_end).unwrap();
            assert_eq!((tested.device.as_str(), tested.findings["a"].cases), ("a card", 2), "{at_the_end}");
            let [problem] = &tested.problems[..] else { panic!("{at_the_end}: one problem") };
            assert_eq!(problem.check, "first");
            assert!(problem.problem.contains(words), "{at_the_end}: {}", problem.problem);
        }
    }

    #[test]
    fn a_case_that_hangs_is_named_and_cases_that_follow_each_other_are_not_a_hang() {
        let case = r#"{\"Case\":{\"variant\":\"sm80\",\"words\":\"case $i\"}}"#;
        let cases = format!("for i in 1 2 3 4 5 6; do sleep 0.5; echo \"{case}\"; done");
        let tested = tested(&format!("{BEGIN}; {cases}"), "sleep 60").unwrap();
        let [problem] = &tested.problems[..] else { panic!("one check hangs") };
        assert_eq!(problem.problem, "did not finish within 2 s, during case 6");
    }

    /// The line of a case, in a script.
    fn case(variant: Variant) -> String {
        format!(r#"echo '{{"Case":{{"variant":"{variant}","words":"a case"}}}}'"#)
    }

    #[test]
    fn after_a_hang_of_hoppers_kernels_the_same_check_runs_without_them() {
        let found = r#"{"Found":{"b":{"cases":1,"worst":0.5,"failed":0,"failure":null}}}"#;
        let rest = format!("echo '{found}'; echo '\"End\"'; exit");
        for at_the_end in ["sleep 60", "kill -9 $$"] {
            let at_the_end = format!("[ \"$7 $8\" != '--without sm90' ] || {{ {rest}; }}\n{at_the_end}");
            let tested = tested(&format!("{BEGIN}; {}", case(Variant::Sm90)), &at_the_end).unwrap();
            let [problem] = &tested.problems[..] else { panic!("one check ends its process") };
            assert_eq!((problem.check.as_str(), problem.variant), ("first", Some(Variant::Sm90)));
            assert_eq!(tested.findings.keys().collect::<Vec<_>>(), ["b"]);
        }
    }

    #[test]
    fn a_verdict_waits_for_one_hang() {
        for (case, variant) in [(case(Variant::Sm80), Some(Variant::Sm80)), (":".to_owned(), None)] {
            let all = runner(&format!("{BEGIN}; {case}"), "sleep 60", |runner| {
                let (tested, end) = runner.deciding().test("gemm");
                assert_eq!(tested.problems.iter().map(|problem| problem.variant).collect::<Vec<_>>(), [variant]);
                assert!(tested.findings.is_empty());
                end
            });
            all.unwrap();
        }
    }

    #[test]
    fn what_was_found_before_a_failure_is_handed_over() {
        let mut found = Vec::new();
        // The second process finds no device.
        let lost =
            r#"echo '{"Found":{"b":{"cases":1,"worst":0.5,"failed":0,"failure":null}}}'; chmod -x "$0"; kill -9 $$"#;
        let all = runner(BEGIN, lost, |runner| {
            runner.test_all(&["gemm".to_owned()], &mut |_, tested| {
                found.extend(
                    tested.findings.into_keys().chain(tested.problems.into_iter().map(|problem| problem.check)),
                );
                Ok(())
            })
        });
        assert!(matches!(all, Err(Error::Failed(_))));
        assert_eq!(found, ["b", "first"]);
    }

    #[test]
    fn a_process_that_hangs_after_its_last_word_is_ended() {
        let since = Instant::now();
        let hangs = format!("{BEGIN}; echo '\"End\"'");
        assert!(tested(&hangs, "exec sleep 600").unwrap().problems.is_empty());
        let tested = tested(BEGIN, "exec >&-; exec sleep 600").unwrap();
        let [problem] = &tested.problems[..] else { panic!("its output was closed during a check") };
        assert!(problem.problem.contains("did not end within 10 s"), "{}", problem.problem);
        assert!(since.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn files_are_handed_over_in_order() {
        let stems = ["a", "b", "c", "d", "e"].map(str::to_owned);
        let mut order = Vec::new();
        // The earlier files of a group end later.
        let late = r#"case $2 in a) sleep 1;; c) sleep 0.5;; esac; echo '"End"'"#;
        let all = runner(BEGIN, late, |runner| {
            runner.test_all(&stems, &mut |stem, tested| {
                assert_eq!(tested.device, "a card");
                order.push(stem.to_owned());
                Ok(())
            })
        });
        all.unwrap();
        assert_eq!(order, stems);
    }

    #[test]
    fn without_a_device_nothing_is_tested() {
        let no_gpu = tested("", "echo 'osp: error: there is no GPU' >&2; exit 3");
        assert!(matches!(no_gpu, Err(Error::Device(words)) if words == "there is no GPU"));
        assert!(matches!(tested("", "exit 1"), Err(Error::Failed(_))));
    }
}
