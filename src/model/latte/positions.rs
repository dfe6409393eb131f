//! Sine-cosine embeddings of positions and timesteps, and RoPE's rotations: tables made on the host.

use super::LatteConfig;

/// Spatial embedding `[rows·columns, channels]` of a token grid, rows first: the first half of the channels embeds the
/// column, the second half the row.
pub(super) fn spatial(config: &LatteConfig, rows: usize, columns: usize) -> Vec<f32> {
    let channels = config.channels();
    // The training grid fixes the unit; other grids are stretched to it. In f32, as the original.
    let base = (config.sample_size[0] / config.patch_size) as f32;
    let coordinate = |i: usize, count: usize| i as f32 / (count as f32 / base) / config.spatial_scale() as f32;
    let mut table = Vec::with_capacity(rows * columns * channels);
    for row in 0..rows {
        for column in 0..columns {
            sine_cosine(coordinate(column, columns) as f64, channels / 2, &mut table);
            sine_cosine(coordinate(row, rows) as f64, channels / 2, &mut table);
        }
    }
    table
}

/// Temporal embedding `[frames, channels]` of the frame index over the config's scale.
pub(super) fn temporal(config: &LatteConfig, frames: usize) -> Vec<f32> {
    let mut table = Vec::with_capacity(frames * config.channels());
    for frame in 0..frames {
        sine_cosine((frame as f32 / config.temporal_scale()) as f64, config.channels(), &mut table);
    }
    table
}

/// `features` values: sines, then cosines, of the position times 10000^(−k/(features/2)).
fn sine_cosine(position: f64, features: usize, table: &mut Vec<f32>) {
    let half = features / 2;
    let angle = |k: usize| position * 10000f64.powf(-(k as f64) / half as f64);
    table.extend((0..half).map(|k| angle(k).sin() as f32));
    table.extend((0..half).map(|k| angle(k).cos() as f32));
}

/// Features of a timestep: 256 values, cosines first, all in f32 as the original.
pub(super) fn timestep(timestep: f32) -> Vec<f32> {
    const HALF: usize = 128;
    let angle = |k: usize| timestep * (-(10000f64.ln() as f32) * k as f32 / HALF as f32).exp();
    let cosines = (0..HALF).map(|k| angle(k).cos());
    cosines.chain((0..HALF).map(|k| angle(k).sin())).collect()
}

/// RoPE of a token grid, `[rows·columns, 2, head_dim]`: cosines, then sines; the first half of the features rotates by
/// the row, the second by the column. Positions over the spatial scale are truncated to integers, as the original's.
pub(super) fn rope_spatial(config: &LatteConfig, rows: usize, columns: usize) -> Vec<f32> {
    let scale = config.spatial_scale();
    let group = config.attention_head_dim / 2;
    let mut table = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            rotations(&[row / scale, column / scale], group, &mut table);
        }
    }
    table
}

/// RoPE of frames, `[frames, 2, head_dim]`: all features rotate by the frame index over the temporal scale, truncated.
pub(super) fn rope_temporal(config: &LatteConfig, frames: usize) -> Vec<f32> {
    let mut table = Vec::new();
    for frame in 0..frames {
        let position = (frame as f32 / config.temporal_scale()) as usize;
        rotations(&[position], config.attention_head_dim, &mut table);
    }
    table
}

/// Cosines, then sines, of one token: a group of `group` features per position, both halves of a group alike.
fn rotations(positions: &[usize], group: usize, table: &mut Vec<f32>) {
    let angle = |position: usize, feature: usize| {
        let k = feature % (group / 2);
        position as f32 * (1.0 / 10000f32.powf((2 * k) as f32 / group as f32))
    };
    for function in [f32::cos, f32::sin] {
        for &position in positions {
            table.extend((0..group).map(|feature| function(angle(position, feature))));
        }
    }
}
