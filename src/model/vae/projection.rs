//! Pictures of latents without the decoder: the channels of a position give one pixel, by a linear projection.

use crate::error::{Error, Result};
use crate::video::{Clip, FrameRate, VideoInfo};
use serde::{Deserialize, Serialize};

/// A linear projection of a latent's channels to red, green and blue, each from 0 to 1. As JSON it is a VAE's `preview.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projection {
    /// For red, green and blue, the weight of each channel.
    pub weights: [Vec<f32>; 3],
    /// The colour of a latent of zeros.
    pub bias: [f32; 3],
}

impl Projection {
    /// Why it cannot draw latents of `channels` channels, if it cannot.
    pub fn problem(&self, channels: usize) -> Option<String> {
        let names = ["red", "green", "blue"];
        let short = names.iter().zip(&self.weights).find(|(_, row)| row.len() != channels);
        if let Some((name, row)) = short {
            return Some(format!(
                "weights of {name} are {}, but the VAE's latents have {channels} channels",
                row.len()
            ));
        }
        let finite = self.weights.iter().flatten().chain(&self.bias).all(|value| value.is_finite());
        (!finite).then(|| "a number is too large".to_owned())
    }

    /// Draws a latent `[T, H, W, C]` of `size` T, H and W, one pixel for each position.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no value, or their number does not fit the size and the projection's channels.
    pub fn image(&self, latent: &[f32], size: [usize; 3]) -> Result<Clip> {
        let channels = self.weights[0].len();
        let [frames, height, width] = size;
        if latent.is_empty() || latent.len() != size.iter().product::<usize>() * channels {
            return Err(Error::Shape {
                op: "projection",
                argument: "latent",
                expected: format!("{frames}x{height}x{width} positions of {channels} channels"),
                found: format!("{} values", latent.len()),
            });
        }
        let pixels = latent.chunks_exact(channels).flat_map(|position| self.colour(position)).collect();
        Clip::new(VideoInfo { width, height, fps: FrameRate::default() }, pixels)
    }

    /// The colour of a position. NaN becomes black.
    fn colour(&self, position: &[f32]) -> [u8; 3] {
        std::array::from_fn(|i| {
            let weighted: f32 = self.weights[i].iter().zip(position).map(|(weight, value)| weight * value).sum();
            ((weighted + self.bias[i]).clamp(0.0, 1.0) * 255.0).round() as u8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red is the first channel, green half of the second, blue their negative sum, on grey.
    fn projection() -> Projection {
        Projection { weights: [vec![1.0, 0.0], vec![0.0, 0.5], vec![-1.0, -1.0]], bias: [0.5; 3] }
    }

    #[test]
    fn every_position_becomes_a_pixel_and_colours_saturate() {
        let latent = [0.0, 0.0, 0.5, -1.0, -9.0, 9.0, f32::NAN, f32::INFINITY];
        let clip = projection().image(&latent, [1, 2, 2]).unwrap();
        assert_eq!((clip.frames, clip.height, clip.width), (1, 2, 2));
        assert_eq!(clip.pixels, [128, 128, 128, 255, 0, 255, 0, 255, 128, 0, 0, 0]);
        for size in [[1, 2, 3], [0, 2, 2]] {
            assert!(matches!(projection().image(&latent, size), Err(Error::Shape { .. })));
        }
        assert!(projection().image(&[], [0, 0, 0]).is_err());
    }

    #[test]
    fn a_projection_of_another_vae_is_known_by_its_channels() {
        assert_eq!(projection().problem(2), None);
        let problem = projection().problem(4).unwrap();
        assert_eq!(problem, "weights of red are 2, but the VAE's latents have 4 channels");
        let infinite = Projection { bias: [0.5, f32::INFINITY, 0.5], ..projection() };
        assert!(infinite.problem(2).unwrap().contains("too large"));
        let text = serde_json::to_string(&projection()).unwrap();
        assert_eq!(serde_json::from_str::<Projection>(&text).unwrap(), projection());
    }
}
