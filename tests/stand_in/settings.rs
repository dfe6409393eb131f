//! The settings, which the variable `OSP_STAND_IN` holds as words `key=value`. scripts/stand-in lists them.

use std::fmt::Display;
use std::str::FromStr;

const VARIABLE: &str = "OSP_STAND_IN";
const KEYS: &str = "seed, memory, cards, name, capability, multiprocessors, cache, driver, fail, plant, log";

/// A fault of the calling program. The stand-in behaves as if the program had it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// No stream waits for an event.
    IgnoreWaits,
    /// An event is recorded before the newest work of its stream.
    RecordEarly,
    /// Memory is freed before the work that was put on the stream earlier.
    FreeAtOnce,
    /// The host does not wait for events.
    NoEventSync,
    /// Only the thread that opened the GPU binds the context.
    UnboundThread,
}

const PLANTS: [(&str, Plant); 5] = [
    ("ignore-waits", Plant::IgnoreWaits),
    ("record-early", Plant::RecordEarly),
    ("free-at-once", Plant::FreeAtOnce),
    ("no-event-sync", Plant::NoEventSync),
    ("unbound-thread", Plant::UnboundThread),
];

/// All settings.
pub struct Settings {
    /// 0: all work runs as late as it may. 1: as early as it may. Others: mixed.
    pub seed: u64,
    /// Bytes of the GPU's memory.
    pub memory: usize,
    pub cards: i32,
    pub name: String,
    /// Compute capability.
    pub capability: (i32, i32),
    pub multiprocessors: i32,
    /// Bytes of the second-level cache.
    pub cache: i32,
    /// The driver's CUDA version, as (major, minor).
    pub driver: (i32, i32),
    /// The kernel, or the driver's function, whose use of this number fails; the first is 1.
    pub fail: Option<(String, u64)>,
    pub plant: Option<Plant>,
    /// Whether stderr explains errors, and names calls that leave no trace in results.
    pub log: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            memory: 16 << 30,
            cards: 1,
            name: "stand-in".to_owned(),
            capability: (9, 0),
            multiprocessors: 132,
            cache: 1 << 20,
            driver: (13, 0),
            fail: None,
            plant: None,
            log: false,
        }
    }
}

impl Settings {
    /// The environment's settings. A wrong setting ends the process: no error of the driver could name it.
    pub fn of_environment() -> Self {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        Self::read(&text).unwrap_or_else(|problem| {
            eprintln!("stand-in: {VARIABLE}: {problem}");
            std::process::exit(2);
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut settings = Self::default();
        for word in text.split_whitespace() {
            let (key, value) =
                word.split_once('=').ok_or_else(|| format!("expected words like seed=3, found {word:?}"))?;
            settings.set(key, value).map_err(|problem| format!("{word}: {problem}"))?;
        }
        Ok(settings)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "seed" => self.seed = number(value)?,
            "memory" => self.memory = size(value)?,
            "cards" => self.cards = number(value)?,
            "name" => self.name = value.to_owned(),
            "capability" => self.capability = pair(value)?,
            "multiprocessors" => self.multiprocessors = number(value)?,
            "cache" => self.cache = size(value)?.try_into().map_err(|_| "at most 2047MiB".to_owned())?,
            "driver" => self.driver = pair(value)?,
            "fail" => self.fail = Some(numbered(value)?),
            "plant" => self.plant = Some(plant(value)?),
            "log" => self.log = number::<u8>(value)? != 0,
            _ => return Err(format!("no such setting; the settings are {KEYS}")),
        }
        Ok(())
    }
}

fn number<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|problem| format!("{problem}"))
}

/// Reads `9.0`.
fn pair(text: &str) -> Result<(i32, i32), String> {
    let (major, minor) = text.split_once('.').ok_or("expected two numbers, such as 9.0")?;
    Ok((number(major)?, number(minor)?))
}

/// Reads `300MiB`, or bytes without a unit.
fn size(text: &str) -> Result<usize, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (digits, shift) = unit.unwrap_or((text, &0));
    Ok(number::<usize>(digits)? << shift)
}

/// Reads `NAME@N`.
fn numbered(text: &str) -> Result<(String, u64), String> {
    let (name, count) =
        text.split_once('@').ok_or("expected a kernel or a function and a number, as in cuEventRecord@3")?;
    Ok((name.to_owned(), number(count)?))
}

fn plant(text: &str) -> Result<Plant, String> {
    let names = PLANTS.map(|(name, _)| name).join(", ");
    let found = PLANTS.iter().find(|(name, _)| *name == text);
    found.map(|&(_, plant)| plant).ok_or_else(|| format!("no such fault; the faults are {names}"))
}
