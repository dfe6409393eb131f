//! Instructions of several lanes, and asynchronous copies by threads. PTX ISA 9.0, sections 9.7.9.25.3, 9.7.13 and 9.7.14.

use super::{Decoded, Operands, unknown_form};
use crate::cuda::device::ptx::parse::{Class, Operand};
use crate::cuda::device::ptx::program::{Action, Gather, Shuffle, Vote};

impl<'a> Operands<'_, 'a> {
    pub(super) fn copies(&mut self, parts: &[&str], operands: &[Operand<'a>]) -> Decoded<Action> {
        match (parts, operands) {
            (["commit_group"], []) => Ok(Action::Commit),
            (["wait_group"], [Operand::Constant(pending)]) => Ok(Action::Wait(*pending as u32)),
            (
                ["ca" | "cg", "shared" | "shared::cta", "global", hints @ ..],
                [to, from, Operand::Constant(bytes), rest @ ..],
            ) if hints.iter().all(|hint| hint.starts_with("L2::") && hint.ends_with('B')) => {
                let (Operand::Address(to, 0), Operand::Address(from, 0)) = (to, from) else { return unknown_form() };
                let sizes: &[u64] = if parts[0] == "cg" { &[16] } else { &[4, 8, 16] };
                if !sizes.contains(bytes) || rest.len() > 1 {
                    return unknown_form();
                }
                self.source(to, Class::Word)?;
                self.source(from, Class::Double)?;
                rest.iter().try_for_each(|size| self.source(size, Class::Word))?;
                Ok(Action::Copy { bytes: *bytes as u8, partial: !rest.is_empty() })
            }
            _ => unknown_form(),
        }
    }

    pub(super) fn gather(&mut self, parts: &[&str], operands: &[Operand<'a>]) -> Decoded<Action> {
        let gather = match (parts, operands) {
            (["bar", "sync"], [id, count @ ..]) if count.len() <= 1 => {
                self.source(id, Class::Word)?;
                count.iter().try_for_each(|count| self.source(count, Class::Word))?;
                Gather::Barrier { counted: !count.is_empty(), waits: true }
            }
            (["bar", "arrive"], [id, count]) => {
                self.source(id, Class::Word)?;
                self.source(count, Class::Word)?;
                Gather::Barrier { counted: true, waits: false }
            }
            (["bar", "warp", "sync"], [mask]) => {
                self.source(mask, Class::Word)?;
                Gather::SyncWarp
            }
            (["shfl", "sync", mode, "b32"], [result, value, from, clamp, mask]) => {
                let shuffle = match *mode {
                    "up" => Shuffle::Up,
                    "down" => Shuffle::Down,
                    "bfly" => Shuffle::Butterfly,
                    "idx" => Shuffle::Index,
                    _ => return unknown_form(),
                };
                match result {
                    Operand::Pair(result, found) => {
                        self.result(&Operand::Name(result), Class::Word)?;
                        self.result(&Operand::Name(found), Class::Predicate)?;
                    }
                    one => self.result(one, Class::Word)?,
                }
                [value, from, clamp, mask].into_iter().try_for_each(|source| self.source(source, Class::Word))?;
                Gather::Shuffle(shuffle)
            }
            (["vote", "sync", mode, kind], [result, vote, mask]) => {
                let (mode, class) = match (*mode, *kind) {
                    ("all", "pred") => (Vote::All, Class::Predicate),
                    ("any", "pred") => (Vote::Any, Class::Predicate),
                    ("ballot", "b32") => (Vote::Ballot, Class::Word),
                    _ => return unknown_form(),
                };
                self.result(result, class)?;
                self.source(vote, Class::Predicate)?;
                self.source(mask, Class::Word)?;
                Gather::Vote(mode)
            }
            (
                ["ldmatrix", "sync", "aligned", "m8n8", number, layout @ .., "b16"],
                [result, Operand::Address(row, 0)],
            ) => {
                let count = match *number {
                    "x1" => 1,
                    "x2" => 2,
                    "x4" => 4,
                    _ => return unknown_form(),
                };
                let transposed = match layout {
                    ["shared"] => false,
                    ["trans", "shared"] => true,
                    _ => return unknown_form(),
                };
                self.vector(result, count, true)?;
                self.source(row, Class::Word)?;
                Gather::Matrices { count: count as u8, transposed }
            }
            (["mma", "sync", "aligned", size, "row", "col", "f32", a, b, "f32"], [d, of_a, of_b, c]) if a == b => {
                let (variant, deep) = match (*size, *a) {
                    ("m16n8k16", "f16") => (0, true),
                    ("m16n8k16", "bf16") => (1, true),
                    ("m16n8k8", "f16") => (2, false),
                    ("m16n8k8", "bf16") => (3, false),
                    _ => return unknown_form(),
                };
                let depth = if deep { 2 } else { 1 };
                self.vector(d, 4, true)?;
                self.vector(of_a, 2 * depth, false)?;
                self.vector(of_b, depth, false)?;
                self.vector(c, 4, false)?;
                Gather::Product { variant, deep }
            }
            _ => return unknown_form(),
        };
        Ok(Action::Gather(gather))
    }
}
