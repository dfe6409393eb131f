//! Latent files: one f32 tensor `latent` `[1, C, T, H, W]` in safetensors, as the encoder of the original gives it
//! (times 0.18215), and the frame rate as metadata. In memory the engine has channels last, `[T, H, W, C]`. The published
//! VAEs have four channels.

use crate::error::{Error, Result};
use crate::layout::{nchw_from_nhwc, nhwc_from_nchw};
use crate::model::vae::Factors;
use crate::reading;
use crate::staged::{self, Staged};
use crate::video::FrameRate;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::Path;

/// The largest magnitude in a valid file. Latents have nearly a normal distribution; a larger value shows a damaged file.
pub(crate) const MOST: f32 = 1000.0;
/// The most bytes of a file. 221 frames of 512×512 pixels have less than four million.
const MOST_BYTES: u64 = 1 << 30;
/// The tensor of a latent file.
pub(crate) const TENSOR: &str = "latent";

/// A latent, and the frame rate of its clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Latent {
    /// `[T, H, W, C]`.
    pub values: Vec<f32>,
    /// T, H and W, in latents.
    pub size: [usize; 3],
    /// Frames per second, if known.
    pub fps: Option<FrameRate>,
}

impl Latent {
    /// Channels of each position.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of values is not a multiple of the number of positions, or if either is 0.
    pub fn channels(&self) -> Result<usize> {
        let [frames, height, width] = self.size;
        let (positions, found) = (frames * height * width, self.values.len());
        if positions > 0 && found > 0 && found.is_multiple_of(positions) {
            return Ok(found / positions);
        }
        Err(Error::Shape {
            op: "latent",
            argument: "values",
            expected: format!("{frames}x{height}x{width} positions of at least one channel"),
            found: format!("{found} values"),
        })
    }

    /// Writes a latent file, which appears whole or not at all.
    ///
    /// # Errors
    /// Those of [`Self::channels`]; [`Error::Io`] if it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.written(path)?.commit()
    }

    /// As [`Self::write`], but [`Staged::commit`] gives the file its name.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub fn written(&self, path: &Path) -> Result<Staged> {
        let channels = self.channels()?;
        let [frames, height, width] = self.size;
        let bytes: Vec<u8> =
            nchw_from_nhwc(&self.values, channels).iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![1, channels, frames, height, width], &bytes)
            .expect("the number of values was checked");
        let fps = self.fps.map(|fps| HashMap::from([("fps".to_owned(), rate_text(fps))]));
        let file = safetensors::serialize([(TENSOR, view)], fps).map_err(|error| {
            Error::media(path, format!("the latent cannot be put into a safetensors file: {error}"))
        })?;
        staged::written(path, &file)
    }

    /// Reads a latent file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Media`] if it does not hold a latent.
    pub fn read(path: &Path) -> Result<Self> {
        let fault = |problem: String| Error::media(path, problem);
        let bytes = reading::piped_bytes(path, MOST_BYTES).map_err(Error::io("cannot read", path))?;
        let damaged =
            |error| fault(format!("is not a whole safetensors file: {error}; expected the output of `osp encode`"));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let latent = file.tensor(TENSOR).map_err(|_| {
            if file.is_empty() {
                return fault("holds no tensor; before the first step of its run, a state has no latent yet".into());
            }
            // The least name: the library's order differs from run to run.
            let name = file.names().into_iter().min().unwrap_or_default();
            fault(format!("holds the tensor {name}, but no `latent`; expected the output of `osp encode`"))
        })?;
        let (channels, size) = match latent.shape() {
            &[1, channels, frames, height, width] if !latent.data().is_empty() => (channels, [frames, height, width]),
            shape => return Err(fault(format!("tensor latent has shape {shape:?}, expected [1, C, T, H, W]"))),
        };
        if latent.dtype() != Dtype::F32 {
            return Err(fault(format!("tensor latent is stored as {:?}, expected F32", latent.dtype())));
        }
        let values: Vec<f32> = latent
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
            .collect();
        if let Some(at) = values.iter().position(|value| value.is_nan() || value.abs() > MOST) {
            return Err(fault(format!(
                "value {at} of tensor latent is {}, expected numbers of a few units",
                values[at]
            )));
        }
        let fps = metadata.metadata().as_ref().and_then(|metadata| metadata.get("fps"));
        Ok(Self { values: nhwc_from_nchw(&values, channels), size, fps: fps.and_then(|fps| fps.parse().ok()) })
    }

    /// Frames, rows and columns of its clip, for a VAE of these factors.
    ///
    /// # Errors
    /// Those of [`Self::channels`]; [`Error::Usage`] if the VAE's latents have another number of channels.
    pub fn clip_size(&self, factors: Factors) -> Result<[usize; 3]> {
        let (found, expected) = (self.channels()?, factors.channels);
        if found != expected {
            return Err(Error::Usage(format!(
                "the latent has {found} channels, the VAE takes {expected}; decode it with the VAE that made it"
            )));
        }
        Ok(factors.clip_size(self.size))
    }
}

/// A rate as an exact fraction, which [`FrameRate`] reads again.
pub(crate) fn rate_text(fps: FrameRate) -> String {
    format!("{}/{}", fps.numerator(), fps.denominator())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_round_trip_with_their_rate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latent.safetensors");
        let values: Vec<f32> = (0..2 * 3 * 5 * 4).map(|i| i as f32 * 0.5).collect();
        let fps = Some(FrameRate::new(30_000, 1001).unwrap());
        Latent { values: values.clone(), size: [2, 3, 5], fps }.write(&path).unwrap();
        let read = Latent::read(&path).unwrap();
        assert_eq!((read.values, read.size, read.fps), (values, [2, 3, 5], fps));
    }

    #[test]
    fn the_file_has_channels_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latent.safetensors");
        let values = vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        Latent { values, size: [1, 1, 2], fps: None }.write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let latent = file.tensor("latent").unwrap();
        assert_eq!(latent.shape(), [1, 4, 1, 1, 2]);
        let expected: Vec<u8> =
            [0.0f32, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(latent.data(), expected);
    }
}
