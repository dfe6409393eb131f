//! Groups of options that several commands share, and the parsers of their values.

use super::size::Size;
use clap::Args;
use osp::checkpoint::{Defaults, WeightSource};
use osp::engine::{Cache, Shortcuts, Spans};
use osp::model::vae::MOST_SIDE;
use osp::model::vae::tiling::Tiling;
use osp::sampler::SamplerKind;
use osp::{Error, Request, Result};
use std::num::{IntErrorKind, ParseIntError};
use std::path::PathBuf;
use std::str::FromStr;

/// Options that choose the model.
#[derive(Args)]
pub struct ModelArgs {
    /// Folder of the model, with the components vae, text_encoder and the transformer, or ORG/NAME in the cache of the
    /// Hugging Face hub [default: $OSP_MODEL, else the demo model]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Source of the weights: `files`, or `synthetic:SEED` for random weights in the shapes of the configs
    #[arg(long, value_name = "SOURCE", default_value = "files", value_parser = weight_source)]
    pub weights: WeightSource,
}

/// Options for components in other folders, and for models with several transformers.
#[derive(Args, Default)]
pub struct ComponentArgs {
    /// Folder of the text encoder, or ORG/NAME as for --model [default: text_encoder in the model's folder]
    #[arg(long, value_name = "DIR")]
    pub text_encoder: Option<PathBuf>,
    /// Subfolder of the transformer, such as 65x512x512, if the model has several
    #[arg(long, value_name = "SUBFOLDER")]
    pub transformer: Option<String>,
}

/// Options for the size of the video.
#[derive(Args, Default)]
pub struct SizeArgs {
    /// Number of frames, 4k+1; 1 is an image [default: the model's training size]
    #[arg(long, value_name = "N", value_parser = frames)]
    pub frames: Option<usize>,
    /// Rows and columns of pixels, multiples of 16 [default: the model's training size]
    #[arg(long, value_name = "HxW")]
    pub size: Option<Size>,
}

impl SizeArgs {
    /// Frames, rows and columns; the model's `defaults` replace missing ones.
    pub fn or(&self, defaults: &Defaults) -> [usize; 3] {
        let Size { height, width } = self.size.unwrap_or(Size { height: defaults.height, width: defaults.width });
        [self.frames.unwrap_or(defaults.frames), height, width]
    }

    /// The request with the sizes that were given.
    pub fn of(&self, request: Request) -> Request {
        let size = self.size.map(|Size { height, width }| [height, width]);
        Request { frames: self.frames, size, ..request }
    }
}

/// Options of the sampler.
#[derive(Args)]
pub struct SamplerArgs {
    /// Number of steps [default: the model's]
    #[arg(long, value_name = "N", value_parser = count::<usize>)]
    steps: Option<usize>,
    /// Guidance scale: how closely to follow the prompt; 1 is off and twice as fast [default: the model's]
    #[arg(long, value_name = "SCALE", value_parser = number::<f32>)]
    guidance: Option<f32>,
    /// Sampler; `osp sample --help` lists all [default: the model's]
    #[arg(long, value_name = "NAME")]
    sampler: Option<SamplerKind>,
}

impl SamplerArgs {
    /// The request with the sampler options that were given.
    pub fn of(&self, request: Request) -> Request {
        Request { sampler: self.sampler, steps: self.steps, guidance: self.guidance, ..request }
    }
}

/// Options to make fewer evaluations of the transformer.
#[derive(Args)]
pub struct ShortcutArgs {
    /// Which calls of the model take an earlier prediction: teacache or magcache with a threshold (the lower, the closer to the
    /// exact video), or taylor, which evaluates every N-th call [default: none]
    #[arg(long, value_name = "teacache[:X]|magcache[:X]|taylor[:N]", help_heading = SHORTCUTS)]
    cache: Option<Cache>,
    /// Evaluate the negative prompt's branch of guidance only in every N-th call that is evaluated and guided [default: in all]
    #[arg(long, value_name = "N", value_parser = count::<usize>, help_heading = SHORTCUTS)]
    guidance_reuse: Option<usize>,
    /// Guide only where the noise lies between two shares of the timesteps, from 0 (clean) to 1 (noise) [default: everywhere]
    #[arg(long, value_name = "FROM-TO", value_parser = interval, help_heading = SHORTCUTS)]
    guidance_interval: Option<[f32; 2]>,
}

const SHORTCUTS: &str = "Shortcuts (less work, and the video changes; docs/shortcuts.md compares them)";

impl ShortcutArgs {
    /// The shortcuts that were given, else those of `like`.
    pub fn or(&self, like: Shortcuts) -> Shortcuts {
        Shortcuts {
            cache: self.cache.clone().or(like.cache),
            guidance_reuse: self.guidance_reuse.or(like.guidance_reuse),
            guidance_interval: self.guidance_interval.or(like.guidance_interval),
        }
    }
}

/// Reads `FROM-TO`.
fn interval(text: &str) -> Result<[f32; 2]> {
    let shares = text.split_once('-').and_then(|(from, to)| Some([from.parse().ok()?, to.parse().ok()?]));
    shares.ok_or_else(|| Error::Usage("expected two shares from 0 (clean) to 1 (noise), such as 0.2-0.9".into()))
}

/// Options for the windows of the VAE.
#[derive(Args)]
pub struct TilingArgs {
    /// Run the VAE on the whole clip at once: needs more memory, and gives slightly different pixels
    #[arg(long, conflicts_with_all = ["tile_size", "tile_frames", "tile_overlap"], help_heading = TILES)]
    no_tiling: bool,
    /// Side of a tile in pixels, a multiple of 8 [default: 256]
    #[arg(long, value_name = "PX", value_parser = count::<usize>, help_heading = TILES)]
    tile_size: Option<usize>,
    /// Frames of a tile, 4k+1 [default: 65]
    #[arg(long, value_name = "N", value_parser = frames, help_heading = TILES)]
    tile_frames: Option<usize>,
    /// Share of a tile's side that overlaps with the next one [default: 0.25]
    #[arg(long, value_name = "SHARE", value_parser = number::<f64>, help_heading = TILES)]
    tile_overlap: Option<f64>,
}

const TILES: &str = "Tiles of the VAE";

impl TilingArgs {
    /// Whether the user chose windows.
    pub fn given(&self) -> bool {
        let Self { no_tiling, tile_size, tile_frames, tile_overlap } = self;
        *no_tiling || tile_size.or(*tile_frames).is_some() || tile_overlap.is_some()
    }

    /// The requested windows; `None` is the whole clip at once.
    pub fn tiling(&self) -> Option<Tiling> {
        let default = Tiling::default();
        let tiling = Tiling {
            sample_size: self.tile_size.unwrap_or(default.sample_size),
            sample_frames: self.tile_frames.unwrap_or(default.sample_frames),
            overlap: self.tile_overlap.unwrap_or(default.overlap),
        };
        (!self.no_tiling).then_some(tiling)
    }
}

/// Reads a whole number.
pub fn count<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T> {
    text.parse().map_err(|error: ParseIntError| {
        let problem = match error.kind() {
            IntErrorKind::Zero => "expected at least 1",
            IntErrorKind::PosOverflow => "the number is too large",
            _ => "expected a whole number, such as 20",
        };
        Error::Usage(problem.into())
    })
}

/// Reads a number.
fn number<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::Usage("expected a number, such as 0.5".into()))
}

/// Reads a seed as `torch.manual_seed` does: a negative seed means the unsigned 64-bit number with the same bits.
pub fn seed(text: &str) -> Result<u64> {
    let positive = text.parse::<u64>().ok();
    let seed = positive.or_else(|| text.parse::<i64>().ok().map(i64::cast_unsigned));
    seed.ok_or_else(|| Error::Usage("expected a whole number of 64 bits, such as 42 or -1".into()))
}

/// Reads a number of frames.
pub fn frames(text: &str) -> Result<usize> {
    match text.parse() {
        Ok(frames) if frames <= MOST_SIDE => Ok(frames),
        Ok(_) => Err(Error::Usage(format!("more than {MOST_SIDE} frames"))),
        Err(_) => Err(Error::Usage("expected a number of frames, such as 65".into())),
    }
}

/// Reads a number of frames, or `all`.
pub fn span(text: &str) -> Result<Spans> {
    match (text, text.parse()) {
        ("all", _) => Ok(Spans::Whole),
        (_, Ok(frames)) if (5..=MOST_SIDE).contains(&frames) => Ok(Spans::Of(frames)),
        _ => Err(Error::Usage("expected a number of frames from 5 on, such as 65, or all".into())),
    }
}

/// Reads `files` or `synthetic:SEED`.
pub fn weight_source(text: &str) -> Result<WeightSource> {
    let seed = text.strip_prefix("synthetic:").map(str::parse);
    match (text, seed) {
        ("files", _) => Ok(WeightSource::Files),
        (_, Some(Ok(seed))) => Ok(WeightSource::Synthetic(seed)),
        _ => Err(Error::Usage("expected `files` or `synthetic:SEED`, where SEED is a number".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rows_then_columns() {
        for text in ["256x384", "256X384", "256×384"] {
            assert_eq!(text.parse::<Size>().unwrap(), Size { height: 256, width: 384 });
        }
        for wrong in ["", "x", "256", "256x", "x256", "-16x16", "16x16x16", "1e2x16", "16 x16", "65537x16"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn seeds_are_read_as_torch_reads_them() {
        for (text, expected) in [("0", 0), ("42", 42), ("-1", u64::MAX), ("18446744073709551615", u64::MAX)] {
            assert_eq!(seed(text).unwrap(), expected);
        }
        assert_eq!(seed("-9223372036854775808").unwrap(), 1 << 63);
        for wrong in ["", "-", "1.5", "1e3", "18446744073709551616", "-9223372036854775809", "one"] {
            assert!(seed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn weights_are_files_or_a_seed() {
        assert_eq!(weight_source("files").unwrap(), WeightSource::Files);
        assert_eq!(weight_source("synthetic:18446744073709551615").unwrap(), WeightSource::Synthetic(u64::MAX));
        for wrong in ["", "file", "synthetic", "synthetic:", "synthetic:-1", "synthetic:x"] {
            assert!(weight_source(wrong).is_err(), "{wrong}");
        }
    }
}
