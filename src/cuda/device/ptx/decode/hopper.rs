//! Instructions of Hopper: barriers in shared memory, bulk copies, clusters, and products of warpgroups. PTX ISA 9.0,
//! sections 9.7.9.25, 9.7.13.4, 9.7.13.15, 9.7.15 and 9.7.19.

use super::{Decoded, Operands, unknown_form};
use crate::cuda::device::ptx::parse::{Class, Operand};
use crate::cuda::device::ptx::program::{Action, Bulk, Gather, Multiplication, Warpgroup};

/// How copies of loads complete.
const COUNTED: &str = "mbarrier::complete_tx::bytes";

/// Whether an address is in the cluster's shared memory (or in the block's own).
fn is_far(space: &str) -> Option<bool> {
    match space {
        "shared" | "shared::cta" => Some(false),
        "shared::cluster" => Some(true),
        _ => None,
    }
}

fn among(parts: &[&str], known: &[&str]) -> bool {
    parts.iter().all(|part| known.contains(part))
}

impl<'a> Operands<'_, 'a> {
    /// The register of an address in brackets.
    fn address(&mut self, operand: &Operand<'a>, class: Class) -> Decoded<()> {
        match operand {
            Operand::Address(base, 0) => self.source(base, class),
            _ => unknown_form(),
        }
    }

    /// `mbarrier`.
    pub(super) fn barriers(&mut self, parts: &[&str], operands: &[Operand<'a>]) -> Decoded<Action> {
        let [parts @ .., space, "b64"] = parts else { return unknown_form() };
        let Some(far) = is_far(space) else { return unknown_form() };
        let near = if far { None } else { Some(()) };
        let bulk = match (parts, operands, near) {
            (["init"], [_, _], Some(())) => Bulk::Begin,
            (["inval"], [_], Some(())) => Bulk::End,
            (["arrive", "expect_tx", how @ ..], [Operand::Name("_"), _, _], _)
                if among(how, &["release", "cta", "cluster"]) =>
            {
                Bulk::Arrive { far, counted: false, expects: true }
            }
            (["arrive", how @ ..], [Operand::Name("_"), _, count @ ..], _)
                if among(how, &["release", "cta", "cluster"]) && count.len() <= 1 =>
            {
                Bulk::Arrive { far, counted: !count.is_empty(), expects: false }
            }
            (["expect_tx", "relaxed", "cta" | "cluster"], [_, _], Some(())) => Bulk::Expect,
            ([wait @ ("try_wait" | "test_wait"), "parity", how @ ..], [result, _, _, hint @ ..], Some(()))
                if among(how, &["acquire", "cta", "cluster"]) && hint.len() <= 1 =>
            {
                self.result(result, Class::Predicate)?;
                Bulk::Wait { suspends: *wait == "try_wait" }
            }
            _ => return unknown_form(),
        };
        let skipped = operands.iter().take_while(|operand| !matches!(operand, Operand::Address(..))).count();
        let [address, values @ ..] = &operands[skipped..] else { return unknown_form() };
        self.address(address, Class::Word)?;
        values.iter().try_for_each(|value| self.source(value, Class::Word))?;
        Ok(Action::Bulk(bulk))
    }

    /// `cp.async.bulk`, and the fences of Hopper.
    pub(super) fn bulk(&mut self, parts: &[&str], operands: &[Operand<'a>]) -> Decoded<Action> {
        let bulk = match (parts, operands) {
            (["fence", "mbarrier_init", "release", "cluster"], []) => Bulk::Publish,
            (["fence", "proxy", "async"] | ["fence", "proxy", "async", "shared::cta"], []) => Bulk::Show,
            (["prefetch", "tensormap"], [map]) => {
                self.address(map, Class::Double)?;
                Bulk::CheckMap
            }
            (["commit_group"], []) => Bulk::Commit,
            (["wait_group", read @ ..], [Operand::Constant(pending)]) if matches!(read, [] | ["read"]) => {
                Bulk::WaitStores { pending: *pending as u32, only_reads: !read.is_empty() }
            }
            (["shared::cluster", "global", COUNTED], [to, from, bytes, barrier]) => {
                self.address(to, Class::Word)?;
                self.address(from, Class::Double)?;
                self.source(bytes, Class::Word)?;
                self.address(barrier, Class::Word)?;
                Bulk::LoadBytes
            }
            (["tensor", rank, rest @ ..], operands) => return self.boxes(rank, rest, operands),
            _ => return unknown_form(),
        };
        Ok(Action::Bulk(bulk))
    }

    fn boxes(&mut self, rank: &str, parts: &[&str], operands: &[Operand<'a>]) -> Decoded<Action> {
        let number = rank.strip_suffix('d').and_then(|rank| rank.parse().ok()).filter(|rank| (1..=5).contains(rank));
        let Some(rank) = number else { return unknown_form() };
        match (parts, operands) {
            (["shared::cluster", "global", "tile", COUNTED, options @ ..], [to, place, barrier, more @ ..]) => {
                let multicast = options.first() == Some(&"multicast::cluster");
                let hints = &options[usize::from(multicast)..];
                if !matches!(hints, [] | ["L2::cache_hint"]) || more.len() != options.len() {
                    return unknown_form();
                }
                self.address(to, Class::Word)?;
                self.place(place, rank)?;
                self.address(barrier, Class::Word)?;
                let classes = [Class::Half, Class::Double].into_iter().skip(usize::from(!multicast));
                more.iter().zip(classes).try_for_each(|(value, class)| self.source(value, class))?;
                Ok(Action::Bulk(Bulk::LoadBox { rank, multicast }))
            }
            (["global", "shared::cta", "tile", "bulk_group"], [place, from]) => {
                self.place(place, rank)?;
                self.address(from, Class::Word)?;
                Ok(Action::Bulk(Bulk::StoreBox { rank }))
            }
            _ => unknown_form(),
        }
    }

    /// A map, and coordinates.
    fn place(&mut self, operand: &Operand<'a>, rank: u8) -> Decoded<()> {
        let Operand::Place(map, at) = operand else { return unknown_form() };
        if at.len() != usize::from(rank) {
            return Err(format!("{} coordinates, expected {rank}", at.len()));
        }
        self.source(map, Class::Double)?;
        at.iter().try_for_each(|at| self.source(at, Class::Word))
    }

    /// `barrier.cluster`, `elect`, `stmatrix`, `wgmma` and `setmaxnreg`.
    pub(super) fn together(&mut self, parts: &[&str], operands: &[Operand<'a>]) -> Decoded<Action> {
        let gather = match (parts, operands) {
            (
                ["barrier", "cluster", "arrive", "aligned"] | ["barrier", "cluster", "arrive", "release", "aligned"],
                [],
            ) => Gather::ClusterArrive { releases: true },
            (["barrier", "cluster", "arrive", "relaxed", "aligned"], []) => Gather::ClusterArrive { releases: false },
            (["barrier", "cluster", "wait", "aligned"] | ["barrier", "cluster", "wait", "acquire", "aligned"], []) => {
                Gather::ClusterWait { acquires: true }
            }
            (["elect", "sync"], [Operand::Pair(lane, elected), mask]) => {
                self.result(&Operand::Name(elected), Class::Predicate)?;
                let named = *lane != "_";
                if named {
                    self.result(&Operand::Name(lane), Class::Word)?;
                }
                self.source(mask, Class::Word)?;
                Gather::Elect { named }
            }
            (["stmatrix", "sync", "aligned", "m8n8", number, layout @ .., "b16"], [row, values]) => {
                let Some(count) = ["x1", "x2", "x4"].iter().position(|name| name == number) else {
                    return unknown_form();
                };
                let transposed = match layout {
                    ["shared"] | ["shared::cta"] => false,
                    ["trans", "shared" | "shared::cta"] => true,
                    _ => return unknown_form(),
                };
                self.address(row, Class::Word)?;
                self.vector(values, 1 << count, false)?;
                Gather::StoreMatrices { count: 1 << count, transposed }
            }
            _ => Gather::Warpgroup(self.warpgroup(parts, operands)?),
        };
        Ok(Action::Gather(gather))
    }

    fn warpgroup(&mut self, parts: &[&str], operands: &[Operand<'a>]) -> Decoded<Warpgroup> {
        Ok(match (parts, operands) {
            (["wgmma", "fence", "sync", "aligned"], []) => Warpgroup::Fence,
            (["wgmma", "commit_group", "sync", "aligned"], []) => Warpgroup::Commit,
            (["wgmma", "wait_group", "sync", "aligned"], [Operand::Constant(pending)]) => {
                Warpgroup::Wait(*pending as u32)
            }
            (["wgmma", "mma_async", "sync", "aligned", shape, "f32", a, b], operands) if a == b => {
                self.multiplication(shape, a, operands)?
            }
            (["setmaxnreg", way @ ("inc" | "dec"), "sync", "aligned", "u32"], [Operand::Constant(count)]) => {
                if !(24..=256).contains(count) || count % 8 != 0 {
                    return Err(format!("{count} registers, expected a multiple of 8 from 24 to 256"));
                }
                if self.decoder.program.entry_registers.is_none() {
                    return Err("setmaxnreg in a kernel without .maxntid and .minnctapersm, where it is ignored".into());
                }
                Warpgroup::Registers { count: *count as u16, takes: *way == "inc" }
            }
            _ => return unknown_form(),
        })
    }

    fn multiplication(&mut self, shape: &str, kind: &str, operands: &[Operand<'a>]) -> Decoded<Warpgroup> {
        let columns = shape.strip_prefix("m64n").and_then(|shape| shape.strip_suffix("k16")?.parse().ok());
        let columns: usize = columns.filter(|n| (8..=256).contains(n) && n % 8 == 0).ok_or(super::UNKNOWN)?;
        let f16 = match kind {
            "f16" => true,
            "bf16" => false,
            _ => return unknown_form(),
        };
        let [Operand::Vector(sums), a, b, add, negate_a, negate_b, orders @ ..] = operands else {
            return unknown_form();
        };
        let from_registers = matches!(a, Operand::Vector(_));
        let [negate_a, negate_b] = [negate_a, negate_b].map(|scale| sign(scale));
        let by_rows = match (orders, from_registers) {
            ([b], true) => [Some(false), flag(b)],
            ([a, b], false) => [flag(a), flag(b)],
            _ => return unknown_form(),
        };
        let (Some(negate_a), Some(negate_b), [Some(a_by_rows), Some(b_by_rows)]) = (negate_a, negate_b, by_rows) else {
            return unknown_form();
        };
        if sums.len() != columns / 2 {
            return Err(format!("{} sums, expected {}", sums.len(), columns / 2));
        }
        if from_registers {
            self.vector(a, 4, false)?
        } else {
            self.source(a, Class::Double)?
        }
        self.source(b, Class::Double)?;
        self.source(add, Class::Predicate)?;
        let slot = |sum| self.decoder.slot(sum, Class::Word, &self.written.scopes);
        let sums = sums.iter().map(slot).collect::<Decoded<Vec<_>>>()?;
        let (negated, by_rows) = ([negate_a, negate_b], [a_by_rows, b_by_rows]);
        let all = &mut self.decoder.program.multiplications;
        all.push(Multiplication { f16, columns, from_registers, negated, by_rows, sums });
        Ok(Warpgroup::Multiply(all.len() as u32 - 1))
    }
}

/// Whether a factor of 1 or −1 is negative.
fn sign(operand: &Operand<'_>) -> Option<bool> {
    match operand {
        Operand::Constant(1) => Some(false),
        Operand::Constant(u64::MAX) => Some(true),
        _ => None,
    }
}

fn flag(operand: &Operand<'_>) -> Option<bool> {
    match operand {
        Operand::Constant(value @ 0..=1) => Some(*value == 1),
        _ => None,
    }
}
