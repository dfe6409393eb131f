//! Integer arithmetic, logic, shifts, comparisons and moves: PTX ISA 9.0, sections 9.7.1, 9.7.6, 9.7.8 and 9.7.9.

use super::{compares, doubles, lanes, words};

const MIN: u32 = 0x8000_0000;
const MINUS: u32 = u32::MAX;

#[test]
fn sums_and_products_wrap() {
    words("add.s32 %r5, %r1, %r2;", &[([0x7FFF_FFFF, 1, 0], MIN), ([MINUS, 2, 0], 1)]);
    words("sub.s32 %r5, %r1, %r2;", &[([0, 1, 0], MINUS), ([MIN, 1, 0], 0x7FFF_FFFF)]);
    words("mul.lo.s32 %r5, %r1, %r2;", &[([0x1_0001, 0x1_0001, 0], 0x2_0001), ([MINUS, 3, 0], -3i32 as u32)]);
    words("mul.hi.s32 %r5, %r1, %r2;", &[([-2i32 as u32, 3, 0], MINUS), ([MIN, MIN, 0], 0x4000_0000)]);
    words("mul.hi.u32 %r5, %r1, %r2;", &[([-2i32 as u32, 3, 0], 2), ([MIN, MIN, 0], 0x4000_0000)]);
    words("mad.lo.s32 %r5, %r1, %r2, %r3;", &[([7, -3i32 as u32, 5], -16i32 as u32), ([MIN, 2, 9], 9)]);
    words("neg.s32 %r5, %r1;", &[([5, 0, 0], -5i32 as u32), ([MIN, 0, 0], MIN)]);
    doubles("add.s64 %rd12, %rd10, %rd11;", &[([u64::MAX, 2], 1), ([0xFFFF_FFFF, 1], 1 << 32)]);
    doubles("mul.lo.s64 %rd12, %rd10, %rd11;", &[([-3i64 as u64, 1 << 33], (-3i64 as u64) << 33)]);
    doubles("mad.lo.s64 %rd12, %rd10, %rd11, %rd10;", &[([-3i64 as u64, 4], -15i64 as u64)]);
    doubles(
        "cvt.u32.u64 %r7, %rd10;\ncvt.u32.u64 %r8, %rd11;\nmul.wide.s32 %rd12, %r7, %r8;",
        &[([0xFFFF_FFFF, 0xFFFF_FFFF], 1), ([0x8000_0000, 2], 0xFFFF_FFFF_0000_0000)],
    );
    doubles(
        "cvt.u32.u64 %r7, %rd10;\ncvt.u32.u64 %r8, %rd11;\nmul.wide.u32 %rd12, %r7, %r8;",
        &[([0xFFFF_FFFF, 0xFFFF_FFFF], 0xFFFF_FFFE_0000_0001)],
    );
}

#[test]
fn quotients_round_toward_zero_and_remainders_have_the_sign_of_the_dividend() {
    let (m7, m2) = (-7i32 as u32, -2i32 as u32);
    let quotient = [([7, 2, 0], 3), ([m7, 2, 0], -3i32 as u32), ([7, m2, 0], -3i32 as u32), ([m7, m2, 0], 3)];
    words("div.s32 %r5, %r1, %r2;", &quotient);
    words("rem.s32 %r5, %r1, %r2;", &[([7, 2, 0], 1), ([m7, 2, 0], MINUS), ([7, m2, 0], 1), ([m7, m2, 0], MINUS)]);
    words("div.u32 %r5, %r1, %r2;", &[([m7, 2, 0], 0x7FFF_FFFC), ([7, m7, 0], 0)]);
    words("rem.u32 %r5, %r1, %r2;", &[([m7, 16, 0], 9), ([7, m7, 0], 7)]);
    doubles("div.s64 %rd12, %rd10, %rd11;", &[([-7i64 as u64, 2], -3i64 as u64), ([1 << 40, 3], (1 << 40) / 3)]);
    doubles("rem.s64 %rd12, %rd10, %rd11;", &[([-7i64 as u64, 2], u64::MAX), ([1 << 40, 3], 1)]);
}

#[test]
fn shifts_beyond_the_width_leave_nothing_or_the_sign() {
    let distances = [0, 1, 31, 32, 33, 0x100, u32::MAX];
    let expect = |f: fn(u32) -> u32| distances.map(|distance| ([0x8000_0001, distance, 0], f(distance)));
    words("shl.b32 %r5, %r1, %r2;", &expect(|n| if n < 32 { 0x8000_0001 << n } else { 0 }));
    words("shr.u32 %r5, %r1, %r2;", &expect(|n| if n < 32 { 0x8000_0001 >> n } else { 0 }));
    words("shr.s32 %r5, %r1, %r2;", &[([MIN, 1, 0], 0xC000_0000), ([MIN, 32, 0], MINUS), ([MIN, MINUS, 0], MINUS)]);
    words("shr.s32 %r5, %r1, %r2;", &[([0x7FFF_FFFF, 30, 0], 1), ([0x7FFF_FFFF, 99, 0], 0)]);
    let shift = |name: &str| format!("cvt.u32.u64 %r7, %rd11;\n{name} %rd12, %rd10, %r7;");
    doubles(&shift("shl.b64"), &[([3, 63], 1 << 63), ([3, 64], 0), ([3, 0xFFFF_FFFF], 0), ([3, 32], 3 << 32)]);
    doubles(&shift("shr.u64"), &[([1 << 63, 63], 1), ([1 << 63, 64], 0)]);
    doubles(&shift("shr.s64"), &[([1 << 63, 62], -2i64 as u64), ([1 << 63, 64], u64::MAX)]);
}

#[test]
fn fields_of_bits_are_cut_at_the_end() {
    let body = "bfi.b32 %r5, %r1, %r2, %r3, %r4;";
    let b = 0xAAAA_AAAA;
    let case = |position, length, d| ([0xFFFF_0F0F, b, position, length], [d, 0]);
    lanes(
        body,
        &[
            case(4, 8, 0xAAAA_A0FA),
            case(28, 8, 0xFAAA_AAAA),
            case(0, 32, 0xFFFF_0F0F),
            case(0, 40, 0xFFFF_0F0F),
            // A length of 0, or a position beyond the end: b. Only eight bits of both count.
            case(5, 0, b),
            case(32, 4, b),
            case(0x104, 8, 0xAAAA_A0FA),
            case(4, 0x108, 0xAAAA_A0FA),
        ],
    );
    let cases =
        [([b, 4, 8], 0xAA), ([b, 28, 8], 0xA), ([b, 0, 32], b), ([b, 7, 0], 0), ([b, 32, 4], 0), ([b, 1, 99], b >> 1)];
    words("bfe.u32 %r5, %r1, %r2, %r3;", &cases);
}

#[test]
fn bytes_are_permuted_with_their_signs() {
    // Bytes 0 to 7 are 80 11 22 F3 44 55 66 77, the lowest first.
    let (a, b) = (0xF322_1180, 0x7766_5544);
    let cases = [
        ([a, b, 0x3210], a),
        ([a, b, 0x7654], b),
        ([a, b, 0x0123], 0x8011_22F3),
        ([a, b, 0x5410], 0x5544_1180),
        // Bit 3 of a nibble repeats the sign of the byte.
        ([a, b, 0x8B9C], 0xFFFF_0000),
        // Only four nibbles count.
        ([a, b, 0xFFFF_3210], a),
    ];
    words("prmt.b32 %r5, %r1, %r2, %r3;", &cases);
}

#[test]
fn logic_is_bitwise() {
    words("and.b32 %r5, %r1, %r2;", &[([0b1100, 0b1010, 0], 0b1000)]);
    words("or.b32 %r5, %r1, %r2;", &[([0b1100, 0b1010, 0], 0b1110)]);
    words("xor.b32 %r5, %r1, %r2;", &[([0b1100, 0b1010, 0], 0b0110)]);
    words("not.b32 %r5, %r1;", &[([0xF0, 0, 0], 0xFFFF_FF0F)]);
    doubles("and.b64 %rd12, %rd10, %rd11;", &[([0xC << 40, 0xA << 40], 8 << 40)]);
    doubles("or.b64 %rd12, %rd10, %rd11;", &[([0xC << 40, 0xA], 0xC << 40 | 0xA)]);
    let predicates = "setp.ne.u32 %p2, %r1, 0;\nsetp.ne.u32 %p3, %r2, 0;";
    let cases = |table: [bool; 4]| [0, 1, 2, 3].map(|i| ([i & 1, i >> 1, 0], u32::from(table[i as usize])));
    for (name, table) in
        [("and", [false, false, false, true]), ("or", [false, true, true, true]), ("xor", [false, true, true, false])]
    {
        words(&format!("{predicates}\n{name}.pred %p1, %p2, %p3;\nselp.u32 %r5, 1, 0, %p1;"), &cases(table));
    }
    words(&format!("{predicates}\nnot.pred %p1, %p2;\nselp.u32 %r5, 1, 0, %p1;"), &cases([true, false, true, false]));
    words("mov.pred %p1, -1;\nselp.u32 %r5, 1, 0, %p1;", &[([0; 3], 1)]);
}

#[test]
fn minima_and_maxima_know_signs() {
    words("min.s32 %r5, %r1, %r2;", &[([MINUS, 1, 0], MINUS)]);
    words("max.s32 %r5, %r1, %r2;", &[([MINUS, 1, 0], 1)]);
    words("min.u32 %r5, %r1, %r2;", &[([MINUS, 1, 0], 1)]);
    words("max.u32 %r5, %r1, %r2;", &[([MINUS, 1, 0], MINUS)]);
}

#[test]
fn comparisons_know_signs() {
    let pairs = [[1, 1], [MINUS, 1], [1, MINUS]];
    let check = |name: &str, holds: [bool; 3]| {
        let cases: Vec<_> = pairs.into_iter().zip(holds).collect();
        compares(&format!("setp.{name} %p1, %r1, %r2;"), &cases);
    };
    check("eq.s32", [true, false, false]);
    check("ne.s32", [false, true, true]);
    check("lt.s32", [false, true, false]);
    check("le.s32", [true, true, false]);
    check("gt.s32", [false, false, true]);
    check("ge.s32", [true, false, true]);
    check("lt.u32", [false, false, true]);
    check("ge.u32", [true, true, false]);
    check("lo.u32", [false, false, true]);
    check("ls.u32", [true, false, true]);
    check("hi.u32", [false, true, false]);
    check("hs.u32", [true, true, false]);
    check("eq.b32", [true, false, false]);
    let halves = "cvt.u16.u32 %rs1, %r1;\ncvt.u16.u32 %rs2, %r2;";
    compares(&format!("{halves}\nsetp.lt.s16 %p1, %rs1, %rs2;"), &[([0xFFFF, 1], true), ([1, 0xFFFF], false)]);
    compares(&format!("{halves}\nsetp.lt.u16 %p1, %rs1, %rs2;"), &[([0xFFFF, 1], false), ([1, 0xFFFF], true)]);
    compares(&format!("{halves}\nsetp.eq.s16 %p1, %rs1, 5;"), &[([0x1_0005, 0], true)]);
    let wide = "cvt.s64.s32 %rd10, %r1;\ncvt.u64.u32 %rd11, %r2;";
    compares(&format!("{wide}\nsetp.lt.s64 %p1, %rd10, %rd11;"), &[([MINUS, 1], true), ([1, MINUS], true)]);
    compares(&format!("{wide}\nsetp.ge.u64 %p1, %rd10, %rd11;"), &[([MINUS, 1], true), ([1, MINUS], false)]);
    compares(&format!("{wide}\nsetp.eq.s64 %p1, %rd10, -1;"), &[([MINUS, 0], true), ([1, 0], false)]);
}

#[test]
fn sixteen_bits_stay_sixteen_bits() {
    let halves = "cvt.u16.u32 %rs1, %r1;\ncvt.u16.u32 %rs2, %r2;";
    let binary = |name: &str, cases: &[([u32; 3], u32)]| {
        words(&format!("{halves}\n{name} %rs3, %rs1, %rs2;\ncvt.u32.u16 %r5, %rs3;"), cases);
    };
    binary("add.s16", &[([0xFFFF, 2, 0], 1)]);
    binary("sub.s16", &[([0, 1, 0], 0xFFFF)]);
    binary("mul.lo.s16", &[([0x101, 0x101, 0], 0x201)]);
    binary("mul.hi.u16", &[([0x8000, 4, 0], 2)]);
    binary("and.b16", &[([0xF0F0, 0xFF, 0], 0xF0)]);
    let shift = |name: &str, cases: &[([u32; 3], u32)]| {
        words(&format!("{halves}\n{name} %rs3, %rs1, %r2;\ncvt.u32.u16 %r5, %rs3;"), cases);
    };
    shift("shr.u16", &[([0x8000, 15, 0], 1), ([0x8000, 16, 0], 0)]);
    shift("shl.b16", &[([0x8001, 1, 0], 2), ([1, 16, 0], 0)]);
    words(&format!("{halves}\nmul.wide.u16 %r5, %rs1, %rs2;"), &[([0xFFFF, 0xFFFF, 0], 0xFFFE_0001)]);
    words(&format!("{halves}\ncvt.s32.s16 %r5, %rs1;"), &[([0x8000, 0, 0], 0xFFFF_8000), ([0x7FFF, 0, 0], 0x7FFF)]);
}

#[test]
fn conversions_extend_or_cut() {
    doubles("cvt.u32.u64 %r7, %rd10;\ncvt.s64.s32 %rd12, %r7;", &[([0x8000_0000, 0], 0xFFFF_FFFF_8000_0000)]);
    doubles("cvt.u32.u64 %r7, %rd10;\ncvt.u64.u32 %rd12, %r7;", &[([0xFF_8000_0000, 0], 0x8000_0000)]);
    words("cvt.u16.u32 %rs1, %r1;\ncvt.u32.u16 %r5, %rs1;", &[([0x1234_5678, 0, 0], 0x5678)]);
}

#[test]
fn moves_take_apart_and_put_together() {
    words("mov.b32 {%rs1, %rs2}, %r1;\nmov.b32 %r5, {%rs2, %rs1};", &[([0x1234_5678, 0, 0], 0x5678_1234)]);
    words("mov.b32 {%rs1, %rs2}, %r1;\nmov.b32 %r5, {0, %rs1};", &[([0x1234_5678, 0, 0], 0x5678_0000)]);
    doubles("mov.b64 {%r7, %r8}, %rd10;\nmov.b64 %rd12, {%r8, %r7};", &[([0x1_0000_0002, 0], 0x2_0000_0001)]);
    words("setp.ne.u32 %p1, %r1, 0;\nselp.b32 %r5, %r2, %r3, %p1;", &[([1, 5, 6], 5), ([0, 5, 6], 6)]);
    doubles("setp.ne.s64 %p1, %rd10, 0;\nselp.b64 %rd12, %rd11, 7, %p1;", &[([1 << 40, 5], 5), ([0, 5], 7)]);
}
