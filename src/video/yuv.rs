//! RGB ↔ Y'CbCr in 8 bits, with chroma at full, half or quarter resolution.
//!
//! Y' = Kr·R + Kg·G + Kb·B, Cb = (B − Y') / (2 − 2Kb), Cr = (R − Y') / (2 − 2Kr) (ITU-R BT.601 and BT.709 differ only
//! in Kr and Kb), scaled to 16…235 and 16…240 in limited range. The arithmetic is in integers, with 16 binary places to
//! Y'CbCr and 17 to RGB: the result is the nearest level, or its neighbour where two are equally near.

use std::array;

/// The luma weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matrix {
    /// Standard definition.
    Bt601,
    /// High definition.
    Bt709,
}

/// The colour space: how sample values represent colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colour {
    pub matrix: Matrix,
    pub full_range: bool,
}

impl Colour {
    /// Assumed for streams without flags, and for Y4M, which has no flag, when reading and writing (as in ffmpeg).
    pub const BT601: Self = Self { matrix: Matrix::Bt601, full_range: false };
    /// Used and flagged for the H.264 that this crate writes.
    pub const BT709: Self = Self { matrix: Matrix::Bt709, full_range: false };

    /// (Kr, Kb).
    fn weights(self) -> (f64, f64) {
        match self.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        }
    }

    /// The lowest luma, and the scales of luma and chroma relative to RGB.
    fn scales(self) -> (i32, f64, f64) {
        if self.full_range { (0, 1.0, 1.0) } else { (16, 219.0 / 255.0, 224.0 / 255.0) }
    }
}

/// The horizontal place of a chroma sample among the luma samples that share it. Vertically it is always between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Siting {
    /// On the left luma sample: MPEG-2, H.264.
    Left,
    /// Between two luma samples: JPEG, MPEG-1.
    Centre,
}

/// Three planes; chroma has `width >> halved.0` columns and `height >> halved.1` rows, rounded up.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    pub width: usize,
    pub height: usize,
    /// Y, Cb, Cr.
    pub data: [&'a [u8]; 3],
    /// Bytes from row to row.
    pub stride: [usize; 3],
    /// Whether chroma is halved (horizontally, vertically).
    pub halved: (bool, bool),
    pub siting: Siting,
}

/// Samples of a plane with `size` luma samples along one side.
pub(super) fn chroma_size(size: usize, halved: bool) -> usize {
    if halved { size.div_ceil(2) } else { size }
}

/// Weights of R, G, B for one of Y', Cb, Cr with 16 binary places, and the offset, including rounding.
#[derive(Clone, Copy)]
struct Forward {
    weights: [i32; 3],
    offset: i32,
}

impl Forward {
    /// Rows Y', Cb, Cr of the matrix.
    fn rows(colour: Colour) -> [Self; 3] {
        let (kr, kb) = colour.weights();
        let (low, luma, chroma) = colour.scales();
        let y = [kr, 1.0 - kr - kb, kb];
        let difference = |of: usize| {
            let scale = chroma / (2.0 - 2.0 * y[of]);
            array::from_fn(|i| scale * (f64::from(u8::from(i == of)) - y[i]))
        };
        let row = |weights: [f64; 3], offset: i32| Self {
            weights: weights.map(|weight| (weight * 65536.0).round() as i32),
            offset: (offset << 16) + (1 << 15),
        };
        [row(y.map(|weight| weight * luma), low), row(difference(2), 128), row(difference(0), 128)]
    }

    fn apply(self, [r, g, b]: [i32; 3]) -> u8 {
        let [kr, kg, kb] = self.weights;
        ((kr * r + kg * g + kb * b + self.offset) >> 16).clamp(0, 255) as u8
    }
}

fn pixel(rgb: &[u8]) -> [i32; 3] {
    [i32::from(rgb[0]), i32::from(rgb[1]), i32::from(rgb[2])]
}

/// Full-resolution planes Y', Cb, Cr of `rgb`, appended to `out` one after the other.
pub(super) fn to_444(rgb: &[u8], colour: Colour, out: &mut Vec<u8>) {
    for row in Forward::rows(colour) {
        out.extend(rgb.chunks_exact(3).map(|rgb| row.apply(pixel(rgb))));
    }
}

/// 4:2:0 planes of even size; chroma sited left.
#[derive(Default)]
pub(super) struct Yuv420 {
    pub width: usize,
    pub height: usize,
    pub y: Vec<u8>,
    pub u: Vec<u8>,
    pub v: Vec<u8>,
}

impl Yuv420 {
    /// Converts `rgb`, `[height, width, 3]`. An odd size is made even by repeating the last column or row.
    pub fn convert(&mut self, rgb: &[u8], width: usize, height: usize, colour: Colour) {
        let [luma, cb, cr] = Forward::rows(colour);
        (self.width, self.height) = (width.next_multiple_of(2), height.next_multiple_of(2));
        let (rows, columns) = (self.height / 2, self.width / 2);
        self.y.resize(self.width * self.height, 0);
        self.u.resize(rows * columns, 0);
        self.v.resize(rows * columns, 0);
        let row = |y: usize| &rgb[y.min(height - 1) * width * 3..][..width * 3];
        for (y, out) in self.y.chunks_exact_mut(self.width).enumerate() {
            for (out, rgb) in out.iter_mut().zip(row(y).chunks_exact(3)) {
                *out = luma.apply(pixel(rgb));
            }
            out[self.width - 1] = out[width - 1];
        }
        for y in 0..rows {
            let (above, below) = (row(2 * y), row(2 * y + 1));
            let column = |x: usize| {
                let at = x.min(width - 1) * 3;
                let (a, b) = (pixel(&above[at..]), pixel(&below[at..]));
                array::from_fn(|i| a[i] + b[i])
            };
            let mut left: [i32; 3] = column(0);
            for x in 0..columns {
                let (middle, right) = (column(2 * x), column(2 * x + 1));
                let mean = array::from_fn(|i| (left[i] + 2 * middle[i] + right[i] + 4) >> 3);
                self.u[y * columns + x] = cb.apply(mean);
                self.v[y * columns + x] = cr.apply(mean);
                left = right;
            }
        }
    }
}

/// Weights for the conversion to RGB: luma's with 17 binary places, chroma's with 13, because chroma samples are
/// 16-fold.
struct Inverse {
    low: i32,
    luma: i32,
    /// Cr in R, Cb and Cr in G, Cb in B.
    chroma: [i32; 4],
}

impl Inverse {
    fn new(colour: Colour) -> Self {
        let (kr, kb) = colour.weights();
        let (low, luma, chroma) = colour.scales();
        let kg = 1.0 - kr - kb;
        let (red, blue) = (2.0 - 2.0 * kr, 2.0 - 2.0 * kb);
        let weights = [red, -blue * kb / kg, -red * kr / kg, blue];
        Self {
            low,
            luma: ((1 << 17) as f64 / luma).round() as i32,
            chroma: weights.map(|weight| (weight / chroma * (1 << 13) as f64).round() as i32),
        }
    }

    /// `u` and `v` are 16-fold.
    fn apply(&self, y: u8, u: i32, v: i32) -> [u8; 3] {
        let y = (i32::from(y) - self.low) * self.luma + (1 << 16);
        let (u, v) = (u - 128 * 16, v - 128 * 16);
        let [rv, gu, gv, bu] = self.chroma;
        [y + rv * v, y + gu * u + gv * v, y + bu * u].map(|level| (level >> 17).clamp(0, 255) as u8)
    }
}

/// RGB of `planes`, `[height, width, 3]`. Halved chroma is interpolated linearly between its samples' places.
pub(super) fn to_rgb(planes: &Planes, colour: Colour) -> Vec<u8> {
    // Damaged streams have pictures without pixels.
    if planes.width == 0 || planes.height == 0 {
        return Vec::new();
    }
    let inverse = Inverse::new(colour);
    let mut rgb = Vec::with_capacity(planes.width * planes.height * 3);
    let (mut u, mut v) = (vec![0; planes.width], vec![0; planes.width]);
    let mut scratch = vec![0; chroma_size(planes.width, planes.halved.0)];
    for row in 0..planes.height {
        chroma_row(planes, 1, row, &mut scratch, &mut u);
        chroma_row(planes, 2, row, &mut scratch, &mut v);
        let luma = &planes.data[0][row * planes.stride[0]..][..planes.width];
        for ((&y, &u), &v) in luma.iter().zip(&u).zip(&v) {
            rgb.extend_from_slice(&inverse.apply(y, u, v));
        }
    }
    rgb
}

/// Row `row` of a chroma plane at luma's resolution, 16-fold: interpolated between rows, then between columns.
fn chroma_row(planes: &Planes, plane: usize, row: usize, scratch: &mut [i32], out: &mut [i32]) {
    let rows = chroma_size(planes.height, planes.halved.1);
    let columns = scratch.len();
    let line = |row: usize| &planes.data[plane][row * planes.stride[plane]..][..columns];
    if planes.halved.1 {
        let near = row / 2;
        let far = if row.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(rows - 1) };
        let (near, far) = (line(near), line(far));
        for (out, (&near, &far)) in scratch.iter_mut().zip(near.iter().zip(far)) {
            *out = 3 * i32::from(near) + i32::from(far);
        }
    } else {
        let line = line(row);
        for (out, &level) in scratch.iter_mut().zip(line) {
            *out = 4 * i32::from(level);
        }
    }
    let last = columns - 1;
    match (planes.halved.0, planes.siting) {
        (false, _) => out.iter_mut().zip(scratch.iter()).for_each(|(out, &level)| *out = 4 * level),
        (true, Siting::Left) => {
            for (out, x) in out.chunks_mut(2).zip(0..) {
                out[0] = 4 * scratch[x];
                if let Some(right) = out.get_mut(1) {
                    *right = 2 * (scratch[x] + scratch[last.min(x + 1)]);
                }
            }
        }
        (true, Siting::Centre) => {
            for (out, x) in out.chunks_mut(2).zip(0..) {
                out[0] = 3 * scratch[x] + scratch[x.saturating_sub(1)];
                if let Some(right) = out.get_mut(1) {
                    *right = 3 * scratch[x] + scratch[last.min(x + 1)];
                }
            }
        }
    }
}
