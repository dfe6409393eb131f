//! State files: where the sampling of a video stands, so that a later run goes on with the same bits.
//!
//! A state is a safetensors file. Its metadata hold the request and what made the state; [`State::check_origin`] compares
//! this with the program, the device and the weights that are to go on. Its tensors depend on how far the run came:
//!
//! | tensor | what it holds | present |
//! |---|---|---|
//! | `latent` `[1, C, T, H, W]` f32 | a draft of the latent, or the latent itself: a state is also a latent file | after the first call |
//! | `sample` `[T, H, W, C]` f32 | the sampler's sample | between calls of the model |
//! | `history.N` `[T, H, W, C]` f32 | what the sampler keeps between calls | once a call has written it |
//! | `cache.N`, `cache.input`, `guidance.difference` `[T, H, W, C]` f32 | what shortcuts remember ([`Remembered`]) | with them |
//! | `frames` `[F, height, width, 3]` u8 | the frames of the windows that are decoded | once one is |

use crate::checkpoint::Model;
use crate::engine::{Engine, Remembered, RunState, SavedSettings, Settings, SinceEvaluation, Start, Task};
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::latent;
use crate::layout::{nchw_from_nhwc, nhwc_from_nchw};
use crate::program;
use crate::reading;
use crate::sampler::SamplerState;
use crate::staged;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

/// The entry of the metadata that says what the file is.
const KEY: &str = "osp.state";
/// Its version; a program reads only its own.
const FORMAT: u32 = 2;
/// The entry of the metadata with a hash of everything else.
const CHECK: &str = "osp.check";

/// Everything besides the request that decides the bits of a video.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The program: its version and build.
    pub program: String,
    /// The device, the types of its numbers and its kernels ([`Engine::arithmetic`]).
    pub device: String,
    /// Fingerprint of the text encoder's weights.
    pub text_encoder: String,
    /// Fingerprint of the transformer's weights.
    pub transformer: String,
    /// Fingerprint of the VAE's weights.
    pub vae: String,
}

impl Origin {
    /// What samples on `engine` with `model`.
    ///
    /// # Errors
    /// [`Error::Usage`] if the model was opened without one of its parts; the error of [`Engine::arithmetic`].
    pub fn of(engine: &Engine, model: &Model) -> Result<Self> {
        Ok(Self {
            program: program::identity(),
            device: engine.arithmetic()?,
            text_encoder: model.need_text_encoder()?.source.fingerprint(),
            transformer: model.need_transformer()?.source.fingerprint(),
            vae: model.need_vae()?.source.fingerprint(),
        })
    }

    /// The first difference from `other`: what it is, what `self` has, what `other` has, and what to do about it.
    fn difference(&self, other: &Self) -> Option<String> {
        let model = "choose the same model and components";
        [
            (
                "program",
                &self.program,
                &other.program,
                "only the program that made a state can go on with the same bits",
            ),
            ("device", &self.device, &other.device, "choose the same device, type of numbers and kernels"),
            ("text encoder", &self.text_encoder, &other.text_encoder, model),
            ("transformer", &self.transformer, &other.transformer, model),
            ("VAE", &self.vae, &other.vae, model),
        ]
        .into_iter()
        .find(|(_, ours, theirs, _)| ours != theirs)
        .map(|(what, ours, theirs, cure)| {
            format!("was made with the {what} {ours:?}, but this run has {theirs:?}; {cure}")
        })
    }
}

/// Where the sampling of a video stands.
#[derive(Clone, Debug)]
pub struct State {
    /// The request, settled.
    pub settings: Settings,
    /// What made it.
    pub origin: Origin,
    /// What the program that made it wants to find again, such as the model's folder.
    pub notes: BTreeMap<String, String>,
    /// How far it came.
    pub progress: Progress,
}

/// How far a video came.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Nothing is drawn.
    Begun,
    /// Between two calls of the model.
    Sampling {
        /// The sampler and its shortcuts.
        run: RunState,
        /// The latent `[T, H, W, C]` that the last prediction leads to.
        draft: Vec<f32>,
    },
    /// Between two windows of the decoder.
    Decoding {
        /// The latent, `[T, H, W, C]`.
        latent: Vec<f32>,
        /// RGB bytes of the frames of the decoded windows.
        frames: Vec<u8>,
    },
}

impl Progress {
    /// Where a video of these settings stands, in words: `after step 6 of 30`. `frames` are decoded.
    pub fn stands(&self, settings: &Settings, frames: usize) -> String {
        match self {
            Self::Begun => "before the first step".to_owned(),
            Self::Sampling { run, .. } => {
                let calls = settings.schedule().map_or(0, |schedule| schedule.calls.len());
                format!("after step {} of {calls}", run.sampler.done)
            }
            Self::Decoding { .. } => format!("with the latent and {frames} of {} frames", settings.frames),
        }
    }
}

/// A state's metadata.
#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    #[serde(flatten)]
    request: SavedSettings,
    /// Calls of the model that are complete.
    calls: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remembered: Option<Numbers>,
    origin: Origin,
    notes: BTreeMap<String, String>,
}

/// The numbers among what shortcuts remember.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Numbers {
    since: SinceEvaluation,
    /// Of the predictions, newest first.
    timesteps: Vec<f32>,
    /// Calls that the difference of the branches of guidance has served.
    served: Option<usize>,
}

impl Numbers {
    /// `None` if nothing is remembered.
    fn of(remembered: &Remembered) -> Option<Self> {
        let Remembered { since, predictions, difference, .. } = remembered;
        let timesteps = predictions.iter().map(|(timestep, _)| *timestep).collect();
        let served = difference.as_ref().map(|(served, _)| *served);
        (*remembered != Remembered::default()).then_some(Self { since: *since, timesteps, served })
    }
}

impl Saved {
    fn of(state: &State) -> Self {
        let State { settings, origin, notes, progress } = state;
        let run = if let Progress::Sampling { run, .. } = progress { Some(run) } else { None };
        Self {
            format: FORMAT,
            request: settings.into(),
            calls: run.map_or(0, |run| run.sampler.done),
            remembered: run.and_then(|run| Numbers::of(&run.remembered)),
            origin: origin.clone(),
            notes: notes.clone(),
        }
    }
}

impl State {
    /// What a batch takes to go on. An edit also needs its pixels ([`Task::of_footage`]).
    pub fn task(&self) -> Task {
        let start = match &self.progress {
            Progress::Begun => Start::Noise,
            Progress::Sampling { run, .. } => Start::Call(run.clone()),
            Progress::Decoding { latent, .. } => Start::Latent { values: latent.clone(), windows: self.windows() },
        };
        Task { start, ..Task::from(self.settings.clone()) }
    }

    /// The frames that are decoded, `height·width·3` bytes each.
    pub fn frames(&self) -> &[u8] {
        if let Progress::Decoding { frames, .. } = &self.progress { frames } else { &[] }
    }

    /// Where the video stands, in words.
    pub fn stands(&self) -> String {
        self.progress.stands(&self.settings, self.frames().len() / self.settings.frame_bytes())
    }

    /// Windows in time that are decoded.
    fn windows(&self) -> usize {
        let frames = self.frames().len() / self.settings.frame_bytes();
        self.settings.window_ends().iter().filter(|&&end| end <= frames).count()
    }

    /// Fails if going on with `origin` would not give the bits of a run without a stop.
    ///
    /// # Errors
    /// [`Error::Media`] names the difference.
    pub fn check_origin(&self, path: &Path, origin: &Origin) -> Result<()> {
        self.origin.difference(origin).map_or(Ok(()), |difference| Err(Error::media(path, difference)))
    }

    /// Writes the state to `path`. It appears whole or not at all, and outlasts a failure of power.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let saved = serde_json::to_string(&Saved::of(self)).expect("plain values have a JSON form");
        let fps = latent::rate_text(self.settings.fps);
        let tensors = self.tensors();
        let check = check(&saved, tensors.iter().map(|Stored { name, bytes, .. }| (&**name, &**bytes)));
        let metadata = HashMap::from([(KEY.to_owned(), saved), ("fps".to_owned(), fps), (CHECK.to_owned(), check)]);
        let views = tensors.iter().map(|Stored { name, dtype, shape, bytes }| {
            (&**name, TensorView::new(*dtype, shape.clone(), bytes).expect("the number of values is that of the shape"))
        });
        let fault = |error| Error::media(path, format!("the state cannot be put into a safetensors file: {error}"));
        let file = safetensors::serialize(views.collect::<Vec<_>>(), Some(metadata)).map_err(fault)?;
        staged::write_file(path, &file)
    }

    fn tensors(&self) -> Vec<Stored<'_>> {
        let [frames, height, width] = self.settings.latent_size();
        let channels = self.settings.factors.channels;
        let stored = |name: &str, values: &[f32]| Stored::floats(name, vec![frames, height, width, channels], values);
        let as_latent = |values: &[f32]| {
            let values = nchw_from_nhwc(values, channels);
            Stored::floats(latent::TENSOR, vec![1, channels, frames, height, width], &values)
        };
        match &self.progress {
            Progress::Begun => Vec::new(),
            Progress::Sampling { run: RunState { sampler, remembered }, draft } => {
                let Remembered { predictions, input, difference, .. } = remembered;
                let kept = sampler.history.iter().enumerate().filter(|(_, tensor)| !tensor.is_empty());
                let kept = kept.map(|(index, tensor)| stored(&history(index), tensor));
                // At first a draft can be far outside of what a decoder takes.
                let draft: Vec<f32> = draft.iter().map(|value| value.clamp(-latent::MOST, latent::MOST)).collect();
                let predictions = predictions.iter().enumerate();
                let predictions = predictions.map(|(index, (_, values))| stored(&prediction(index), values));
                let input = input.iter().map(|values| stored(INPUT, values));
                let difference = difference.iter().map(|(_, values)| stored(DIFFERENCE, values));
                let of_sampler = [as_latent(&draft), stored(SAMPLE, &sampler.sample)].into_iter().chain(kept);
                of_sampler.chain(predictions).chain(input).chain(difference).collect()
            }
            Progress::Decoding { latent, frames } if frames.is_empty() => vec![as_latent(latent)],
            Progress::Decoding { latent, frames } => {
                let Settings { height, width, .. } = self.settings;
                let shape = vec![frames.len() / self.settings.frame_bytes(), height, width, 3];
                let (name, bytes) = (FRAMES.to_owned(), Cow::from(&frames[..]));
                vec![as_latent(latent), Stored { name, dtype: Dtype::U8, shape, bytes }]
            }
        }
    }

    /// Reads a state.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Media`] if it is not a whole state.
    pub fn read(path: &Path) -> Result<Self> {
        let fault = |problem: String| Error::media(path, problem);
        let bytes = reading::bytes(path, u64::MAX).map_err(Error::io("cannot read", path))?;
        let damaged =
            |error| fault(format!("is not a whole state file: {error}; expected an OUTPUT.state of osp sample"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let entry = |key: &str| header.metadata().as_ref().and_then(|metadata| metadata.get(key));
        let text = entry(KEY).ok_or_else(|| fault("holds no state; expected an OUTPUT.state of osp sample".into()))?;
        let saved: Saved =
            serde_json::from_str(text).map_err(|error| fault(format!("its request is damaged: {error}")))?;
        if saved.format != FORMAT {
            let (found, expected) = (saved.format, FORMAT);
            return Err(fault(format!("is a state of format {found}; this program reads format {expected}")));
        }
        let (origin, notes) = (saved.origin.clone(), saved.notes.clone());
        let done = (saved.calls, saved.remembered.clone());
        let settings = saved.request.settings().ok_or_else(|| fault("a value of its request is damaged".into()))?;
        settings.validate().map_err(|error| fault(format!("its request is damaged: {error}")))?;
        let progress = Stored::progress(&file, &settings, done).map_err(fault)?;
        let state = Self { settings, origin, notes, progress };
        state.validate().map_err(|error| fault(error.to_string()))?;
        // Behind all other checks, which say more, and which do not rely on it.
        let found = check(text, file.iter().map(|(name, tensor)| (name, tensor.data())));
        if entry(CHECK) != Some(&found) {
            return Err(fault("is not as it was written: a part of it has other bytes; go on from a copy".into()));
        }
        Ok(state)
    }

    fn validate(&self) -> Result<()> {
        self.task().validate()?;
        let (frames, ends) = (self.frames().len() / self.settings.frame_bytes(), self.settings.window_ends());
        if frames == 0 || ends.contains(&frames) {
            return Ok(());
        }
        Err(Error::Usage(format!("its {frames} frames do not end with a window")))
    }
}

/// A hash of a state's request and tensors.
fn check<'a>(request: &str, tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut parts: Vec<String> = tensors.map(|(name, bytes)| format!("{name} {:016x}", fnv1a(bytes))).collect();
    parts.sort();
    parts.push(request.to_owned());
    format!("{:016x}", fnv1a(parts.join("\n").as_bytes()))
}

/// Whether a file is a state, whole or not.
pub fn is_state(path: &Path) -> bool {
    /// A state's header has a request and some names.
    const MOST_HEADER: u64 = 1 << 20;
    let header = || {
        let mut file = reading::open(path).ok()?;
        let mut len = [0; 8];
        file.read_exact(&mut len).ok()?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(len).min(MOST_HEADER)).read_to_end(&mut header).ok()?;
        Some(header)
    };
    header().is_some_and(|header| header.windows(KEY.len()).any(|found| found == KEY.as_bytes()))
}

/// Names of tensors, besides the latent's.
const SAMPLE: &str = "sample";
const FRAMES: &str = "frames";
const INPUT: &str = "cache.input";
const DIFFERENCE: &str = "guidance.difference";

fn history(index: usize) -> String {
    format!("history.{index}")
}

fn prediction(index: usize) -> String {
    format!("cache.{index}")
}

/// A tensor of a state file.
struct Stored<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl Stored<'_> {
    fn floats(name: &str, shape: Vec<usize>, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.to_owned(), dtype: Dtype::F32, shape, bytes: bytes.into() }
    }

    /// How far a file's tensors say that the video came; a message if they do not fit each other. `calls` are done, and
    /// shortcuts remember some numbers.
    fn progress(
        file: &SafeTensors<'_>,
        settings: &Settings,
        (calls, numbers): (usize, Option<Numbers>),
    ) -> std::result::Result<Progress, String> {
        let channels = settings.factors.channels;
        let [frames, height, width] = settings.latent_size();
        let size = [frames, height, width, channels];
        let Ok(latent) = file.tensor(latent::TENSOR) else { return Ok(Progress::Begun) };
        let latent = floats(latent::TENSOR, &latent, &[1, channels, frames, height, width])?;
        let latent = nhwc_from_nchw(&latent, channels);
        if let Ok(sample) = file.tensor(SAMPLE) {
            let schedule = settings.schedule().map_err(|error| error.to_string())?;
            let kept = (0..schedule.history).map(|index| match file.tensor(&history(index)) {
                Ok(tensor) => floats(&history(index), &tensor, &size),
                Err(_) => Ok(Vec::new()),
            });
            let history = kept.collect::<std::result::Result<_, _>>()?;
            let sampler = SamplerState { done: calls, sample: floats(SAMPLE, &sample, &size)?, history };
            let remembered = numbers.map(|numbers| remembered(file, numbers, &size)).transpose()?.unwrap_or_default();
            return Ok(Progress::Sampling { run: RunState { sampler, remembered }, draft: latent });
        }
        if calls > 0 {
            return Err(format!("holds no tensor {SAMPLE}, but {calls} calls of the model are complete"));
        }
        let frames = match file.tensor(FRAMES) {
            Ok(tensor) => match (tensor.dtype(), tensor.shape()) {
                (Dtype::U8, &[_, height, width, 3]) if [height, width] == [settings.height, settings.width] => {
                    tensor.data().to_vec()
                }
                (dtype, shape) => {
                    return Err(format!("tensor {FRAMES} is {dtype:?} {shape:?}, not frames of the video"));
                }
            },
            Err(_) => Vec::new(),
        };
        Ok(Progress::Decoding { latent, frames })
    }
}

/// What shortcuts remember, in tensors of this shape; `numbers` say which there are.
fn remembered(
    file: &SafeTensors<'_>,
    Numbers { since, timesteps, served }: Numbers,
    shape: &[usize],
) -> std::result::Result<Remembered, String> {
    let tensor = |name: &str| match file.tensor(name) {
        Ok(tensor) => floats(name, &tensor, shape),
        Err(_) => Err(format!("holds no tensor {name}")),
    };
    let predictions = timesteps.into_iter().enumerate().map(|(index, at)| Ok((at, tensor(&prediction(index))?)));
    Ok(Remembered {
        since,
        predictions: predictions.collect::<std::result::Result<_, String>>()?,
        input: file.tensor(INPUT).is_ok().then(|| tensor(INPUT)).transpose()?,
        difference: served.map(|served| Ok::<_, String>((served, tensor(DIFFERENCE)?))).transpose()?,
    })
}

/// The finite values of a tensor of this shape.
fn floats(name: &str, tensor: &TensorView<'_>, shape: &[usize]) -> std::result::Result<Vec<f32>, String> {
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        let (dtype, found) = (tensor.dtype(), tensor.shape());
        return Err(format!("tensor {name} is {dtype:?} {found:?}, expected F32 {shape:?}"));
    }
    let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let values: Vec<f32> = values.collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(format!("value {at} of tensor {name} is {}, expected a finite number", values[at])),
        None => Ok(values),
    }
}
