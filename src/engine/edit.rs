//! What an edit asks for, and the pixels that it begins with.
//!
//! An edit is sampling that begins elsewhere. The clip's latent x₀ gets the noise of a later timestep, and the sampler makes only
//! the steps from there (SDEdit, Meng et al. 2022); [`Method`] has other ways. Where a latent is held, each call of the model sees
//! x₀ with the noise of its timestep (blended latent diffusion, Avrahami et al. 2023): outside of a mask, and in the first frame
//! if an image is put there.

use super::{Method, Settings};
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::model::vae::Factors;
use crate::sampler::SamplerKind;
use crate::video::{Clip, FrameRate, Mask};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The part of a video's settings that makes it an edit. Pixels are named by fingerprints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Edit {
    /// Share of the sampler's steps that are made, above 0; 1 makes all, with the method noise from pure noise.
    pub strength: f32,
    /// How the clip is used.
    #[serde(default, skip_serializing_if = "Method::is_noise")]
    pub method: Method,
    /// Fingerprint of the clip's pixels; an edit without a clip has a first frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<String>,
    /// Fingerprint of the mask's shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Fingerprint of the pixels of the first frame that is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_frame: Option<String>,
    /// Frames that are added behind the clip, whose own frames are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extend: Option<usize>,
}

impl Edit {
    /// An edit of nothing, with strength 1.
    fn of_nothing() -> Self {
        Self { strength: 1.0, method: Method::Noise, clip: None, mask: None, first_frame: None, extend: None }
    }

    /// Whether a part of the latent is held.
    pub fn holds(&self) -> bool {
        self.mask.is_some() || self.first_frame.is_some() || self.extend.is_some()
    }

    /// Checks what reading the settings of a file may have left wrong.
    ///
    /// # Errors
    /// [`Error::Usage`] unless new frames are some of `frames`, in whole latents.
    pub(super) fn validate(&self, frames: usize, factors: Factors) -> Result<()> {
        let Some(extend) = self.extend else { return Ok(()) };
        if extend > 0 && extend.is_multiple_of(factors.time) && extend < frames {
            return Ok(());
        }
        let (time, near) = (factors.time, extend.next_multiple_of(factors.time).max(factors.time));
        Err(Error::Usage(format!(
            "{extend} new frames are not whole latents: give a multiple of {time}, such as {near}"
        )))
    }

    /// How many of `steps` steps of `sampler` are made.
    ///
    /// # Errors
    /// [`Error::Usage`] for a strength that is not above 0 and at most 1, or too low for the sampler; for a method that does not fit
    /// the footage.
    pub(super) fn made_steps(&self, sampler: SamplerKind, steps: usize) -> Result<usize> {
        let strength = self.strength;
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(Error::Usage(format!("strength {strength} is not above 0 and at most 1; 0.5 is usual")));
        }
        if self.clip.is_none() && strength < 1.0 {
            return Err(Error::Usage(format!(
                "strength {strength} needs a clip to begin with, and there is only an image"
            )));
        }
        let other = self.clip.is_none() || self.extend.is_some() || self.first_frame.is_some();
        if self.method.source().is_some() && other {
            return Err(Error::Usage(format!(
                "the method {} needs a clip, without a new first frame and without new frames behind it",
                self.method.name()
            )));
        }
        if self.extend.is_some() && strength < 1.0 {
            return Err(Error::Usage(format!("new frames are made from noise, and not with strength {strength}")));
        }
        // In f32, in which 0.7 of 5 steps are 3.5, and not a little less.
        let share_of_steps = |share: f32| (share * steps as f32).round() as usize;
        let (made, fewest) = (share_of_steps(strength), sampler.fewest_steps());
        if made >= fewest || fewest > steps {
            return Ok(made);
        }
        let mut hundredths = (0..=100_u8).map(|hundredth| f32::from(hundredth) / 100.0);
        let enough = hundredths.find(|&share| share_of_steps(share) >= fewest).unwrap_or(1.0);
        Err(Error::Usage(format!(
            "strength {strength} makes {made} of {steps} steps, and {sampler} needs {fewest}: choose a strength of {enough} or more"
        )))
    }
}

/// The pixels that an edit begins with.
#[derive(Clone, Debug)]
pub struct Footage {
    clip: Option<Clip>,
    mask: Option<Mask>,
    first: Option<Clip>,
    /// Frames behind the clip.
    extra: usize,
    /// With strength 1, and the usual method.
    edit: Edit,
}

impl Footage {
    /// A clip to edit.
    pub fn clip(clip: Clip) -> Self {
        let edit = Edit { clip: Some(fingerprint_of(&clip)), ..Edit::of_nothing() };
        Self { clip: Some(clip), mask: None, first: None, extra: 0, edit }
    }

    /// An image, which the first frame of a new video shows.
    ///
    /// # Errors
    /// [`Error::Usage`] if it has several frames.
    pub fn image(image: Clip) -> Result<Self> {
        Self { clip: None, mask: None, first: None, extra: 0, edit: Edit::of_nothing() }.first_frame(image)
    }

    /// Allows changes only where the mask does.
    ///
    /// # Errors
    /// [`Error::Usage`] unless it has the clip's size.
    pub fn mask(mut self, mask: Mask) -> Result<Self> {
        self.check_alone()?;
        let size = [mask.frames, mask.height, mask.width];
        self.check_size("mask", size, self.size())?;
        let bytes = [format!("{size:?} ").as_bytes(), &mask.shares].concat();
        self.edit.mask = Some(format!("{:016x}", fnv1a(&bytes)));
        Ok(Self { mask: Some(mask), ..self })
    }

    /// Puts an image in place of the first frame, and holds it.
    ///
    /// # Errors
    /// [`Error::Usage`] unless it is one frame of the clip's size.
    pub fn first_frame(mut self, image: Clip) -> Result<Self> {
        self.check_alone()?;
        let expected = self.size().map(|[_, height, width]| [1, height, width]);
        let size = [image.frames, image.height, image.width];
        self.check_size("first frame", size, expected.or(Some([1, size[1], size[2]])))?;
        self.edit.first_frame = Some(fingerprint_of(&image));
        Ok(Self { first: Some(image), ..self })
    }

    /// Adds frames behind the clip, and holds the clip's own.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no clip, or it is changed in another way, too.
    pub fn extend(mut self, frames: usize) -> Result<Self> {
        if self.clip.is_none() || self.edit.holds() {
            return Err(only_as_it_is());
        }
        self.edit.extend = Some(frames);
        Ok(Self { extra: frames, ..self })
    }

    /// Fails if frames are added behind the clip.
    fn check_alone(&self) -> Result<()> {
        if self.extra == 0 { Ok(()) } else { Err(only_as_it_is()) }
    }

    fn check_size(&self, what: &str, found: [usize; 3], expected: Option<[usize; 3]>) -> Result<()> {
        let words = |[frames, height, width]: [usize; 3]| match frames {
            1 => format!("1 frame of {height}x{width} pixels"),
            _ => format!("{frames} frames of {height}x{width} pixels"),
        };
        match expected {
            Some(expected) if expected == found => Ok(()),
            Some(expected) => {
                Err(Error::Usage(format!("the {what} has {}, but must have {}", words(found), words(expected))))
            }
            None => Err(Error::Usage(format!("a {what} needs a clip, and there is only an image"))),
        }
    }

    /// Frames, rows and columns of the video that it becomes, if it has a clip.
    pub fn size(&self) -> Option<[usize; 3]> {
        self.clip.as_ref().map(|clip| [clip.frames + self.extra, clip.height, clip.width])
    }

    /// Frames per second of the clip, if there is one.
    pub fn fps(&self) -> Option<FrameRate> {
        self.clip.as_ref().map(|clip| clip.fps)
    }

    /// The edit of this footage with a strength and a method.
    pub fn edit(&self, strength: f32, method: Method) -> Edit {
        Edit { strength, method, ..self.edit.clone() }
    }

    /// Whether these are the pixels that an edit names.
    pub fn is_of(&self, edit: &Edit) -> bool {
        self.edit(edit.strength, edit.method.clone()) == *edit
    }

    /// The clips to encode: the clip, then the first frame.
    pub(super) fn parts(&self) -> [Option<&Clip>; 2] {
        [self.clip.as_ref(), self.first.as_ref()]
    }

    /// Decoded frame `index` as it is shown: pixels outside of a mask, and frames before the new ones, are the clip's.
    pub(super) fn pasted<'a>(&'a self, index: usize, rgb: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(clip) = &self.clip else { return rgb.into() };
        match &self.mask {
            Some(mask) => mask.paste(clip, index, rgb).into(),
            None if self.extra > 0 && index < clip.frames => clip.frame(index).into(),
            None => rgb.into(),
        }
    }

    /// Checks that this is what the settings name, in the video's size.
    ///
    /// # Errors
    /// [`Error::Usage`] says what differs.
    pub(super) fn check(&self, settings: &Settings) -> Result<()> {
        let Settings { frames, height, width, edit, .. } = settings;
        if edit.as_ref().is_none_or(|edit| !self.is_of(edit)) {
            return Err(Error::Usage("these are not the pixels that the edit begins with".into()));
        }
        let size = [*frames, *height, *width];
        self.check_size("clip", self.size().unwrap_or(size), Some(size))?;
        let first = [1, *height, *width];
        let found = self.first.as_ref().map_or(first, |first| [first.frames, first.height, first.width]);
        self.check_size("first frame", found, Some(first))
    }

    /// How much of each value of the latent `[T, H, W, C]` is held: 1 in a first frame that was put there and where the mask
    /// replaces no pixel that the value stands for, else 0. `None` if nothing is.
    pub(super) fn weights(&self, factors: Factors, [frames, height, width]: [usize; 3]) -> Option<Vec<f32>> {
        let Factors { space, time, channels } = factors;
        if !self.edit.holds() {
            return None;
        }
        // The latent frames of a clip that gets frames behind it.
        let clip = self.clip.as_ref().filter(|_| self.extra > 0).map_or(0, |clip| (clip.frames - 1) / time + 1);
        let position = |index: usize| [index / width / height, index / width % height, index % width];
        let weight = |index: usize| {
            let [frame, row, column] = position(index);
            let first = self.first.is_some() && frame == 0;
            // The first frame stands alone.
            let shown = if frame == 0 { 0..1 } else { (frame - 1) * time + 1..frame * time + 1 };
            let kept = |mask: &Mask| {
                let kept_row = |shares: &[u8], y: usize| {
                    let from = y * mask.width + column * space;
                    shares[from..from + space].iter().all(|&share| share == 0)
                };
                shown.clone().all(|t| (row * space..(row + 1) * space).all(|y| kept_row(mask.frame(t), y)))
            };
            let held = first || frame < clip || self.mask.as_ref().is_some_and(kept);
            if held { 1.0 } else { 0.0 }
        };
        let weights = (0..frames * height * width).flat_map(|index| std::iter::repeat_n(weight(index), channels));
        Some(weights.collect())
    }
}

fn only_as_it_is() -> Error {
    Error::Usage("only a clip that is kept as it is can get frames behind it".into())
}

/// A fingerprint of a clip's size and pixels.
fn fingerprint_of(clip: &Clip) -> String {
    let Clip { frames, height, width, pixels, .. } = clip;
    format!("{:016x}", fnv1a(&[format!("{frames}x{height}x{width} ").as_bytes(), pixels].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::VideoInfo;

    fn clip(frames: usize) -> Clip {
        let info = VideoInfo { width: 16, height: 8, fps: FrameRate::default() };
        Clip::new(info, vec![7; frames * info.frame_bytes()]).unwrap()
    }

    /// A mask whose inside is one pixel.
    fn pixel(frames: usize, at: [usize; 3]) -> Mask {
        let inside: Vec<bool> =
            (0..frames * 8 * 16).map(|index| [index / 128, index / 16 % 8, index % 16] == at).collect();
        Mask::new([frames, 8, 16], &inside, 0)
    }

    #[test]
    fn a_latent_is_held_where_the_mask_replaces_none_of_its_pixels() {
        let factors = Factors { space: 8, time: 4, channels: 2 };
        let weights = |at| Footage::clip(clip(5)).mask(pixel(5, at)).unwrap().weights(factors, [2, 1, 2]).unwrap();
        assert_eq!(weights([0, 7, 7]), [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(weights([1, 0, 8]), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(weights([4, 7, 0]), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!(Footage::clip(clip(5)).weights(factors, [2, 1, 2]), None);
        let first = Footage::clip(clip(5)).first_frame(clip(1)).unwrap().weights(factors, [2, 1, 2]).unwrap();
        assert_eq!(first, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn strength_is_a_share_of_the_steps() {
        let edit = |strength| Edit { strength, ..Footage::clip(clip(5)).edit(1.0, Method::Noise) };
        let made = |strength, steps| edit(strength).made_steps(SamplerKind::Ddim, steps);
        assert_eq!([made(1.0, 30).unwrap(), made(0.5, 30).unwrap(), made(0.02, 30).unwrap()], [30, 15, 1]);
        for wrong in [0.0, -0.5, 1.01, f32::NAN, f32::INFINITY] {
            assert!(made(wrong, 30).unwrap_err().to_string().contains("not above 0 and at most 1"), "{wrong}");
        }
        let error = made(0.01, 30).unwrap_err().to_string();
        assert!(error.contains("makes 0 of 30 steps, and DDIM needs 1: choose a strength of 0.02 or more"), "{error}");
        let error = edit(0.1).made_steps(SamplerKind::Pndm, 30).unwrap_err().to_string();
        assert!(error.contains("PNDM needs 4: choose a strength of 0.12 or more"), "{error}");
        let image = Footage::image(clip(1)).unwrap().edit(0.5, Method::Noise);
        assert!(image.made_steps(SamplerKind::Ddim, 30).unwrap_err().to_string().contains("needs a clip"));
    }

    #[test]
    fn masks_and_first_frames_must_have_the_size_of_the_clip() {
        let said = |result: Result<Footage>| result.unwrap_err().to_string();
        let error = said(Footage::clip(clip(5)).mask(pixel(4, [0; 3])));
        assert!(
            error.contains("the mask has 4 frames of 8x16 pixels, but must have 5 frames of 8x16 pixels"),
            "{error}"
        );
        assert!(said(Footage::clip(clip(5)).first_frame(clip(5))).contains("must have 1 frame of 8x16 pixels"));
        assert!(said(Footage::image(clip(1)).unwrap().mask(pixel(1, [0; 3]))).contains("a mask needs a clip"));
        assert!(said(Footage::image(clip(2))).contains("the first frame has 2 frames"));
    }
}
