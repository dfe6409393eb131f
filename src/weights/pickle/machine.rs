//! A stack machine that runs pickles, protocols 0 to 5.
//!
//! Python's machine runs every function that the program names; this one only makes [`Value`]s. They are in one vector
//! and refer to each other by index: as in Python, a value may be used in several places. No program, however nested,
//! makes more values than it has bytes.

use super::value::{self, Id, Made, Storage, Value};
use std::collections::HashMap;

/// The values that a program has made.
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
    /// The offset of the first byte after the program.
    pub end: usize,
}

/// The longest program that is run, in bytes. It names tensors, and does not hold them: in real checkpoints it has less
/// than 2 MiB.
const LONGEST: usize = 8 << 20;

/// Runs the program that starts at `file[start]`.
pub(super) fn run(file: &[u8], start: usize) -> Result<Pickle<'_>, String> {
    let code = &file[..file.len().min(start.saturating_add(LONGEST))];
    let (values, stack, marks, memo) = Default::default();
    let mut machine = Machine { code, at: start, values, stack, marks, memo, copied: 0 };
    while machine.step()? {}
    let root = machine.pop()?;
    Ok(Pickle { values: machine.values, root, end: machine.at })
}

impl<'a> Pickle<'a> {
    /// The pickled value.
    pub fn root(&self) -> &Value<'a> {
        self.value(self.root)
    }

    /// The value `id`.
    pub fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    /// The value of `key` in the root, if the root is a dictionary with that key.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        let Value::Dict(items) = self.root() else { return None };
        // Of equal keys, the last counts.
        let found = items.iter().rev().find(|(name, _)| matches!(self.value(*name), Value::Text(text) if *text == key));
        found.map(|(_, value)| self.value(*value))
    }

    /// Every storage that the program refers to.
    pub fn storages(&self) -> impl Iterator<Item = &Storage<'a>> {
        self.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(storage),
            _ => None,
        })
    }
}

struct Machine<'a> {
    code: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// The number of dictionary entries that were copied from lists.
    copied: usize,
}

impl<'a> Machine<'a> {
    /// Executes an instruction; false if it was the last.
    fn step(&mut self) -> Result<bool, String> {
        let op = self.take(1)?[0];
        match op {
            b'.' => return Ok(false),
            // The protocol version, and lengths of frames.
            0x80 => _ = self.take(1)?,
            0x95 => _ = self.take(8)?,
            b'N' | b'I' | b'L' | b'F' | b'K' | b'M' | b'J' | b'G' | 0x88..=0x8b => self.number(op)?,
            b'S' | b'V' | b'T' | b'U' | b'X' | b'B' | b'C' | 0x8c..=0x8e | 0x96 => self.string(op)?,
            b'(' => self.marks.push(self.stack.len()),
            b')' | b']' | b'}' | b't' | b'l' | b'd' | 0x85..=0x87 | 0x8f | 0x91 => self.container(op)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(op)?,
            b'0' | b'1' | b'2' | b'g' | b'h' | b'j' | b'p' | b'q' | b'r' | 0x94 => self.stack_and_memo(op)?,
            b'c' | b'R' | b'i' | b'o' | b'b' | b'P' | b'Q' | 0x81 | 0x92 | 0x93 => self.object(op)?,
            _ => return Err(format!("holds a pickle with the unknown instruction {op:#04x} at byte {}", self.at - 1)),
        }
        Ok(true)
    }

    fn number(&mut self, op: u8) -> Result<(), String> {
        let value = match op {
            b'N' => Value::Other("None"),
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(self.unsigned(1)? as i64),
            b'M' => Value::Int(self.unsigned(2)? as i64),
            b'J' => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            b'G' => {
                self.take(8)?;
                Value::Other("float")
            }
            0x8a | 0x8b => {
                let length = self.unsigned(if op == 0x8a { 1 } else { 4 })?;
                value::long(self.take(length as usize)?)
            }
            _ => value::number_text(self.line()?, op == b'F'),
        };
        self.push(value)
    }

    fn string(&mut self, op: u8) -> Result<(), String> {
        let width = match op {
            b'U' | b'C' | 0x8c => 1,
            b'T' | b'X' | b'B' => 4,
            0x8d | 0x8e | 0x96 => 8,
            _ => {
                let line = self.line()?;
                let quoted = line.strip_prefix(['\'', '"']).and_then(|rest| rest.strip_suffix(['\'', '"']));
                return self.push(Value::Text(quoted.filter(|_| op == b'S').unwrap_or(line)));
            }
        };
        let length = usize::try_from(self.unsigned(width)?).unwrap_or(usize::MAX);
        let bytes = self.take(length)?;
        // Bytes cannot be names of tensors. Python 2's strings may be text or bytes.
        let text = if matches!(op, b'B' | b'C' | 0x8e | 0x96) { None } else { std::str::from_utf8(bytes).ok() };
        self.push(text.map_or(Value::Other("bytes"), Value::Text))
    }

    fn container(&mut self, op: u8) -> Result<(), String> {
        let value = match op {
            b')' | b']' => Value::Sequence(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            b't' | b'l' => Value::Sequence(self.pop_to_mark()?),
            b'd' => Value::Dict(in_pairs(&self.pop_to_mark()?)?),
            0x8f => Value::Other("set"),
            0x91 => {
                self.pop_to_mark()?;
                Value::Other("set")
            }
            _ => {
                let first = self.stack.len().checked_sub(usize::from(op - 0x84)).ok_or_else(underflow)?;
                self.pop_above(first)?;
                Value::Sequence(self.stack.split_off(first))
            }
        };
        self.push(value)
    }

    /// Adds values to the container below them on the stack.
    fn fill(&mut self, op: u8) -> Result<(), String> {
        let items = match op {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_to_mark()?,
        };
        let target = self.top()?;
        match &mut self.values[target as usize] {
            Value::Sequence(list) => list.extend(items),
            Value::Dict(dict) => dict.extend(in_pairs(&items)?),
            // The contents of sets, and of classes derived from lists or dictionaries, are not needed.
            _ => {}
        }
        Ok(())
    }

    fn stack_and_memo(&mut self, op: u8) -> Result<(), String> {
        match op {
            b'0' if self.marks.last() == Some(&self.stack.len()) => _ = self.marks.pop(),
            b'0' => _ = self.pop()?,
            b'1' => _ = self.pop_to_mark()?,
            b'2' => self.stack.push(self.top()?),
            b'g' | b'h' | b'j' => {
                let key = self.memo_key(op)?;
                let id = *self.memo.get(&key).ok_or_else(|| {
                    format!("holds a damaged pickle, which reads memo entry {key} before it is set; download it again")
                })?;
                self.stack.push(id);
            }
            _ => {
                let key = self.memo_key(op)?;
                self.memo.insert(key, self.top()?);
            }
        }
        Ok(())
    }

    fn memo_key(&mut self, op: u8) -> Result<u64, String> {
        match op {
            b'h' | b'q' => self.unsigned(1),
            b'j' | b'r' => self.unsigned(4),
            0x94 => Ok(self.memo.len() as u64),
            _ => self.line()?.parse().map_err(|_| "holds a damaged pickle; download it again".to_owned()),
        }
    }

    /// Instructions that name classes and functions, or use them.
    fn object(&mut self, op: u8) -> Result<(), String> {
        let value = match op {
            b'c' => Value::Name(self.line()?, self.line()?),
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module as usize], &self.values[name as usize]) {
                    (Value::Text(module), Value::Text(name)) => Value::Name(module, name),
                    _ => return Err("holds a damaged pickle: a name in it is not text; download it again".into()),
                }
            }
            b'P' => {
                return Err("refers to data in a way that PyTorch does not use; save it again with torch.save".into());
            }
            b'Q' => {
                let id = self.pop()?;
                value::persistent(&self.values, id)?
            }
            b'b' => {
                // Attributes are dropped: no attribute is read.
                self.pop()?;
                self.top()?;
                return Ok(());
            }
            _ => return self.call(op),
        };
        self.push(value)
    }

    fn call(&mut self, op: u8) -> Result<(), String> {
        match op {
            b'i' => {
                let name = Value::Name(self.line()?, self.line()?);
                let arguments = self.pop_to_mark()?;
                self.push(name)?;
                self.push(Value::Sequence(arguments))?;
            }
            b'o' => {
                let arguments = self.pop_to_mark()?;
                let (function, arguments) = arguments.split_first().ok_or_else(underflow)?;
                self.stack.push(*function);
                self.push(Value::Sequence(arguments.to_vec()))?;
            }
            // Keyword arguments.
            0x92 => _ = self.pop()?,
            _ => {}
        }
        let (arguments, function) = (self.pop()?, self.pop()?);
        // 0x81 and 0x92 make an object and call nothing but `__new__`.
        match value::call(&self.values, function, arguments, matches!(op, 0x81 | 0x92))? {
            Made::Same(id) => self.stack.push(id),
            Made::New(value) => {
                // Only pairs can be copied many times; all other data is no longer than the program.
                if let Value::Dict(pairs) = &value {
                    self.copied += pairs.len();
                }
                if self.copied > LONGEST {
                    return Err("holds a pickle that copies data without end; it is refused".into());
                }
                self.push(value)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), String> {
        let id = Id::try_from(self.values.len()).map_err(|_| "holds a pickle that is too long".to_owned())?;
        self.values.push(value);
        self.stack.push(id);
        Ok(())
    }

    /// The value on top of the stack. Values below a mark cannot be reached.
    fn top(&self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor.min(self.stack.len())..].last().copied().ok_or_else(underflow)
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Fails if a mark is above `first`.
    fn pop_above(&self, first: usize) -> Result<(), String> {
        if self.marks.last().is_some_and(|mark| *mark > first) { Err(underflow()) } else { Ok(()) }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.code.len());
        let end = end.ok_or_else(|| match self.code.len() < LONGEST {
            true => format!("holds a pickle that is cut off at byte {}; download it again", self.code.len()),
            false => format!("holds a pickle of more than {} MiB, the most that is read", LONGEST >> 20),
        })?;
        let bytes = &self.code[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn unsigned(&mut self, length: usize) -> Result<u64, String> {
        Ok(self.take(length)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.code[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "holds a damaged pickle; download it again".into())
    }
}

fn in_pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() { Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect()) } else { Err(underflow()) }
}

fn underflow() -> String {
    "holds a damaged pickle, which uses more values than it has made; download it again".into()
}
