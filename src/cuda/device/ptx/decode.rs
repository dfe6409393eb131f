//! Makes a program of an entry point as written.

mod ampere;
mod hopper;

use super::clocks::Stamp;
use super::forms::{self, Shape};
use super::parse::{self, Class, Operand, Registers, Written, type_bytes};
use super::program::{Access, Action, Fixed, Instruction, PARAMETERS, Program, SHARED, Slot, Space, Special};
use super::text::Text;
use std::collections::HashMap;

/// Reads and decodes the kernel `name`.
///
/// # Errors
/// A message with the place of the first statement that the machine does not know.
pub fn program(text: &Text, name: &str) -> Result<Program, String> {
    let (decoder, mut problems) = decode(text, name)?;
    if problems.is_empty() { Ok(decoder.program) } else { Err(problems.swap_remove(0)) }
}

/// A message for each instruction of the kernel `name` that the machine does not know.
///
/// # Errors
/// A message if the kernel cannot be read at all.
pub fn unknown(text: &Text, name: &str) -> Result<Vec<String>, String> {
    Ok(decode(text, name)?.1)
}

fn decode<'a>(text: &'a Text, name: &str) -> Result<(Decoder<'a>, Vec<String>), String> {
    let entry = parse::entry(text, name)?;
    let mut decoder = Decoder::new(text, &entry)?;
    let mut problems = Vec::new();
    if entry.code.last().is_some_and(|last| last.line >= Stamp::LINES) {
        return Err(format!("{} has more than {} lines", text.name(), Stamp::LINES));
    }
    for written in &entry.code {
        match decoder.instruction(written) {
            Ok(instruction) => decoder.program.code.push(instruction),
            Err(problem) => problems.push(format!("{}: {problem}", text.place(written.line))),
        }
    }
    decoder.finish()?;
    Ok((decoder, problems))
}

type Decoded<T> = Result<T, String>;

/// A register, and how many follow it with the next numbers.
#[derive(Clone, Copy)]
struct Family {
    class: Class,
    first: Slot,
    count: Option<u32>,
}

struct Decoder<'a> {
    program: Program,
    /// Registers by name and by the block in braces that declares them.
    families: HashMap<(&'a str, usize), Family>,
    fixed: HashMap<(Class, Fixed), Slot>,
    /// Addresses of parameters and of variables in shared memory.
    addresses: HashMap<&'a str, u64>,
    labels: HashMap<&'a str, usize>,
}

const UNKNOWN: &str = "the PTX machine does not know this instruction";

fn unknown_form<T>() -> Decoded<T> {
    Err(UNKNOWN.to_owned())
}

impl<'a> Decoder<'a> {
    fn new(text: &'a Text, entry: &parse::Entry<'a>) -> Decoded<Self> {
        let program = Program {
            code: Vec::with_capacity(entry.code.len()),
            threads: entry.threads,
            cluster: entry.cluster.unwrap_or(1) as u32,
            entry_registers: entry_registers(entry),
            parameter_bytes: 0,
            words: 0,
            doubles: 0,
            predicates: 0,
            fixed: Vec::new(),
            names: Vec::new(),
            multiplications: Vec::new(),
        };
        let (families, fixed, addresses) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut decoder = Self { program, families, fixed, addresses, labels: entry.labels.clone() };
        for variable in parse::variables(text) {
            if !variable.dynamic {
                let place = text.place(variable.line);
                return Err(format!("{place}: kernels have only dynamic shared memory"));
            }
            decoder.addresses.insert(variable.name, SHARED.into());
        }
        let [parameter] = &entry.parameters[..] else {
            return Err(format!("a kernel has one parameter, not {}", entry.parameters.len()));
        };
        decoder.addresses.insert(parameter.name, PARAMETERS);
        decoder.program.parameter_bytes = parameter.bytes as usize;
        for registers in &entry.registers {
            decoder.declare(registers)?;
        }
        Ok(decoder)
    }

    fn declare(&mut self, registers: &Registers<'a>) -> Decoded<()> {
        let Registers { name, count, class, scope } = *registers;
        let names = (0..count.unwrap_or(1)).map(|i| count.map_or(name.to_owned(), |_| format!("{name}{i}")));
        let first = self.allocate(class, names.collect())?;
        self.families.insert((name, scope), Family { class, first, count });
        Ok(())
    }

    /// Rows for registers with these names.
    fn allocate(&mut self, class: Class, names: Vec<String>) -> Decoded<Slot> {
        let rows = match class {
            Class::Predicate => &mut self.program.predicates,
            Class::Half | Class::Word => &mut self.program.words,
            Class::Double => &mut self.program.doubles,
        };
        let number = |count: usize| u16::try_from(count).map_err(|_| "the kernel has more than 65,535 registers");
        let slot = Slot { id: number(self.program.names.len())?, row: number(*rows)? };
        number(self.program.names.len() + names.len())?;
        *rows += names.len();
        self.program.names.extend(names);
        Ok(slot)
    }

    fn finish(&mut self) -> Decoded<()> {
        // The program may end without `ret`.
        let end = Instruction {
            action: Action::Return,
            guard: None,
            line: self.program.code.last().map_or(0, |last| last.line),
            results: 0,
            sources: 0,
            d: [Slot::default(); 4],
            s: [Slot::default(); 10],
        };
        self.program.code.push(end);
        Ok(())
    }

    /// The register `name` as seen from the innermost of `scopes`.
    fn register(&self, name: &str, scopes: &[usize]) -> Option<(Class, Slot)> {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (prefix, number) = name.split_at(name.len() - digits);
        scopes.iter().rev().find_map(|&scope| {
            if let Some(one) = self.families.get(&(name, scope)).filter(|family| family.count.is_none()) {
                return Some((one.class, one.first));
            }
            let (family, number) = (self.families.get(&(prefix, scope))?, number.parse::<u16>().ok()?);
            let Slot { id, row } = family.first;
            (u32::from(number) < family.count?).then_some((family.class, Slot { id: id + number, row: row + number }))
        })
    }

    /// The register of a constant.
    fn constant(&mut self, class: Class, value: Fixed) -> Decoded<Slot> {
        let class = if class == Class::Half { Class::Word } else { class };
        if let Some(&slot) = self.fixed.get(&(class, value)) {
            return Ok(slot);
        }
        let slot = self.allocate(class, vec![format!("{value:?}")])?;
        self.fixed.insert((class, value), slot);
        self.program.fixed.push((class, slot, value));
        Ok(slot)
    }

    /// The place of an operand that is used as a register of `class`.
    fn slot(&mut self, operand: &Operand<'a>, class: Class, scopes: &[usize]) -> Decoded<Slot> {
        match *operand {
            Operand::Constant(value) => {
                let value = match class {
                    Class::Predicate => u64::from(value != 0),
                    Class::Half => value & 0xFFFF,
                    Class::Word => value & 0xFFFF_FFFF,
                    Class::Double => value,
                };
                self.constant(class, Fixed::Constant(value))
            }
            Operand::Name(name) => {
                if let Some((found, slot)) = self.register(name, scopes) {
                    let same = found == class;
                    return if same { Ok(slot) } else { Err(format!("{name} has another size than the instruction")) };
                }
                if let Some(&address) = self.addresses.get(name) {
                    return self.constant(class, Fixed::Constant(address));
                }
                match (special(name), class) {
                    (Some(special), Class::Word) => self.constant(class, Fixed::Special(special)),
                    _ => Err(format!("{name} is not declared")),
                }
            }
            _ => unknown_form(),
        }
    }

    fn instruction(&mut self, written: &Written<'a>) -> Decoded<Instruction> {
        let guard = match written.guard {
            None => None,
            Some((name, negated)) => {
                Some((self.slot(&Operand::Name(name), Class::Predicate, &written.scopes)?, negated))
            }
        };
        let mut out = Operands { decoder: self, written, d: Vec::new(), s: Vec::new() };
        let action = out.action()?;
        let (d, s) = (out.d, out.s);
        let (mut results, mut sources) = ([Slot::default(); 4], [Slot::default(); 10]);
        if d.len() > results.len() || s.len() > sources.len() {
            return unknown_form();
        }
        results[..d.len()].copy_from_slice(&d);
        sources[..s.len()].copy_from_slice(&s);
        let (count, line) = ([d.len() as u8, s.len() as u8], written.line);
        Ok(Instruction { action, guard, line, results: count[0], sources: count[1], d: results, s: sources })
    }
}

/// Registers of a thread at the start: those of a multiprocessor, divided among its blocks.
fn entry_registers(entry: &parse::Entry<'_>) -> Option<u32> {
    let threads = entry.threads? * entry.resident?;
    let share = (1 << 16) / threads.max(1) / 8 * 8;
    Some(share.min(256) as u32)
}

fn special(name: &str) -> Option<Special> {
    let axis = |name: &str| ["x", "y", "z"].iter().position(|&axis| axis == name).map(|axis| axis as u8);
    let (register, part) = name.strip_prefix('%')?.split_once('.').unwrap_or((&name[1..], ""));
    Some(match register {
        "tid" => Special::Thread(axis(part)?),
        "ntid" => Special::Threads(axis(part)?),
        "ctaid" => Special::Block(axis(part)?),
        "nctaid" => Special::Blocks(axis(part)?),
        "laneid" if part.is_empty() => Special::Lane,
        "warpid" if part.is_empty() => Special::Warp,
        "cluster_ctarank" if part.is_empty() => Special::Rank,
        "cluster_nctarank" if part.is_empty() => Special::Ranks,
        // Clusters lie along x.
        "cluster_ctaid" if part == "x" => Special::Rank,
        "cluster_nctaid" if part == "x" => Special::Ranks,
        "clusterid" => Special::Cluster(axis(part)?),
        "nclusterid" => Special::Clusters(axis(part)?),
        _ => return None,
    })
}

/// The operands of an instruction, while it is decoded.
struct Operands<'d, 'a> {
    decoder: &'d mut Decoder<'a>,
    written: &'d Written<'a>,
    d: Vec<Slot>,
    s: Vec<Slot>,
}

impl<'a> Operands<'_, 'a> {
    fn result(&mut self, operand: &Operand<'a>, class: Class) -> Decoded<()> {
        let register =
            matches!(operand, Operand::Name(name) if self.decoder.register(name, &self.written.scopes).is_some());
        if !register {
            return Err("the result is not a register".to_owned());
        }
        let slot = self.decoder.slot(operand, class, &self.written.scopes)?;
        self.d.push(slot);
        Ok(())
    }

    fn source(&mut self, operand: &Operand<'a>, class: Class) -> Decoded<()> {
        let slot = self.decoder.slot(operand, class, &self.written.scopes)?;
        self.s.push(slot);
        Ok(())
    }

    fn action(&mut self) -> Decoded<Action> {
        let written = self.written;
        let parts: Vec<&str> = written.opcode.split('.').collect();
        match (&parts[..], &written.operands[..]) {
            (["bra"] | ["bra", "uni"], [Operand::Name(label)]) => match self.decoder.labels.get(label) {
                Some(&target) => Ok(Action::Branch(target as u32)),
                None => Err(format!("there is no label {label}")),
            },
            (["ret"] | ["exit"], []) => Ok(Action::Return),
            (["ld", ..], [values, Operand::Address(base, offset)]) => self.access(&parts[1..], values, base, *offset),
            (["st", ..], [Operand::Address(base, offset), values]) => self.access(&parts[1..], values, base, *offset),
            (["cp", "async", "bulk", rest @ ..], operands) => self.bulk(rest, operands),
            (["fence" | "prefetch", ..], operands) => self.bulk(&parts, operands),
            (["cp", "async", rest @ ..], operands) => self.copies(rest, operands),
            (["mbarrier", rest @ ..], operands) => self.barriers(rest, operands),
            (["barrier" | "elect" | "stmatrix" | "wgmma" | "setmaxnreg", ..], operands) => {
                self.together(&parts, operands)
            }
            (["bar" | "shfl" | "vote" | "ldmatrix" | "mma", ..], operands) => self.gather(&parts, operands),
            (_, operands) => self.compute(written.opcode, operands),
        }
    }

    fn compute(&mut self, opcode: &str, operands: &[Operand<'a>]) -> Decoded<Action> {
        let shape = match operands {
            [Operand::Vector(_), _] => Shape::Unpack,
            [_, Operand::Vector(_)] => Shape::Pack,
            _ => Shape::Plain,
        };
        let Some((signature, compute)) = forms::form(opcode, shape) else { return unknown_form() };
        let (results, sources) = signature.split_once('=').expect("a signature has results and sources");
        let each = |operand: &Operand<'a>| match operand {
            Operand::Vector(elements) => elements.clone(),
            other => vec![other.clone()],
        };
        let flat: Vec<Operand<'a>> = operands.iter().flat_map(each).collect();
        if flat.len() != results.len() + sources.len() {
            return unknown_form();
        }
        let class = |kind: char| match kind {
            'p' => Class::Predicate,
            'h' => Class::Half,
            'r' => Class::Word,
            _ => Class::Double,
        };
        for (operand, kind) in flat.iter().zip(results.chars()) {
            self.result(operand, class(kind))?;
        }
        for (operand, kind) in flat[results.len()..].iter().zip(sources.chars()) {
            self.source(operand, class(kind))?;
        }
        Ok(if opcode.starts_with("selp") { Action::Select(compute) } else { Action::Compute(compute) })
    }

    /// The class of a register of any size.
    fn class(&self, operand: &Operand<'a>) -> Option<Class> {
        let Operand::Name(name) = operand else { return None };
        self.decoder.register(name, &self.written.scopes).map(|(class, _)| class)
    }

    /// `ld.SPACE.[v2|v4].TYPE`, or `st`.
    fn access(&mut self, parts: &[&str], values: &Operand<'a>, base: &Operand<'a>, offset: i64) -> Decoded<Action> {
        let [space, vector @ .., kind] = parts else { return unknown_form() };
        let space = match *space {
            "param" => Space::Parameter,
            "global" => Space::Global,
            "shared" => Space::Shared,
            _ => return unknown_form(),
        };
        let count = match vector {
            [] => 1,
            ["v2"] => 2,
            ["v4"] => 4,
            _ => return unknown_form(),
        };
        let Some(bytes) = type_bytes(kind) else { return unknown_form() };
        let values = match values {
            Operand::Vector(elements) => elements.clone(),
            one => vec![one.clone()],
        };
        if values.len() != count || bytes * count as u64 > 16 {
            return unknown_form();
        }
        let wide_base = space != Space::Shared;
        self.source(base, if wide_base { Class::Double } else { Class::Word })?;
        let load = self.written.opcode.starts_with("ld");
        // The registers may be wider than the type.
        let least = [Class::Half, Class::Word, Class::Double].into_iter().find(|&class| bits(class) >= 8 * bytes);
        let class = values.iter().find_map(|value| self.class(value)).or(least).expect("a class has 64 bits");
        let signed = load && kind.starts_with('s') && bits(class) > 8 * bytes;
        if bits(class) < 8 * bytes || space == Space::Parameter && !load || signed && class == Class::Half {
            return unknown_form();
        }
        for value in &values {
            if load { self.result(value, class)? } else { self.source(value, class)? }
        }
        let access = Access {
            space,
            count: count as u8,
            bytes: bytes as u8,
            signed,
            wide: class == Class::Double,
            wide_base,
            offset: i32::try_from(offset).map_err(|_| "the offset has more than 32 bits")?,
        };
        Ok(if load { Action::Load(access) } else { Action::Store(access) })
    }

    /// A vector of 32-bit registers.
    fn vector(&mut self, operand: &Operand<'a>, count: usize, result: bool) -> Decoded<()> {
        let Operand::Vector(elements) = operand else { return unknown_form() };
        if elements.len() != count {
            return unknown_form();
        }
        elements.iter().try_for_each(|element| match result {
            true => self.result(element, Class::Word),
            false => self.source(element, Class::Word),
        })
    }
}

fn bits(class: Class) -> u64 {
    match class {
        Class::Predicate => 0,
        Class::Half => 16,
        Class::Word => 32,
        Class::Double => 64,
    }
}
