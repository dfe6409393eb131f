//! Floats and conversions: PTX ISA 9.0, sections 9.7.3, 9.7.6 and 9.7.9.

use super::{compares, words};

const NAN: u32 = 0x7FFF_FFFF;
const OTHER_NAN: u32 = 0xFFC0_1234;
const INFINITY: u32 = 0x7F80_0000;
const MINUS_ZERO: u32 = 0x8000_0000;
/// The smallest subnormal number, and the smallest normal one.
const TINY: u32 = 1;
const NORMAL: u32 = 0x0080_0000;

fn bits(value: f32) -> u32 {
    value.to_bits()
}

/// An instruction of f32 from %f1, %f2, %f3 to %f5.
#[track_caller]
fn floats(instruction: &str, cases: &[([u32; 3], u32)]) {
    words(&format!("mov.b32 %f1, %r1;\nmov.b32 %f2, %r2;\nmov.b32 %f3, %r3;\n{instruction}\nmov.b32 %r5, %f5;"), cases);
}

#[test]
fn sums_round_to_nearest_even_and_keep_subnormals() {
    let one = bits(1.0);
    floats(
        "add.f32 %f5, %f1, %f2;",
        &[
            // Half a unit in the last place: to even.
            ([one, bits(2f32.powi(-24)), 0], one),
            ([one + 1, bits(2f32.powi(-24)), 0], one + 2),
            ([TINY, TINY, 0], 2),
            ([NORMAL, TINY | MINUS_ZERO, 0], NORMAL - 1),
            ([INFINITY, INFINITY | MINUS_ZERO, 0], NAN),
            ([OTHER_NAN, one, 0], NAN),
            ([MINUS_ZERO, 0, 0], 0),
        ],
    );
    floats(
        "sub.f32 %f5, %f1, %f2;",
        &[([one, one, 0], 0), ([TINY, 2, 0], TINY | MINUS_ZERO), ([INFINITY, INFINITY, 0], NAN)],
    );
}

#[test]
fn products_keep_subnormals_and_fused_sums_round_once() {
    let (a, half) = (bits(1.0 + 2f32.powi(-12)), bits(0.5));
    let minus = bits(-(1.0 + 2f32.powi(-11)));
    floats("mul.f32 %f5, %f1, %f2;", &[([NORMAL, half, 0], NORMAL / 2), ([INFINITY, 0, 0], NAN), ([TINY, half, 0], 0)]);
    floats("mul.f32 %f4, %f1, %f2;\nadd.f32 %f5, %f4, %f3;", &[([a, a, minus], 0)]);
    floats(
        "fma.rn.f32 %f5, %f1, %f2, %f3;",
        &[([a, a, minus], bits(2f32.powi(-24))), ([INFINITY, 0, a], NAN), ([TINY, half, TINY], 2)],
    );
}

#[test]
fn quotients_are_rounded_once() {
    let [one, three] = [bits(1.0), bits(3.0)];
    floats(
        "div.rn.f32 %f5, %f1, %f2;",
        &[
            ([one, three, 0], 0x3EAA_AAAB),
            ([one, 0, 0], INFINITY),
            ([0, 0, 0], NAN),
            ([NORMAL, bits(4.0), 0], NORMAL / 4),
        ],
    );
    floats(
        "rcp.rn.f32 %f5, %f1;",
        &[
            ([three, 0, 0], 0x3EAA_AAAB),
            ([MINUS_ZERO, 0, 0], INFINITY | MINUS_ZERO),
            ([bits(2f32.powi(127)), 0, 0], 0x0040_0000),
        ],
    );
}

#[test]
fn a_number_wins_against_nan_and_plus_zero_is_larger() {
    let two = bits(2.0);
    let both = [[OTHER_NAN, two], [two, OTHER_NAN]];
    for [a, b] in both {
        floats("min.f32 %f5, %f1, %f2;", &[([a, b, 0], two)]);
        floats("max.f32 %f5, %f1, %f2;", &[([a, b, 0], two)]);
    }
    floats(
        "min.f32 %f5, %f1, %f2;",
        &[
            ([OTHER_NAN, NAN, 0], NAN),
            ([0, MINUS_ZERO, 0], MINUS_ZERO),
            ([MINUS_ZERO, 0, 0], MINUS_ZERO),
            ([two, bits(-3.0), 0], bits(-3.0)),
        ],
    );
    floats(
        "max.f32 %f5, %f1, %f2;",
        &[([OTHER_NAN, NAN, 0], NAN), ([0, MINUS_ZERO, 0], 0), ([MINUS_ZERO, 0, 0], 0), ([TINY, 0, 0], TINY)],
    );
}

#[test]
fn signs_are_bits() {
    floats("neg.f32 %f5, %f1;", &[([0, 0, 0], MINUS_ZERO), ([bits(-2.0), 0, 0], bits(2.0))]);
    floats(
        "abs.f32 %f5, %f1;",
        &[([MINUS_ZERO, 0, 0], 0), ([bits(-2.0), 0, 0], bits(2.0)), ([TINY | MINUS_ZERO, 0, 0], TINY)],
    );
}

#[test]
fn comparisons_with_nan_hold_only_if_unordered() {
    let pairs = [[1.0, 1.0], [1.0, 2.0], [2.0, 1.0], [f32::NAN, 1.0], [1.0, f32::NAN], [0.0, -0.0]];
    let check = |name: &str, holds: [bool; 6]| {
        let cases: Vec<_> = pairs.iter().map(|pair| pair.map(bits)).zip(holds).collect();
        compares(&format!("mov.b32 %f1, %r1;\nmov.b32 %f2, %r2;\nsetp.{name}.f32 %p1, %f1, %f2;"), &cases);
    };
    check("eq", [true, false, false, false, false, true]);
    check("ne", [false, true, true, false, false, false]);
    check("lt", [false, true, false, false, false, false]);
    check("le", [true, true, false, false, false, true]);
    check("gt", [false, false, true, false, false, false]);
    check("ge", [true, false, true, false, false, true]);
    check("equ", [true, false, false, true, true, true]);
    check("neu", [false, true, true, true, true, false]);
    check("ltu", [false, true, false, true, true, false]);
    check("leu", [true, true, false, true, true, true]);
    check("gtu", [false, false, true, true, true, false]);
    check("geu", [true, false, true, true, true, true]);
    check("num", [true, true, true, false, false, true]);
    check("nan", [false, false, false, true, true, false]);
}

#[test]
fn integers_of_floats_are_cut_and_clamped() {
    let to = |kind: &str, cases: &[(f32, u32)]| {
        let cases: Vec<_> = cases.iter().map(|&(value, d)| ([bits(value), 0, 0], d)).collect();
        words(&format!("mov.b32 %f1, %r1;\ncvt.rzi.{kind}.f32 %r5, %f1;"), &cases);
    };
    to(
        "u32",
        &[
            (3.9, 3),
            (-0.9, 0),
            (-5.0, 0),
            (5e9, u32::MAX),
            (f32::INFINITY, u32::MAX),
            (f32::NAN, 0),
            (4e9, 4_000_000_000),
        ],
    );
    to("s32", &[(-3.9, -3i32 as u32), (3e9, 0x7FFF_FFFF), (-3e9, 0x8000_0000), (f32::NAN, 0)]);
}

#[test]
fn floats_of_integers_round_to_nearest_even() {
    let of = |kind: &str, cases: &[([u32; 3], u32)]| {
        words(&format!("cvt.rn.f32.{kind} %f5, %r1;\nmov.b32 %r5, %f5;"), cases)
    };
    of(
        "s32",
        &[
            ([16_777_217, 0, 0], bits(16_777_216.0)),
            ([16_777_219, 0, 0], bits(16_777_220.0)),
            ([u32::MAX, 0, 0], bits(-1.0)),
        ],
    );
    of("u32", &[([u32::MAX, 0, 0], bits(4_294_967_296.0))]);
    words("cvt.u16.u32 %rs1, %r1;\ncvt.rn.f32.u16 %f5, %rs1;\nmov.b32 %r5, %f5;", &[([0xFFFF, 0, 0], bits(65535.0))]);
}

#[test]
fn saturation_ends_at_zero_and_one() {
    floats(
        "cvt.sat.f32.f32 %f5, %f1;",
        &[
            ([bits(-1.0), 0, 0], 0),
            ([bits(2.0), 0, 0], bits(1.0)),
            ([bits(0.25), 0, 0], bits(0.25)),
            ([OTHER_NAN, 0, 0], 0),
            ([INFINITY, 0, 0], bits(1.0)),
            ([TINY, 0, 0], TINY),
        ],
    );
}

#[test]
fn halves_round_to_nearest_even() {
    let to = |kind: &str, cases: &[([u32; 3], u32)]| {
        words(&format!("mov.b32 %f1, %r1;\ncvt.rn.{kind}.f32 %rs1, %f1;\ncvt.u32.u16 %r5, %rs1;"), cases);
    };
    let tiny = bits(2f32.powi(-25));
    to(
        "f16",
        &[
            ([bits(65504.0), 0, 0], 0x7BFF),
            ([bits(65519.99), 0, 0], 0x7BFF),
            ([bits(65520.0), 0, 0], 0x7C00),
            ([tiny, 0, 0], 0),
            ([tiny + 1, 0, 0], 1),
            ([OTHER_NAN, 0, 0], 0x7FFF),
            ([bits(-2.0), 0, 0], 0xC000),
            ([bits(1.0 + 2f32.powi(-11)), 0, 0], 0x3C00),
        ],
    );
    to(
        "bf16",
        &[
            ([0x3F80_8000, 0, 0], 0x3F80),
            ([0x3F81_8000, 0, 0], 0x3F82),
            ([0x3F80_8001, 0, 0], 0x3F81),
            ([0x7F7F_FFFF, 0, 0], 0x7F80),
            ([OTHER_NAN, 0, 0], 0x7FFF),
            ([TINY, 0, 0], 0),
            ([0x0001_0000, 0, 0], 1),
        ],
    );
    let pair = |kind: &str| format!("mov.b32 %f1, %r1;\nmov.b32 %f2, %r2;\ncvt.rn.{kind}.f32 %r5, %f1, %f2;");
    // The first source is the upper half.
    words(&pair("f16x2"), &[([bits(1.0), bits(-2.0), 0], 0x3C00_C000)]);
    words(&pair("bf16x2"), &[([bits(1.0), bits(-2.0), 0], 0x3F80_C000)]);
}

#[test]
fn halves_become_floats_exactly() {
    let of = |kind: &str, cases: &[([u32; 3], u32)]| {
        words(&format!("cvt.u16.u32 %rs1, %r1;\ncvt.f32.{kind} %f5, %rs1;\nmov.b32 %r5, %f5;"), cases);
    };
    of(
        "f16",
        &[
            ([0x3C01, 0, 0], bits(1.0 + 2f32.powi(-10))),
            ([1, 0, 0], bits(2f32.powi(-24))),
            ([0xFC00, 0, 0], INFINITY | MINUS_ZERO),
            ([0x7E01, 0, 0], NAN),
            ([0x8000, 0, 0], MINUS_ZERO),
        ],
    );
    of("bf16", &[([0x3F81, 0, 0], 0x3F81_0000), ([1, 0, 0], 0x0001_0000)]);
}

#[test]
fn approximations_are_exact_where_the_isa_says_so() {
    floats(
        "ex2.approx.ftz.f32 %f5, %f1;",
        &[
            ([0, 0, 0], bits(1.0)),
            ([bits(3.0), 0, 0], bits(8.0)),
            ([bits(-126.0), 0, 0], NORMAL),
            ([bits(-126.5), 0, 0], 0),
            ([INFINITY, 0, 0], INFINITY),
            ([INFINITY | MINUS_ZERO, 0, 0], 0),
            ([OTHER_NAN, 0, 0], NAN),
            ([TINY, 0, 0], bits(1.0)),
        ],
    );
    floats(
        "rcp.approx.ftz.f32 %f5, %f1;",
        &[
            ([bits(2.0), 0, 0], bits(0.5)),
            ([TINY, 0, 0], INFINITY),
            ([TINY | MINUS_ZERO, 0, 0], INFINITY | MINUS_ZERO),
            ([bits(-f32::INFINITY), 0, 0], MINUS_ZERO),
            ([bits(2f32.powi(127)), 0, 0], 0),
            ([OTHER_NAN, 0, 0], NAN),
        ],
    );
    // Without ftz, subnormal numbers count.
    floats(
        "rsqrt.approx.f32 %f5, %f1;",
        &[
            ([bits(4.0), 0, 0], bits(0.5)),
            ([0, 0, 0], INFINITY),
            ([MINUS_ZERO, 0, 0], INFINITY | MINUS_ZERO),
            ([bits(-1.0), 0, 0], NAN),
            ([bits(2f32.powi(-128)), 0, 0], bits(2f32.powi(64))),
            ([INFINITY, 0, 0], 0),
        ],
    );
}
