//! PSNR and SSIM of two clips, as a table and in records.

use osp::video::metrics::Scores;
use schemars::JsonSchema;
use serde::Serialize;

/// A measure of similarity; infinite values (equal frames) are `null` in JSON.
#[derive(Serialize, JsonSchema)]
pub struct Quality {
    #[schemars(with = "Option<f64>")]
    pub overall: f64,
    #[schemars(with = "Vec<Option<f64>>")]
    pub frames: Vec<f64>,
}

impl From<Scores> for Quality {
    fn from(Scores { overall, frames }: Scores) -> Self {
        Self { overall, frames }
    }
}

/// One line for each frame, and one for all frames.
pub fn table(psnr: &Quality, ssim: &Quality) -> String {
    let line = |name: &str, psnr: f64, ssim: f64| format!("{name:>5}  {psnr:>7.2}  {ssim:>6.4}");
    let frames = psnr.frames.iter().zip(&ssim.frames).enumerate();
    let mut lines = vec!["frame  PSNR dB    SSIM".to_owned()];
    lines.extend(frames.map(|(index, (&psnr, &ssim))| line(&index.to_string(), psnr, ssim)));
    lines.push(line("all", psnr.overall, ssim.overall));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_frame_and_one_for_all() {
        let psnr = Quality { overall: 33.0, frames: vec![f64::INFINITY, 30.123] };
        let ssim = Quality { overall: 0.95, frames: vec![1.0, 0.9] };
        let expected = "frame  PSNR dB    SSIM\n    0      inf  1.0000\n    1    30.12  0.9000\n  all    33.00  0.9500";
        assert_eq!(table(&psnr, &ssim), expected);
    }
}
