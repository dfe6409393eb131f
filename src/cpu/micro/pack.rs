//! Packs the right operand into panels.

use super::{Micro, Panel, Rows};

impl Micro {
    /// Packs rows, `[k][n]`. `out` has [`Self::packed_columns`]`(n)·k` elements.
    pub(in crate::cpu) fn pack_rows(&self, [n, k]: [usize; 2], b: Rows<'_>, out: &mut [f32]) {
        for Panel { column, columns, width } in self.panels(n) {
            let out = &mut out[column * k..][..width * k];
            for (p, out) in out.chunks_exact_mut(width).enumerate() {
                let (values, zeros) = out.split_at_mut(columns);
                values.copy_from_slice(&b.values[p * b.stride + column..][..columns]);
                zeros.fill(0.0);
            }
        }
    }

    /// Packs rows, `[n][k]`; each becomes a column.
    pub(in crate::cpu) fn pack_columns(&self, [n, k]: [usize; 2], b: Rows<'_>, out: &mut [f32]) {
        for Panel { column, columns, width } in self.panels(n) {
            let b = Rows { values: &b.values[column * b.stride..], ..b };
            pack_panel(b, columns, width, &mut out[column * k..][..width * k]);
        }
    }
}

/// Packs the columns of one panel; each is a row of `b`. k is the number of rows of `width` elements in `out`.
pub(in crate::cpu) fn pack_panel(b: Rows<'_>, columns: usize, width: usize, out: &mut [f32]) {
    /// Steps of k that are packed together: the lines of `out` that they touch stay in the first-level cache.
    const STEPS: usize = 64;
    for (chunk, out) in out.chunks_mut(STEPS * width).enumerate() {
        let steps = out.len() / width;
        for column in (0..width).step_by(4) {
            let row = |i: usize| match column + i < columns {
                true => &b.values[(column + i) * b.stride + chunk * STEPS..][..steps],
                false => &[0.0; STEPS][..steps],
            };
            transpose([row(0), row(1), row(2), row(3)], width, &mut out[column..]);
        }
    }
}

/// Writes four rows as four neighbouring columns of rows that are `stride` apart.
fn transpose(rows: [&[f32]; 4], stride: usize, out: &mut [f32]) {
    let [a, b, c, d] = rows.map(|row| row.chunks_exact(4));
    let rest = [a.remainder(), b.remainder(), c.remainder(), d.remainder()];
    let mut lines = out.chunks_mut(stride);
    for (((a, b), c), d) in a.zip(b).zip(c).zip(d) {
        let four = |values: &[f32]| <[f32; 4]>::try_from(values).expect("chunks of four");
        // The order matters: zip must not advance `lines` when there are no more values.
        for (values, line) in square([four(a), four(b), four(c), four(d)]).iter().zip(&mut lines) {
            line[..4].copy_from_slice(values);
        }
    }
    for (p, line) in lines.enumerate() {
        line[..4].copy_from_slice(&rest.map(|row| row[p]));
    }
}

/// The transpose of four by four values: eight shuffles, which the compiler does not find.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn square(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    use std::arch::x86_64::*;
    use std::mem::transmute;
    // SAFETY: SSE is part of x86-64, so every such processor has these instructions. A register has the size of four f32,
    // and all bits are values of both.
    unsafe {
        let [a, b, c, d] = transmute::<[[f32; 4]; 4], [__m128; 4]>(rows);
        let [low_ab, high_ab] = [_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b)];
        let [low_cd, high_cd] = [_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d)];
        transmute::<[__m128; 4], [[f32; 4]; 4]>([
            _mm_movelh_ps(low_ab, low_cd),
            _mm_movehl_ps(low_cd, low_ab),
            _mm_movelh_ps(high_ab, high_cd),
            _mm_movehl_ps(high_cd, high_ab),
        ])
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn square(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
}
