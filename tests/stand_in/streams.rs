//! Streams, events, and the order in which work runs.

use crate::Outcome;
use crate::chance::Chance;
use crate::settings::Plant;
use crate::state::State;
use crate::work::Work;
use cudarc::driver::sys::CUresult;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// All streams and events.
pub struct Streams {
    streams: BTreeMap<usize, Stream>,
    events: BTreeMap<usize, Event>,
    /// How long work has run on the GPU.
    clock: Duration,
    pub chance: Chance,
}

/// A queue of work.
struct Stream {
    queue: VecDeque<Work>,
    /// Pieces of work that have run.
    done: u64,
    pace: Pace,
    /// Whether its handle is gone. Its work still runs.
    destroyed: bool,
}

/// When a stream works.
#[derive(Clone, Copy)]
enum Pace {
    /// Only if it must.
    Late,
    /// As soon as it can.
    Early,
    /// At random.
    Mixed,
}

/// A place in a stream: behind the first `position` pieces of its work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub stream: usize,
    position: u64,
}

struct Event {
    timed: bool,
    /// The place of the last record, and the GPU's clock when it ran.
    recorded: Option<(Point, Option<Duration>)>,
}

/// A piece of work that could run or not.
enum Step {
    Ran,
    /// It waits for this point.
    Blocked(Point),
    /// There is none.
    Idle,
}

impl Streams {
    pub fn new(seed: u64) -> Self {
        Self { streams: BTreeMap::new(), events: BTreeMap::new(), clock: Duration::ZERO, chance: Chance::new(seed) }
    }

    /// Opens a stream under a new handle.
    pub fn open(&mut self, handle: usize, seed: u64) {
        let pace = match seed {
            0 => Pace::Late,
            1 => Pace::Early,
            _ => Pace::Mixed,
        };
        self.streams.insert(handle, Stream { queue: VecDeque::new(), done: 0, pace, destroyed: false });
    }

    /// A stream that the host may use.
    fn opened(&mut self, handle: usize) -> Outcome<&mut Stream> {
        if handle == 0 {
            return Err(crate::state::not_modelled("the default stream"));
        }
        let stream = self.streams.get_mut(&handle).filter(|stream| !stream.destroyed);
        stream.ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
    }

    /// The end of a stream's work so far.
    pub fn end(&mut self, handle: usize) -> Outcome<Point> {
        let stream = self.opened(handle)?;
        Ok(Point { stream: handle, position: stream.done + stream.queue.len() as u64 })
    }

    /// Puts work on a stream, and returns the point behind it.
    pub fn put(&mut self, handle: usize, work: Work) -> Outcome<Point> {
        self.opened(handle)?.queue.push_back(work);
        self.end(handle)
    }

    /// Takes the next piece of a stream's work, and counts it as done.
    fn take(&mut self, handle: usize) -> Option<Work> {
        let stream = self.streams.get_mut(&handle)?;
        let work = stream.queue.pop_front()?;
        stream.done += 1;
        Some(work)
    }

    /// Closes a stream. Its work still runs, and nobody can wait for it any more, so it runs soon.
    pub fn destroy(&mut self, handle: usize) -> Outcome<()> {
        let stream = self.opened(handle)?;
        (stream.destroyed, stream.pace) = (true, Pace::Early);
        Ok(())
    }

    /// Whether the stream has worked up to this point.
    pub fn reached(&self, point: Point) -> bool {
        self.streams.get(&point.stream).is_none_or(|stream| stream.done >= point.position)
    }

    /// Whether all work is done.
    pub fn idle(&self) -> bool {
        self.streams.values().all(|stream| stream.queue.is_empty())
    }

    /// Drops all work, because the GPU has failed.
    pub fn abandon(&mut self) {
        for stream in self.streams.values_mut() {
            stream.done += stream.queue.len() as u64;
            stream.queue.clear();
        }
    }

    /// Adds to the GPU's clock.
    pub fn worked(&mut self, time: Duration) {
        self.clock += time;
    }

    pub fn open_event(&mut self, handle: usize, timed: bool) {
        self.events.insert(handle, Event { timed, recorded: None });
    }

    pub fn close_event(&mut self, handle: usize) -> Outcome<()> {
        self.events.remove(&handle).map(drop).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
    }

    /// Records an event behind the stream's work (`early`: before the newest piece).
    pub fn record(&mut self, event: usize, handle: usize, early: bool) -> Outcome<()> {
        if !self.events.contains_key(&event) {
            return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
        }
        let stream = self.opened(handle)?;
        let at = stream.queue.len().saturating_sub(usize::from(early));
        let point = Point { stream: handle, position: stream.done + at as u64 + 1 };
        stream.queue.insert(at, Work::Record { event, point });
        self.events.entry(event).and_modify(|event| event.recorded = Some((point, None)));
        Ok(())
    }

    /// The point of an event's last record; `None` before the first.
    pub fn recorded(&self, event: usize) -> Outcome<Option<Point>> {
        let event = self.events.get(&event).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        Ok(event.recorded.map(|(point, _)| point))
    }

    /// Runs a record: notes the time, unless the event was recorded again.
    pub fn note_time(&mut self, event: usize, at: Point) {
        let clock = self.clock;
        if let Some((point, time)) = self.events.get_mut(&event).and_then(|event| event.recorded.as_mut())
            && *point == at
        {
            *time = Some(clock);
        }
    }

    /// The time from one event to another: the errors of `cuEventElapsedTime`.
    pub fn elapsed(&self, start: usize, end: usize) -> Outcome<f32> {
        let time = |event: usize| {
            let event = self.events.get(&event).filter(|event| event.timed);
            let recorded = event.and_then(|event| event.recorded).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
            recorded.1.ok_or(CUresult::CUDA_ERROR_NOT_READY)
        };
        let (start, end) = (time(start)?, time(end)?);
        Ok((end.as_secs_f64() - start.as_secs_f64()) as f32 * 1000.0)
    }
}

impl State {
    /// Runs the next piece of a stream's work, if it may run.
    fn step(&mut self, handle: usize) -> Step {
        let next = self.streams.streams.get(&handle).and_then(|stream| stream.queue.front());
        if let Some(&Work::Wait(point)) = next
            && !self.streams.reached(point)
        {
            return Step::Blocked(point);
        }
        match self.streams.take(handle) {
            Some(work) => self.run(work),
            None => return Step::Idle,
        }
        Step::Ran
    }

    /// Runs a stream up to a point, and before it everything that the stream waits for.
    pub fn run_to(&mut self, point: Point) {
        while !self.streams.reached(point) {
            match self.step(point.stream) {
                Step::Ran => {}
                Step::Blocked(other) => self.run_to(other),
                Step::Idle => return,
            }
        }
    }

    /// Waits for a point, as the host does. Reports failures, and lets the pool give memory back, as
    /// `CU_MEMPOOL_ATTR_RELEASE_THRESHOLD` says.
    pub fn synchronize(&mut self, point: Point) -> Outcome<()> {
        self.run_to(point);
        self.report(true)?;
        let threshold = self.pool.threshold;
        self.pool.trim(threshold, |point| self.streams.reached(point));
        Ok(())
    }

    /// Waits for all streams.
    pub fn synchronize_all(&mut self) -> Outcome<()> {
        while !self.streams.idle() {
            self.round(|_, _| true);
        }
        self.report(true)
    }

    /// Lets as much work run as the seed says.
    pub fn let_work_run(&mut self) {
        if self.settings.seed > 1 && self.streams.chance.one_in(48) {
            self.change_pace();
        }
        while self.round(|chance, pace| match pace {
            Pace::Late => false,
            Pace::Early => true,
            Pace::Mixed => chance.one_in(2),
        }) {}
    }

    /// Gives one stream another pace.
    fn change_pace(&mut self) {
        let Streams { streams, chance, .. } = &mut self.streams;
        let index = chance.below(streams.len().max(1));
        if let Some(stream) = streams.values_mut().nth(index).filter(|stream| !stream.destroyed) {
            stream.pace = [Pace::Late, Pace::Early, Pace::Mixed][chance.below(3)];
        }
    }

    /// Runs a piece of work on each stream that shall and may run one. Returns whether any ran.
    fn round(&mut self, shall: impl Fn(&mut Chance, Pace) -> bool) -> bool {
        let paces: Vec<(usize, Pace)> =
            self.streams.streams.iter().map(|(&handle, stream)| (handle, stream.pace)).collect();
        let mut ran = false;
        for (handle, pace) in paces {
            if shall(&mut self.streams.chance, pace) {
                ran |= matches!(self.step(handle), Step::Ran);
            }
        }
        ran
    }

    /// Whether a point is reached, as the host asks without a wait. A program that asks in a loop must see an end, so
    /// one piece of work runs if it is not.
    pub fn query(&mut self, point: Point) -> Outcome<()> {
        if self.streams.reached(point) {
            return self.report(true);
        }
        if let Step::Blocked(other) = self.step(point.stream) {
            self.step(other.stream);
        }
        Err(CUresult::CUDA_ERROR_NOT_READY)
    }

    /// Records an event.
    pub fn record(&mut self, event: usize, stream: usize) -> Outcome<()> {
        let early = self.plants(Plant::RecordEarly);
        self.streams.record(event, stream, early)
    }
}
