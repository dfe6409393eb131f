//! The statements of an entry point: parameters, registers, labels, and instructions with their operands as written.

use super::text::{Text, Word, Words};
use std::collections::HashMap;
use std::iter::Peekable;

/// The storage of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    Predicate,
    Half,
    Word,
    Double,
}

/// The registers `NAME0` to `NAME(count − 1)`, or, without a count, the register `NAME`.
#[derive(Clone, Debug)]
pub struct Registers<'a> {
    pub name: &'a str,
    pub count: Option<u32>,
    pub class: Class,
    /// The number of the block in braces that declares them.
    pub scope: usize,
}

/// An operand as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand<'a> {
    /// A register, a special register, a label or a variable.
    Name(&'a str),
    /// A constant; a float is its bits.
    Constant(u64),
    /// `[base + offset]`.
    Address(Box<Operand<'a>>, i64),
    /// `[map, {coordinates}]`.
    Place(Box<Operand<'a>>, Vec<Operand<'a>>),
    /// `{a, b}`.
    Vector(Vec<Operand<'a>>),
    /// `a|b`.
    Pair(&'a str, &'a str),
}

/// An instruction as written.
#[derive(Clone, Debug)]
pub struct Written<'a> {
    pub line: u32,
    /// The predicate, and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    pub opcode: &'a str,
    pub operands: Vec<Operand<'a>>,
    /// The blocks in braces around it, the outermost first.
    pub scopes: Vec<usize>,
}

/// A parameter of an entry point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    pub name: &'a str,
    pub bytes: u64,
}

/// An entry point as written.
#[derive(Debug, Default)]
pub struct Entry<'a> {
    pub parameters: Vec<Parameter<'a>>,
    /// Threads of a block, as `.maxntid` or `.reqntid` says.
    pub threads: Option<u64>,
    /// The least blocks of a multiprocessor, as `.minnctapersm` says.
    pub resident: Option<u64>,
    /// Blocks of a cluster along x, as `.reqnctapercluster` says.
    pub cluster: Option<u64>,
    pub registers: Vec<Registers<'a>>,
    /// The instruction behind each label.
    pub labels: HashMap<&'a str, usize>,
    pub code: Vec<Written<'a>>,
}

/// A variable in shared memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    pub name: &'a str,
    pub line: u32,
    /// Whether it is the block's dynamic shared memory, whose size the launch decides.
    pub dynamic: bool,
}

/// The variables in shared memory that are declared before the first entry point.
pub fn variables(text: &Text) -> Vec<Variable<'_>> {
    let words: Vec<Word<'_>> = text.head().collect();
    let statements =
        words.split(|word| word.text == ";").filter(|words| words.iter().any(|word| word.text == ".shared"));
    let variable = |words: &[Word<'_>]| {
        let bracket = words.iter().position(|word| word.text == "[").unwrap_or(words.len());
        let Word { text: name, line } = *words.get(bracket.checked_sub(1)?)?;
        let name = text.head().find(|word| word.text == name && word.line == line)?.text;
        let unsized_array = words.get(bracket + 1).is_some_and(|word| word.text == "]");
        Some(Variable { name, line, dynamic: words.iter().any(|word| word.text == ".extern") && unsized_array })
    };
    statements.filter_map(variable).collect()
}

/// Reads the entry point `name`.
///
/// # Errors
/// A message with the place of the first statement that cannot be read.
pub fn entry<'a>(text: &'a Text, name: &str) -> Result<Entry<'a>, String> {
    let words = text.entry(name).ok_or_else(|| format!("{} has no kernel {name}", text.name()))?;
    let mut parser = Parser { words: words.peekable(), entry: Entry::default(), line: 0 };
    parser.whole().map_err(|problem| format!("{}: {problem}", text.place(parser.line)))?;
    Ok(parser.entry)
}

struct Parser<'a> {
    words: Peekable<Words<'a>>,
    entry: Entry<'a>,
    /// The line of the last word.
    line: u32,
}

type Parsed<T = ()> = Result<T, String>;

/// Bytes of a type such as `.b32`.
pub fn type_bytes(name: &str) -> Option<u64> {
    let bits: u64 = name.trim_start_matches('.').strip_prefix(['b', 'u', 's', 'f'])?.parse().ok()?;
    [8, 16, 32, 64].contains(&bits).then_some(bits / 8)
}

impl<'a> Parser<'a> {
    fn word(&mut self) -> Parsed<&'a str> {
        let word = self.words.next().ok_or("the file ends within a kernel")?;
        self.line = word.line;
        Ok(word.text)
    }

    fn peek(&mut self) -> &'a str {
        self.words.peek().map_or("", |word| word.text)
    }

    fn take(&mut self, expected: &str) -> bool {
        let found = self.peek() == expected;
        if found {
            self.words.next();
        }
        found
    }

    fn expect(&mut self, expected: &str) -> Parsed {
        let found = self.word()?;
        if found == expected { Ok(()) } else { Err(format!("{expected:?} was expected, not {found:?}")) }
    }

    fn number(&mut self) -> Parsed<u64> {
        let word = self.word()?;
        constant(word).ok_or_else(|| format!("a number was expected, not {word:?}"))
    }

    fn whole(&mut self) -> Parsed {
        self.word()?;
        if self.take("(") {
            while !self.take(")") {
                self.parameter()?;
                self.take(",");
            }
        }
        while !self.take("{") {
            match self.word()? {
                ".maxntid" | ".reqntid" => self.entry.threads = Some(self.product()?),
                ".minnctapersm" => self.entry.resident = Some(self.number()?),
                ".maxnreg" => drop(self.number()?),
                // .reqnctapercluster says how many blocks.
                ".explicitcluster" => {}
                ".reqnctapercluster" => self.entry.cluster = Some(self.cluster()?),
                other => return Err(format!("the PTX machine does not know the directive {other}")),
            }
        }
        self.body()
    }

    /// The blocks of a cluster along x: `2, 1, 1`.
    fn cluster(&mut self) -> Parsed<u64> {
        let (along_x, mut others) = (self.number()?, 1);
        while self.take(",") {
            others *= self.number()?;
        }
        match (along_x, others) {
            (1..=16, 1) => Ok(along_x),
            _ => Err("the PTX machine knows only clusters of 1 to 16 blocks along x".to_owned()),
        }
    }

    /// The product of up to three numbers.
    fn product(&mut self) -> Parsed<u64> {
        let mut product = self.number()?;
        while self.take(",") {
            let next = self.number()?;
            product = product.checked_mul(next).ok_or("a product of numbers is too large")?;
        }
        Ok(product)
    }

    /// `.param .align 8 .b8 NAME[32]`, or `.param .u64 NAME`.
    fn parameter(&mut self) -> Parsed {
        self.expect(".param")?;
        if self.take(".align") {
            self.number()?;
        }
        let kind = self.word()?;
        let mut bytes = type_bytes(kind).ok_or_else(|| format!("{kind} is not a type of a parameter"))?;
        let name = self.word()?;
        if self.take("[") {
            let count = self.number()?;
            bytes = bytes.checked_mul(count).ok_or("a parameter is too large")?;
            self.expect("]")?;
        }
        self.entry.parameters.push(Parameter { name, bytes });
        Ok(())
    }

    fn body(&mut self) -> Parsed {
        let (mut scopes, mut opened) = (vec![0], 0);
        while let Some(&scope) = scopes.last() {
            match self.word()? {
                "{" => {
                    opened += 1;
                    scopes.push(opened);
                }
                "}" => drop(scopes.pop()),
                ".reg" => self.registers(scope)?,
                ".pragma" => {
                    self.word()?;
                    self.expect(";")?;
                }
                // For debuggers: numbers until the end of the line.
                ".loc" => {
                    let line = self.line;
                    while self.words.next_if(|word| word.line == line).is_some() {}
                }
                word if word.starts_with('.') => {
                    return Err(format!("the PTX machine does not know the directive {word}"));
                }
                label if self.peek() == ":" => {
                    self.words.next();
                    self.entry.labels.insert(label, self.entry.code.len());
                }
                word => self.instruction(word, &scopes)?,
            }
        }
        Ok(())
    }

    /// `.reg .b32 %r<15>;`, or `.reg .f16 low,high;`.
    fn registers(&mut self, scope: usize) -> Parsed {
        let kind = self.word()?;
        let class = match (kind, type_bytes(kind)) {
            (".pred", _) => Class::Predicate,
            (_, Some(1 | 2)) => Class::Half,
            (_, Some(4)) => Class::Word,
            (_, Some(8)) => Class::Double,
            _ => return Err(format!("the PTX machine does not know registers of the type {kind}")),
        };
        loop {
            let name = self.word()?;
            let count = if self.take("<") {
                let count = u32::try_from(self.number()?).map_err(|_| "expected a number of registers below 2^32")?;
                self.expect(">")?;
                Some(count)
            } else {
                None
            };
            self.entry.registers.push(Registers { name, count, class, scope });
            if self.take(";") {
                return Ok(());
            }
            self.expect(",")?;
        }
    }

    fn instruction(&mut self, first: &'a str, scopes: &[usize]) -> Parsed {
        let (mut guard, mut opcode) = (None, first);
        if first == "@" {
            let negated = self.take("!");
            guard = Some((self.word()?, negated));
            opcode = self.word()?;
        }
        let line = self.line;
        let mut operands = Vec::new();
        while !self.take(";") {
            operands.push(self.operand()?);
            if !self.take(",") {
                self.expect(";")?;
                break;
            }
        }
        self.entry.code.push(Written { line, guard, opcode, operands, scopes: scopes.to_vec() });
        Ok(())
    }

    fn operand(&mut self) -> Parsed<Operand<'a>> {
        self.operand_at(0)
    }

    /// An operand within `depth` brackets and braces.
    fn operand_at(&mut self, depth: usize) -> Parsed<Operand<'a>> {
        /// PTX has a vector within an address.
        const DEEPEST: usize = 2;
        if depth > DEEPEST {
            return Err("operands within operands within operands".to_owned());
        }
        match self.word()? {
            "[" => {
                let base = self.operand_at(depth + 1)?;
                if self.take(",") {
                    let Operand::Vector(at) = self.operand_at(depth + 1)? else {
                        return Err("coordinates in braces were expected".to_owned());
                    };
                    self.expect("]")?;
                    return Ok(Operand::Place(Box::new(base), at));
                }
                let offset = if self.take("+") { self.offset()? } else { 0 };
                self.expect("]")?;
                Ok(Operand::Address(Box::new(base), offset))
            }
            "{" => {
                let mut elements = Vec::new();
                while !self.take("}") {
                    elements.push(self.operand_at(depth + 1)?);
                    self.take(",");
                }
                Ok(Operand::Vector(elements))
            }
            "-" => Ok(Operand::Constant(self.number()?.wrapping_neg())),
            word if word.starts_with(|c: char| c.is_ascii_digit()) => match constant(word) {
                Some(value) => Ok(Operand::Constant(value)),
                None => Err(format!("{word} is not a number")),
            },
            word if self.peek() == "|" => {
                self.words.next();
                Ok(Operand::Pair(word, self.word()?))
            }
            word => Ok(Operand::Name(word)),
        }
    }

    fn offset(&mut self) -> Parsed<i64> {
        let negative = self.take("-");
        let offset = self.number()?.cast_signed();
        Ok(if negative { offset.wrapping_neg() } else { offset })
    }
}

/// A constant: decimal, `0x…`, or the bits of a float, `0f…` or `0d…`.
fn constant(word: &str) -> Option<u64> {
    let word = word.strip_suffix('U').unwrap_or(word);
    match word.get(..2) {
        Some("0x" | "0f" | "0F" | "0d" | "0D") => u64::from_str_radix(&word[2..], 16).ok(),
        _ => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str) -> Text {
        let head = ".extern .shared .align 16 .b8 memory[];\n.shared .b8 fixed[64];\n";
        Text::new(
            "t.ptx",
            format!("{head}.visible .entry k(\n.param .align 8 .b8 k_0[24]\n)\n.maxntid 64, 2, 1\n{{\n{body}\n}}\n"),
        )
    }

    #[test]
    fn statements_are_read() {
        let text = text(
            ".reg .b32 %r<3>;\n{.reg .pred q;\n@!q add.s32 %r1, %r2, -1;}\n$L: ld.shared.v2.u16 {%a, _}, [memory+-8];\n\
             shfl.sync %r1|%p1, 0f3F800000, 0x1F; .pragma \"nounroll\"; copy [%rd1, {%r1, 2}]; ret;",
        );
        let entry = entry(&text, "k").unwrap();
        assert_eq!(entry.parameters, [Parameter { name: "k_0", bytes: 24 }]);
        assert_eq!((entry.threads, entry.labels["$L"], entry.code.len()), (Some(128), 1, 5));
        assert_eq!((entry.registers[0].count, entry.registers[1].name), (Some(3), "q"));
        let [add, load, shuffle, copy, ret] = &entry.code[..] else { panic!("{:?}", entry.code) };
        assert_eq!((add.guard, add.opcode, &add.scopes[..]), (Some(("q", true)), "add.s32", &[0, 1][..]));
        assert_eq!(add.operands[2], Operand::Constant(u64::MAX));
        let vector = Operand::Vector(vec![Operand::Name("%a"), Operand::Name("_")]);
        assert_eq!(load.operands, [vector, Operand::Address(Box::new(Operand::Name("memory")), -8)]);
        let pair = Operand::Pair("%r1", "%p1");
        assert_eq!(shuffle.operands, [pair, Operand::Constant(0x3F80_0000), Operand::Constant(31)]);
        let at = vec![Operand::Name("%r1"), Operand::Constant(2)];
        assert_eq!(copy.operands, [Operand::Place(Box::new(Operand::Name("%rd1")), at)]);
        assert_eq!((ret.line, ret.operands.len()), (12, 0));
    }

    #[test]
    fn what_nests_or_counts_without_end_is_refused() {
        let deep = format!("mov.b32 {}{};", "{".repeat(100_000), "}".repeat(100_000));
        assert!(entry(&text(&deep), "k").unwrap_err().contains("operands within operands"));
        let least = text("ld.shared.b32 %a, [memory+-9223372036854775808];");
        assert_eq!(entry(&least, "k").unwrap().code.len(), 1);
        let head = ".visible .entry k(\n.param .align 8 .b8 k_0[4294967296]\n)\n.maxntid 4294967296, 4294967296, 2\n{\nret;\n}\n";
        let large = Text::new("t.ptx", head);
        assert!(entry(&large, "k").is_err());
    }

    #[test]
    fn variables_in_shared_memory_are_found() {
        let text = text("ret;");
        let names: Vec<_> = variables(&text).into_iter().map(|found| (found.name, found.dynamic)).collect();
        assert_eq!(names, [("memory", true), ("fixed", false)]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (body, words) in [
            (
                ".local .b8 depot[8];",
                "t.ptx:8 `.local .b8 depot[8];`: the PTX machine does not know the directive .local",
            ),
            ("add.s32 %r1 %r2;", "\";\" was expected, not \"%r2\""),
            (".reg .b128 %q<2>;", "registers of the type .b128"),
            ("mov.b32 %r1, 1e5;", "1e5 is not a number"),
            ("{ ret;", "the file ends within a kernel"),
        ] {
            let problem = entry(&text(body), "k").unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
        assert!(entry(&text("ret;"), "other").unwrap_err().contains("t.ptx has no kernel other"));
    }
}
