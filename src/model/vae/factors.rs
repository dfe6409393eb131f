//! How many pixels and frames one value of a latent stands for.

use super::VaeConfig;

/// The ratio of a clip's size to its latent's. The first frame gives one latent frame, and every `time` frames after it one more.
/// Every `space` rows or columns of pixels give one row or column. Each position has `channels` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factors {
    /// Pixels of a latent, in rows and in columns.
    pub space: usize,
    /// Frames of a latent frame, the first one aside.
    pub time: usize,
    /// Channels of a latent.
    pub channels: usize,
}

/// The most frames, rows and columns of a video, and of a window. More are a typing error, and their products might overflow.
pub const MOST_SIDE: usize = 1 << 16;

impl Factors {
    /// The factors of the published VAEs.
    pub const PUBLISHED: Self = Self { space: 8, time: 4, channels: 4 };
    /// A placeholder that allows every size.
    pub const ANY_SIZE: Self = Self { space: 1, time: 1, channels: 1 };

    /// The factors of the VAE with this config.
    pub fn of(config: &VaeConfig) -> Self {
        Self { space: config.spatial_factor(), time: config.temporal_factor(), channels: config.embed_dim }
    }

    /// Frames, rows and columns of the latent of a clip of `[frames, height, width]` pixels; at least one frame.
    pub fn latent_size(self, [frames, height, width]: [usize; 3]) -> [usize; 3] {
        [(frames - 1) / self.time + 1, height / self.space, width / self.space]
    }

    /// Frames, rows and columns of the clip that a latent decodes to; at least one frame.
    pub fn clip_size(self, [frames, height, width]: [usize; 3]) -> [usize; 3] {
        [self.frames(frames), height * self.space, width * self.space]
    }

    /// Frames that `latent_frames` decode to; at least one.
    pub fn frames(self, latent_frames: usize) -> usize {
        self.time * (latent_frames - 1) + 1
    }

    /// Whether a clip of `frames` frames can be encoded: `frames` must be `time`·k + 1.
    pub fn takes_frames(self, frames: usize) -> bool {
        frames > 0 && (frames - 1).is_multiple_of(self.time)
    }

    /// The largest number of frames, at most `frames`, that can be encoded; at least one.
    pub fn fewer_frames(self, frames: usize) -> usize {
        self.frames(self.latent_size([frames, 0, 0])[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_clips_and_latents_are_each_other_s_inverse() {
        let factors = Factors { space: 4, time: 2, channels: 3 };
        for size in [[1, 1, 1], [3, 2, 5], [17, 64, 64]] {
            let clip = factors.clip_size(size);
            assert_eq!(factors.latent_size(clip), size);
            assert!(factors.takes_frames(clip[0]) && !factors.takes_frames(clip[0] + 1));
            assert_eq!([factors.fewer_frames(clip[0]), factors.fewer_frames(clip[0] + 1)], [clip[0]; 2]);
        }
        assert_eq!(Factors::PUBLISHED.clip_size([17, 64, 64]), [65, 512, 512]);
        assert!(!factors.takes_frames(0));
        assert!((1..9).all(|frames| Factors::ANY_SIZE.takes_frames(frames)));
    }
}
