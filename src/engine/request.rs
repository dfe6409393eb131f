//! What a user asks for, and the settings that follow from it and from the model.

use super::{Edit, Footage, Method, Shortcuts, Span, Spans, Windowed};
use crate::checkpoint::Defaults;
use crate::error::{Error, Result};
use crate::model::vae::tiling::Tiling;
use crate::model::vae::{Factors, MOST_SIDE};
use crate::sampler::{SamplerKind, Schedule, validate_guidance};
use crate::text::caption;
use crate::video::FrameRate;

/// A video that is asked for. What is left open follows the model ([`Defaults`]).
///
/// ```
/// use osp::Request;
///
/// let request = Request::new("a red circle moving to the right").frames(17).size(256, 256).seed(7);
/// assert_eq!(request.steps, None);
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    /// The caption, as the user wrote it.
    pub prompt: String,
    /// What the video should not be; empty for none.
    pub negative_prompt: String,
    /// Clean captions as the original does; otherwise only lower-case and strip.
    pub clean_caption: bool,
    /// Frames: 1 (an image) or 4k + 1.
    pub frames: Option<usize>,
    /// Rows and columns of pixels, multiples of 16.
    pub size: Option<[usize; 2]>,
    /// Sampler.
    pub sampler: Option<SamplerKind>,
    /// Steps of the sampler.
    pub steps: Option<usize>,
    /// Guidance scale; guidance is on above 1.
    pub guidance: Option<f32>,
    /// Seed of the noise, as `torch.manual_seed` takes it.
    pub seed: u64,
    /// Frames per second. Nothing is computed from it.
    pub fps: FrameRate,
    /// Windows of the VAE; `None` decodes everything at once.
    pub tiling: Option<Tiling>,
    /// What makes it an edit ([`Self::edits`]).
    pub edit: Option<Edit>,
    /// How much of the video the transformer sees at once.
    pub spans: Spans,
    /// Ways to make fewer evaluations. The model brings the coefficients of a cache.
    pub shortcuts: Shortcuts,
}

impl Request {
    /// A video of `prompt` with seed 0 and all of the model's defaults.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            negative_prompt: String::new(),
            clean_caption: true,
            frames: None,
            size: None,
            sampler: None,
            steps: None,
            guidance: None,
            seed: 0,
            fps: FrameRate::default(),
            tiling: Some(Tiling::default()),
            edit: None,
            spans: Spans::Trained,
            shortcuts: Shortcuts::default(),
        }
    }

    /// Says what the video should not show.
    #[must_use]
    pub fn negative_prompt(self, text: impl Into<String>) -> Self {
        Self { negative_prompt: text.into(), ..self }
    }

    /// Takes captions as they are, but for lower case, or cleans them as the original does.
    #[must_use]
    pub fn clean_caption(self, clean: bool) -> Self {
        Self { clean_caption: clean, ..self }
    }

    /// Asks for this many frames: 1 (an image) or 4k + 1.
    #[must_use]
    pub fn frames(self, frames: usize) -> Self {
        Self { frames: Some(frames), ..self }
    }

    /// Asks for this many rows and columns of pixels, multiples of 16.
    #[must_use]
    pub fn size(self, height: usize, width: usize) -> Self {
        Self { size: Some([height, width]), ..self }
    }

    /// Chooses the sampler.
    #[must_use]
    pub fn sampler(self, sampler: SamplerKind) -> Self {
        Self { sampler: Some(sampler), ..self }
    }

    /// Chooses the number of the sampler's steps.
    #[must_use]
    pub fn steps(self, steps: usize) -> Self {
        Self { steps: Some(steps), ..self }
    }

    /// Chooses the guidance scale; 1 turns guidance off, and takes half the time.
    #[must_use]
    pub fn guidance(self, scale: f32) -> Self {
        Self { guidance: Some(scale), ..self }
    }

    /// Chooses the seed of the noise.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Chooses the frames per second at which the clip plays.
    #[must_use]
    pub fn fps(self, fps: FrameRate) -> Self {
        Self { fps, ..self }
    }

    /// Chooses the windows of the VAE; `None` decodes everything at once.
    #[must_use]
    pub fn tiling(self, tiling: Option<Tiling>) -> Self {
        Self { tiling, ..self }
    }

    /// Chooses how much of the video the transformer sees at once; by default as many frames as the training videos had.
    #[must_use]
    pub fn spans(self, spans: Spans) -> Self {
        Self { spans, ..self }
    }

    /// Chooses ways to make fewer evaluations of the transformer, for other values; by default none.
    #[must_use]
    pub fn shortcuts(self, shortcuts: Shortcuts) -> Self {
        Self { shortcuts, ..self }
    }

    /// Asks for an edit of `footage` ([`crate::Engine::edit`]), by giving it noise. `strength` is the share of the sampler's steps
    /// that are made: the lower, the more of the clip remains. The video gets the size and the rate of the clip.
    #[must_use]
    pub fn edits(self, footage: &Footage, strength: f32) -> Self {
        self.edits_by(Method::Noise, footage, strength)
    }

    /// As [`Self::edits`], by another method.
    #[must_use]
    pub fn edits_by(self, method: Method, footage: &Footage, strength: f32) -> Self {
        let (size, fps) = (footage.size(), footage.fps().unwrap_or(self.fps));
        let (frames, sides) = size.map(|[frames, height, width]| (frames, [height, width])).unzip();
        let (frames, size) = (frames.or(self.frames), sides.or(self.size));
        Self { frames, size, fps, edit: Some(footage.edit(strength, method)), ..self }
    }

    /// The settings of the request, what it leaves open taken from `defaults`, and checked.
    ///
    /// # Errors
    /// [`Error::Usage`] says what to change.
    pub fn settle(&self, defaults: &Defaults) -> Result<Settings> {
        let [height, width] = self.size.unwrap_or([defaults.height, defaults.width]);
        let frames = self.frames.unwrap_or(defaults.frames);
        let settings = Settings {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            clean_caption: self.clean_caption,
            frames,
            height,
            width,
            sampler: self.sampler.unwrap_or(defaults.sampler),
            steps: self.steps.unwrap_or(defaults.steps),
            guidance: self.guidance.unwrap_or(defaults.guidance),
            seed: self.seed,
            fps: self.fps,
            tiling: self.tiling,
            edit: self.edit.clone(),
            span: self.span(frames, defaults)?,
            shortcuts: self.calibrated(defaults)?,
            factors: defaults.factors,
            patch: defaults.patch,
        };
        settings.validate()?;
        Ok(settings)
    }

    /// The shortcuts with the coefficients of the model.
    fn calibrated(&self, defaults: &Defaults) -> Result<Shortcuts> {
        let cache = self.shortcuts.cache.clone();
        let cache = cache.map(|cache| cache.calibrated(&defaults.calibration)).transpose()?;
        Ok(Shortcuts { cache, ..self.shortcuts })
    }

    /// The spans of a video of `frames` frames; `None` if the transformer sees all of them at once.
    fn span(&self, frames: usize, defaults: &Defaults) -> Result<Option<Span>> {
        let latents = |frames: usize| defaults.factors.latent_size([frames, 0, 0])[0];
        let of = match self.spans {
            Spans::Whole => return Ok(None),
            // An image is no span.
            Spans::Trained if latents(defaults.frames) < 2 => return Ok(None),
            Spans::Trained => defaults.frames,
            Spans::Of(frames) => {
                validate_frames(frames, defaults.factors)?;
                frames
            }
        };
        Ok((of < frames).then(|| Span::of(latents(of))))
    }
}

/// A request that leaves nothing open.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The caption, as the user wrote it.
    pub prompt: String,
    /// What the video should not be; empty for none.
    pub negative_prompt: String,
    /// Clean captions as the original does; otherwise only lower-case and strip.
    pub clean_caption: bool,
    /// Frames: 1 (an image) or 4k + 1.
    pub frames: usize,
    /// Rows of pixels, a multiple of 16.
    pub height: usize,
    /// Columns of pixels, a multiple of 16.
    pub width: usize,
    /// Sampler.
    pub sampler: SamplerKind,
    /// Steps of the sampler.
    pub steps: usize,
    /// Guidance scale; guidance is on above 1.
    pub guidance: f32,
    /// Seed of the noise, as `torch.manual_seed` takes it.
    pub seed: u64,
    /// Frames per second.
    pub fps: FrameRate,
    /// Windows of the VAE; `None` decodes everything at once.
    pub tiling: Option<Tiling>,
    /// What makes it an edit.
    pub edit: Option<Edit>,
    /// What the transformer sees at once, if not the whole video.
    pub span: Option<Span>,
    /// Ways to make fewer evaluations.
    pub shortcuts: Shortcuts,
    /// What the VAE makes of pixels and frames.
    pub factors: Factors,
    /// Latents a side of the transformer's tokens.
    pub patch: usize,
}

/// A request that asks for everything that the settings hold, for any model.
impl From<&Settings> for Request {
    fn from(settings: &Settings) -> Self {
        Self {
            prompt: settings.prompt.clone(),
            negative_prompt: settings.negative_prompt.clone(),
            clean_caption: settings.clean_caption,
            frames: Some(settings.frames),
            size: Some([settings.height, settings.width]),
            sampler: Some(settings.sampler),
            steps: Some(settings.steps),
            guidance: Some(settings.guidance),
            seed: settings.seed,
            fps: settings.fps,
            tiling: settings.tiling,
            edit: settings.edit.clone(),
            spans: settings.span.map_or(Spans::Whole, |span| Spans::Of(settings.factors.frames(span.frames))),
            shortcuts: settings.shortcuts.clone(),
        }
    }
}

/// Bytes of a prompt. The encoder reads less, and the time to clean a text grows with the square of its length.
pub(crate) const MOST_PROMPT: usize = 16 << 10;

impl Settings {
    /// Checks frames, size, steps, guidance, tiling, the prompts and the edit.
    ///
    /// # Errors
    /// [`Error::Usage`] says what to change.
    pub fn validate(&self) -> Result<()> {
        let source = self.edit.as_ref().and_then(|edit| edit.method.source());
        let texts = [
            ("prompt", Some(&*self.prompt)),
            ("negative prompt", Some(&self.negative_prompt)),
            ("source prompt", source),
        ];
        for (name, text) in texts {
            if let Some(text) = text.filter(|text| text.len() > MOST_PROMPT) {
                return Err(Error::Usage(format!(
                    "the {name} has {} bytes, and the text encoder reads some hundred words: write at most {MOST_PROMPT} bytes",
                    text.len()
                )));
            }
        }
        if self.prompt.trim().is_empty() {
            return Err(Error::Usage("the prompt is empty; say what the video should show".into()));
        }
        if self.prepared(&self.prompt).is_empty() {
            return Err(Error::Usage(format!(
                "nothing is left of the prompt {:?} when it is cleaned as the original does: links, markup, Chinese \
                 characters and some codes go; describe the video in English, or do without the cleaning",
                self.prompt
            )));
        }
        self.edit.as_ref().map_or(Ok(()), |edit| edit.validate(self.frames, self.factors))?;
        validate_frames(self.frames, self.factors)?;
        validate_size([self.height, self.width], self.factors.space * self.patch)?;
        validate_guidance(self.guidance)?;
        if let Some(tiling) = &self.tiling {
            tiling.validate(self.factors)?;
        }
        self.span.map_or(Ok(()), Span::validate)?;
        self.shortcuts.validate()?;
        self.validate_source()?;
        self.schedule().map(drop)
    }

    /// Latent frames that the transformer sees at once.
    pub(super) fn frames_at_once(&self) -> usize {
        let all = self.latent_size()[0];
        self.span.map_or(all, |span| span.frames.min(all))
    }

    /// The model calls of the sampler: those of all steps, or of an edit's.
    ///
    /// # Errors
    /// [`Error::Usage`] for a number of steps, a strength or a method that the sampler cannot take.
    pub fn schedule(&self) -> Result<Schedule> {
        let made = self.edit.as_ref().map_or(Ok(self.steps), |edit| edit.made_steps(self.sampler, self.steps))?;
        let method = self.edit.as_ref().map_or(&Method::Noise, |edit| &edit.method);
        method.schedule(self.sampler, self.steps, made)
    }

    /// A text as it goes to the tokenizer.
    pub(crate) fn prepared(&self, text: &str) -> String {
        if self.clean_caption { caption::clean(text) } else { caption::lower(text) }
    }

    /// The latent, as it goes through the VAE.
    pub fn windowed(&self) -> Windowed {
        Windowed { size: self.latent_size(), tiling: self.tiling }
    }

    /// RGB bytes of a frame.
    pub fn frame_bytes(&self) -> usize {
        self.height * self.width * 3
    }

    /// Frames, rows, columns of the latent.
    pub fn latent_size(&self) -> [usize; 3] {
        self.factors.latent_size([self.frames, self.height, self.width])
    }
}

/// Checks that frames are whole latents: `time`·k + 1.
///
/// # Errors
/// [`Error::Usage`] names the two nearest.
pub fn validate_frames(frames: usize, factors: Factors) -> Result<()> {
    let time = factors.time;
    if frames == 0 {
        return Err(Error::Usage("frames is 0; give 1 for an image, or more for a video".into()));
    }
    if frames > MOST_SIDE {
        return Err(Error::Usage(format!("{frames} frames are more than {MOST_SIDE}")));
    }
    if !factors.takes_frames(frames) {
        let below = factors.fewer_frames(frames);
        let above = below + time;
        return Err(Error::Usage(format!("frames {frames} is not {time}k+1; the nearest are {below} and {above}")));
    }
    Ok(())
}

/// Checks that rows and columns are whole tokens of `token` pixels a side.
///
/// # Errors
/// [`Error::Usage`] names the nearest size.
pub fn validate_size([height, width]: [usize; 2], token: usize) -> Result<()> {
    if height == 0 || width == 0 {
        return Err(Error::Usage(format!("size {height}x{width} has no pixels; 512x512 is usual")));
    }
    if height.max(width) > MOST_SIDE {
        return Err(Error::Usage(format!("size {height}x{width} has more than {MOST_SIDE} pixels a side")));
    }
    let nearest = |side: usize| ((side + token / 2) / token).max(1) * token;
    if [height, width].iter().any(|side| !side.is_multiple_of(token)) {
        let (near_height, near_width) = (nearest(height), nearest(width));
        return Err(Error::Usage(format!(
            "size {height}x{width} is not a multiple of {token} pixels; the nearest is {near_height}x{near_width}"
        )));
    }
    Ok(())
}
