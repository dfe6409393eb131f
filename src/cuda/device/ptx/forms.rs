//! The instructions whose lanes compute separately. PTX ISA 9.0, sections 9.7.1 to 9.7.9.
//!
//! A form's signature names the registers of its operands: `p` a predicate, `h` 16 bits, `r` 32 bits, `d` 64 bits,
//! results before the `=`. Braces in the text of an instruction count as their elements.

use super::program::{FAR_BITS, Instruction};
use super::registers::{Registers, bits, float};
use half::{bf16, f16};

/// Computes an instruction for the lanes of a mask.
pub type Compute = fn(&mut Registers, &Instruction, u32);

/// Which operand of an instruction is a vector in braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Plain,
    /// The result.
    Unpack,
    /// The source.
    Pack,
}

/// How the lanes compute an instruction with this opcode.
pub fn form(opcode: &str, shape: Shape) -> Option<(&'static str, Compute)> {
    if shape != Shape::Plain {
        return vectors(opcode, shape);
    }
    words(opcode)
        .or_else(|| narrow_words(opcode))
        .or_else(|| doubles(opcode))
        .or_else(|| floats(opcode))
        .or_else(|| conversions(opcode))
        .or_else(|| comparisons(opcode))
        .or_else(|| moves(opcode))
}

type Form = (&'static str, Compute);

const fn of(signature: &'static str, compute: Compute) -> Option<Form> {
    Some((signature, compute))
}

fn signed(value: u32) -> i32 {
    value.cast_signed()
}

fn signed_wide(value: u64) -> i64 {
    value.cast_signed()
}

/// The sign-extended value of a 16-bit register.
fn signed_half(value: u32) -> i32 {
    i32::from(value as u16 as i16)
}

/// Distances of 32 and more shift everything out.
fn left(a: u32, distance: u32) -> u32 {
    a.checked_shl(distance).unwrap_or(0)
}

fn right(a: u32, distance: u32) -> u32 {
    a.checked_shr(distance).unwrap_or(0)
}

fn words(opcode: &str) -> Option<Form> {
    match opcode {
        "add.s32" | "add.u32" => of("r=rr", |x, i, m| x.two(i, m, u32::wrapping_add)),
        "sub.s32" | "sub.u32" => of("r=rr", |x, i, m| x.two(i, m, u32::wrapping_sub)),
        "mul.lo.s32" | "mul.lo.u32" => of("r=rr", |x, i, m| x.two(i, m, u32::wrapping_mul)),
        "mul.hi.s32" => of("r=rr", |x, i, m| {
            x.two(i, m, |a, b| ((i64::from(signed(a)) * i64::from(signed(b))) >> 32) as u32);
        }),
        "mul.hi.u32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32)),
        "mad.lo.s32" | "mad.lo.u32" => {
            of("r=rrr", |x, i, m| x.three(i, m, |a, b, c| a.wrapping_mul(b).wrapping_add(c)))
        }
        "div.s32" => of("r=rr", |x, i, m| x.divide(i, m, |a, b| signed(a).wrapping_div(signed(b)).cast_unsigned())),
        "div.u32" => of("r=rr", |x, i, m| x.divide(i, m, |a, b| a / b)),
        "rem.s32" => of("r=rr", |x, i, m| x.divide(i, m, |a, b| signed(a).wrapping_rem(signed(b)).cast_unsigned())),
        "rem.u32" => of("r=rr", |x, i, m| x.divide(i, m, |a, b| a % b)),
        "neg.s32" => of("r=r", |x, i, m| x.one(i, m, u32::wrapping_neg)),
        "min.s32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| signed(a).min(signed(b)).cast_unsigned())),
        "max.s32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| signed(a).max(signed(b)).cast_unsigned())),
        "min.u32" => of("r=rr", |x, i, m| x.two(i, m, u32::min)),
        "max.u32" => of("r=rr", |x, i, m| x.two(i, m, u32::max)),
        "and.b32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| a & b)),
        "or.b32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| a | b)),
        "xor.b32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| a ^ b)),
        "not.b32" => of("r=r", |x, i, m| x.one(i, m, |a| !a)),
        "shl.b32" => of("r=rr", |x, i, m| x.two(i, m, left)),
        "shr.u32" | "shr.b32" => of("r=rr", |x, i, m| x.two(i, m, right)),
        "shr.s32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| (signed(a) >> b.min(31)).cast_unsigned())),
        "bfe.u32" => of("r=rrr", |x, i, m| x.three(i, m, extract)),
        "bfi.b32" => of("r=rrrr", |x, i, m| x.four(i, m, insert)),
        "prmt.b32" => of("r=rrr", |x, i, m| x.three(i, m, permute)),
        // The same place in the shared memory of the block with this rank.
        "mapa.shared::cluster.u32" => of("r=rr", |x, i, m| {
            x.two(i, m, |a, rank| a & ((1 << FAR_BITS) - 1) | left(rank.wrapping_add(1), FAR_BITS));
        }),
        _ => None,
    }
}

/// `bfe.u32`: bits of `a` from a position on; bits beyond the end are zero.
fn extract(a: u32, position: u32, length: u32) -> u32 {
    let (position, length) = (position & 0xFF, length & 0xFF);
    right(a, position) & left(1, length).wrapping_sub(1)
}

/// `bfi.b32`: `b`, with the lowest bits of `a` from a position on.
fn insert([a, b, position, length]: [u32; 4]) -> u32 {
    let (position, length) = (position & 0xFF, length & 0xFF);
    let field = left(left(1, length).wrapping_sub(1), position);
    b & !field | left(a, position) & field
}

/// `prmt.b32`: each nibble of the selector chooses one of eight bytes, or, with bit 3, its sign in all bits.
fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = (u64::from(a) | u64::from(b) << 32).to_le_bytes();
    let chosen = [0, 4, 8, 12].map(|shift| {
        let nibble = selector >> shift & 0xF;
        let byte = bytes[(nibble & 7) as usize];
        if nibble & 8 != 0 { (byte.cast_signed() >> 7).cast_unsigned() } else { byte }
    });
    u32::from_le_bytes(chosen)
}

/// 16-bit integers, in the lower half of a row.
fn narrow_words(opcode: &str) -> Option<Form> {
    match opcode {
        "add.s16" | "add.u16" => of("h=hh", |x, i, m| x.two(i, m, |a, b| a.wrapping_add(b) & 0xFFFF)),
        "sub.s16" | "sub.u16" => of("h=hh", |x, i, m| x.two(i, m, |a, b| a.wrapping_sub(b) & 0xFFFF)),
        "mul.lo.s16" | "mul.lo.u16" => of("h=hh", |x, i, m| x.two(i, m, |a, b| a.wrapping_mul(b) & 0xFFFF)),
        "mul.hi.u16" => of("h=hh", |x, i, m| x.two(i, m, |a, b| a.wrapping_mul(b) >> 16)),
        "mul.wide.u16" => of("r=hh", |x, i, m| x.two(i, m, u32::wrapping_mul)),
        "mul.wide.s16" => of("r=hh", |x, i, m| x.two(i, m, |a, b| (signed_half(a) * signed_half(b)).cast_unsigned())),
        "and.b16" => of("h=hh", |x, i, m| x.two(i, m, |a, b| a & b)),
        "or.b16" => of("h=hh", |x, i, m| x.two(i, m, |a, b| a | b)),
        "xor.b16" => of("h=hh", |x, i, m| x.two(i, m, |a, b| a ^ b)),
        "not.b16" => of("h=h", |x, i, m| x.one(i, m, |a| !a & 0xFFFF)),
        "shl.b16" => of("h=hr", |x, i, m| x.two(i, m, |a, b| left(a, b) & 0xFFFF)),
        "shr.u16" | "shr.b16" => of("h=hr", |x, i, m| x.two(i, m, right)),
        "shr.s16" => of("h=hr", |x, i, m| {
            x.two(i, m, |a, b| (signed_half(a) >> b.min(31)).cast_unsigned() & 0xFFFF);
        }),
        _ => None,
    }
}

fn doubles(opcode: &str) -> Option<Form> {
    match opcode {
        "add.s64" | "add.u64" => of("d=dd", |x, i, m| x.wide_two(i, m, u64::wrapping_add)),
        "sub.s64" | "sub.u64" => of("d=dd", |x, i, m| x.wide_two(i, m, u64::wrapping_sub)),
        "mul.lo.s64" | "mul.lo.u64" => of("d=dd", |x, i, m| x.wide_two(i, m, u64::wrapping_mul)),
        "mul.wide.s32" => of("d=rr", |x, i, m| {
            x.widen_two(i, m, |a, b| (i64::from(signed(a)) * i64::from(signed(b))).cast_unsigned());
        }),
        "mul.wide.u32" => of("d=rr", |x, i, m| x.widen_two(i, m, |a, b| u64::from(a) * u64::from(b))),
        "mad.wide.s32" => of("d=rrd", |x, i, m| {
            x.widen_add(i, m, |a, b, c| {
                (i64::from(signed(a)) * i64::from(signed(b))).wrapping_add(signed_wide(c)).cast_unsigned()
            });
        }),
        "mad.lo.s64" | "mad.lo.u64" => {
            of("d=ddd", |x, i, m| x.wide_three(i, m, |a, b, c| a.wrapping_mul(b).wrapping_add(c)))
        }
        "div.s64" => of("d=dd", |x, i, m| {
            x.divide_wide(i, m, |a, b| signed_wide(a).wrapping_div(signed_wide(b)).cast_unsigned());
        }),
        "div.u64" => of("d=dd", |x, i, m| x.divide_wide(i, m, |a, b| a / b)),
        "rem.s64" => of("d=dd", |x, i, m| {
            x.divide_wide(i, m, |a, b| signed_wide(a).wrapping_rem(signed_wide(b)).cast_unsigned());
        }),
        "rem.u64" => of("d=dd", |x, i, m| x.divide_wide(i, m, |a, b| a % b)),
        "neg.s64" => of("d=d", |x, i, m| x.wide_one(i, m, u64::wrapping_neg)),
        "min.s64" => of("d=dd", |x, i, m| x.wide_two(i, m, |a, b| signed_wide(a).min(signed_wide(b)).cast_unsigned())),
        "max.s64" => of("d=dd", |x, i, m| x.wide_two(i, m, |a, b| signed_wide(a).max(signed_wide(b)).cast_unsigned())),
        "and.b64" => of("d=dd", |x, i, m| x.wide_two(i, m, |a, b| a & b)),
        "or.b64" => of("d=dd", |x, i, m| x.wide_two(i, m, |a, b| a | b)),
        "xor.b64" => of("d=dd", |x, i, m| x.wide_two(i, m, |a, b| a ^ b)),
        "not.b64" => of("d=d", |x, i, m| x.wide_one(i, m, |a| !a)),
        "shl.b64" => of("d=dr", |x, i, m| x.wide_shift(i, m, |a, b| a.checked_shl(b).unwrap_or(0))),
        "shr.u64" | "shr.b64" => of("d=dr", |x, i, m| x.wide_shift(i, m, |a, b| a.checked_shr(b).unwrap_or(0))),
        "shr.s64" => of("d=dr", |x, i, m| x.wide_shift(i, m, |a, b| (signed_wide(a) >> b.min(63)).cast_unsigned())),
        _ => None,
    }
}

/// The smallest normal f32.
const NORMAL: f32 = f32::MIN_POSITIVE;

/// Zero with the sign of a subnormal number; other numbers unchanged.
fn flushed(x: f32) -> f32 {
    if x.abs() < NORMAL { 0f32.copysign(x) } else { x }
}

/// `min` and `max`: a NaN loses against a number, and −0 is less than +0.
fn smaller(a: f32, b: f32) -> f32 {
    match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a == b => float(a.to_bits() | b.to_bits()),
        _ => a.min(b),
    }
}

fn larger(a: f32, b: f32) -> f32 {
    -smaller(-a, -b)
}

fn floats(opcode: &str) -> Option<Form> {
    match opcode {
        "add.f32" | "add.rn.f32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| bits(float(a) + float(b)))),
        "sub.f32" | "sub.rn.f32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| bits(float(a) - float(b)))),
        "mul.f32" | "mul.rn.f32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| bits(float(a) * float(b)))),
        "fma.rn.f32" => of("r=rrr", Registers::fused),
        "div.rn.f32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| bits(float(a) / float(b)))),
        "rcp.rn.f32" => of("r=r", |x, i, m| x.one(i, m, |a| bits(1.0 / float(a)))),
        "min.f32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| bits(smaller(float(a), float(b))))),
        "max.f32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| bits(larger(float(a), float(b))))),
        "neg.f32" => of("r=r", |x, i, m| x.one(i, m, |a| a ^ 0x8000_0000)),
        "abs.f32" => of("r=r", |x, i, m| x.one(i, m, |a| a & 0x7FFF_FFFF)),
        // The ISA bounds the errors of these three; the bits are those of the emulator's replacements.
        "ex2.approx.ftz.f32" => of("r=r", |x, i, m| x.one(i, m, |a| bits(flushed(flushed(float(a)).exp2())))),
        "rcp.approx.ftz.f32" => of("r=r", |x, i, m| x.one(i, m, |a| bits(flushed(1.0 / flushed(float(a)))))),
        "rsqrt.approx.f32" => of("r=r", |x, i, m| x.one(i, m, |a| bits(1.0 / float(a).sqrt()))),
        _ => None,
    }
}

/// The bits of an f16 or bf16; every NaN is the canonical one.
fn to_f16(value: u32) -> u32 {
    if float(value).is_nan() { 0x7FFF } else { f16::from_f32(float(value)).to_bits().into() }
}

fn to_bf16(value: u32) -> u32 {
    if float(value).is_nan() { 0x7FFF } else { bf16::from_f32(float(value)).to_bits().into() }
}

fn conversions(opcode: &str) -> Option<Form> {
    match opcode {
        "cvt.s64.s32" => of("d=r", |x, i, m| x.widen(i, m, |a| i64::from(signed(a)).cast_unsigned())),
        "cvt.u64.u32" => of("d=r", |x, i, m| x.widen(i, m, u64::from)),
        "cvt.u64.u16" => of("d=h", |x, i, m| x.widen(i, m, u64::from)),
        "cvt.u32.u64" | "cvt.s32.s64" => of("r=d", |x, i, m| x.narrow(i, m, |a| a as u32)),
        "cvt.u16.u64" => of("h=d", |x, i, m| x.narrow(i, m, |a| a as u32 & 0xFFFF)),
        "cvt.u16.u32" | "cvt.s16.s32" => of("h=r", |x, i, m| x.one(i, m, |a| a & 0xFFFF)),
        "cvt.u32.u16" => of("r=h", |x, i, m| x.one(i, m, |a| a)),
        "cvt.s32.s16" => of("r=h", |x, i, m| x.one(i, m, |a| signed_half(a).cast_unsigned())),
        "cvt.f32.f16" => of("r=h", |x, i, m| x.one(i, m, |a| bits(f16::from_bits(a as u16).to_f32()))),
        "cvt.f32.bf16" => of("r=h", |x, i, m| x.one(i, m, |a| bits(float(a << 16)))),
        "cvt.rn.f16.f32" => of("h=r", |x, i, m| x.one(i, m, to_f16)),
        "cvt.rn.bf16.f32" => of("h=r", |x, i, m| x.one(i, m, to_bf16)),
        // The first source is the upper half.
        "cvt.rn.f16x2.f32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| to_f16(b) | to_f16(a) << 16)),
        "cvt.rn.bf16x2.f32" => of("r=rr", |x, i, m| x.two(i, m, |a, b| to_bf16(b) | to_bf16(a) << 16)),
        "cvt.rn.f32.s32" => of("r=r", |x, i, m| x.one(i, m, |a| (signed(a) as f32).to_bits())),
        "cvt.rn.f32.u32" => of("r=r", |x, i, m| x.one(i, m, |a| (a as f32).to_bits())),
        "cvt.rn.f32.u16" => of("r=h", |x, i, m| x.one(i, m, |a| (a as f32).to_bits())),
        "cvt.rn.f32.s16" => of("r=h", |x, i, m| x.one(i, m, |a| (signed_half(a) as f32).to_bits())),
        // A value out of range becomes the nearest one in range, NaN zero.
        "cvt.rzi.u32.f32" => of("r=r", |x, i, m| x.one(i, m, |a| float(a) as u32)),
        "cvt.rzi.s32.f32" => of("r=r", |x, i, m| x.one(i, m, |a| (float(a) as i32).cast_unsigned())),
        "cvt.sat.f32.f32" => {
            of("r=r", |x, i, m| x.one(i, m, |a| if float(a) > 0.0 { float(a).min(1.0).to_bits() } else { 0 }))
        }
        // Addresses of global memory and of parameters are generic addresses.
        "cvta.to.global.u64" | "cvta.param.u64" => of("d=d", |x, i, m| x.wide_one(i, m, |a| a)),
        _ => None,
    }
}

/// Comparisons of a type: six of integers, and of floats also those that hold for NaN.
macro_rules! compare {
    ($signature:literal, $method:ident, $value:expr, $name:expr) => {
        match $name {
            "eq" => of($signature, |x, i, m| x.$method(i, m, |a, b| $value(a) == $value(b))),
            "ne" => of($signature, |x, i, m| x.$method(i, m, |a, b| $value(a) != $value(b))),
            "lt" | "lo" => of($signature, |x, i, m| x.$method(i, m, |a, b| $value(a) < $value(b))),
            "le" | "ls" => of($signature, |x, i, m| x.$method(i, m, |a, b| $value(a) <= $value(b))),
            "gt" | "hi" => of($signature, |x, i, m| x.$method(i, m, |a, b| $value(a) > $value(b))),
            "ge" | "hs" => of($signature, |x, i, m| x.$method(i, m, |a, b| $value(a) >= $value(b))),
            _ => None,
        }
    };
}

fn comparisons(opcode: &str) -> Option<Form> {
    let (name, kind) = opcode.strip_prefix("setp.")?.split_once('.')?;
    match kind {
        "s32" => compare!("p=rr", compare, signed, name),
        "u32" | "b32" => compare!("p=rr", compare, u32::from, name),
        "s16" => compare!("p=hh", compare, signed_half, name),
        "u16" | "b16" => compare!("p=hh", compare, u32::from, name),
        "s64" => compare!("p=dd", compare_wide, signed_wide, name),
        "u64" | "b64" => compare!("p=dd", compare_wide, u64::from, name),
        "f32" => compare_floats(name),
        _ => None,
    }
}

/// Whether one of two floats is NaN.
fn unordered(a: u32, b: u32) -> bool {
    float(a).is_nan() || float(b).is_nan()
}

fn compare_floats(name: &str) -> Option<Form> {
    match name {
        // Unlike Rust's `!=`, `ne` does not hold for NaN.
        "ne" => of("p=rr", |x, i, m| x.compare(i, m, |a, b| !unordered(a, b) && float(a) != float(b))),
        "equ" => of("p=rr", |x, i, m| x.compare(i, m, |a, b| unordered(a, b) || float(a) == float(b))),
        "neu" => of("p=rr", |x, i, m| x.compare(i, m, |a, b| unordered(a, b) || float(a) != float(b))),
        "ltu" => of("p=rr", |x, i, m| x.compare(i, m, |a, b| unordered(a, b) || float(a) < float(b))),
        "leu" => of("p=rr", |x, i, m| x.compare(i, m, |a, b| unordered(a, b) || float(a) <= float(b))),
        "gtu" => of("p=rr", |x, i, m| x.compare(i, m, |a, b| unordered(a, b) || float(a) > float(b))),
        "geu" => of("p=rr", |x, i, m| x.compare(i, m, |a, b| unordered(a, b) || float(a) >= float(b))),
        "num" => of("p=rr", |x, i, m| x.compare(i, m, |a, b| !unordered(a, b))),
        "nan" => of("p=rr", |x, i, m| x.compare(i, m, unordered)),
        "lo" | "ls" | "hi" | "hs" => None,
        _ => compare!("p=rr", compare, float, name),
    }
}

/// Moves between registers and halves of registers.
fn vectors(opcode: &str, shape: Shape) -> Option<Form> {
    match (opcode, shape) {
        ("mov.b32", Shape::Pack) => of("r=hh", Registers::pack),
        ("mov.b32", Shape::Unpack) => of("hh=r", Registers::unpack),
        ("mov.b64", Shape::Pack) => of("d=rr", Registers::pack_wide),
        ("mov.b64", Shape::Unpack) => of("rr=d", Registers::unpack_wide),
        _ => None,
    }
}

fn moves(opcode: &str) -> Option<Form> {
    match opcode {
        "mov.u16" | "mov.s16" | "mov.b16" => of("h=h", |x, i, m| x.one(i, m, |a| a)),
        "mov.u32" | "mov.s32" | "mov.b32" | "mov.f32" => of("r=r", |x, i, m| x.one(i, m, |a| a)),
        "mov.u64" | "mov.s64" | "mov.b64" => of("d=d", |x, i, m| x.wide_one(i, m, |a| a)),
        "mov.pred" => of("p=p", |x, i, m| x.logic(i, m, |a, _| a)),
        "not.pred" => of("p=p", |x, i, m| x.logic(i, m, |a, _| !a)),
        "and.pred" => of("p=pp", |x, i, m| x.logic(i, m, |a, b| a & b)),
        "or.pred" => of("p=pp", |x, i, m| x.logic(i, m, |a, b| a | b)),
        "xor.pred" => of("p=pp", |x, i, m| x.logic(i, m, |a, b| a ^ b)),
        "selp.b16" | "selp.u16" | "selp.s16" => of("h=hhp", Registers::select),
        "selp.b32" | "selp.u32" | "selp.s32" | "selp.f32" => of("r=rrp", Registers::select),
        "selp.b64" | "selp.u64" | "selp.s64" => of("d=ddp", Registers::select_wide),
        _ => None,
    }
}
