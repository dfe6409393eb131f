//! PyTorch's `.bin` and `.ckpt`: a pickle with the table of tensors, and the tensors' bytes beside it.
//!
//! A pickle is a program, and Python runs every function that it names. The machine here ([`machine`]) only makes plain
//! values ([`value`]) and calls nothing. If a file asks for more than tensors and plain data, it is refused, and the
//! error names what it asks for. The bytes of tensors are ranges of the mapped file ([`archive`]), which are checked
//! against the claims of the pickle ([`layout`]).

mod archive;
mod layout;
mod machine;
mod value;
mod zip;

use super::mapped::Mapped;
use super::table::{Stored, Table};
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use archive::Archive;
use machine::Pickle;
use std::collections::HashSet;
use value::{Id, Value};

/// Bytes of a tensor's name. Those of the published models have less than 100.
const MOST_NAME: usize = 1000;
/// A pickle repeats a tensor of 64 axes in two bytes, but the table copies them. The published models have some thousand tensors.
const MOST_TENSORS: usize = 100_000;

/// The tensors of a file: those of its `state_dict` if it has one (Lightning's checkpoints do, beside the state of the
/// training), else those of its root dictionary.
pub(super) fn table(file: &Mapped) -> Result<Table> {
    let fault = |problem: String| Error::weight(file.path(), "", problem);
    let Archive { pickle, storages } = archive::open(file.all()).map_err(fault)?;
    let items = weights(&pickle).map_err(fault)?;
    let mut tensors: Vec<Stored> = Vec::new();
    // A pickle repeats a long name in four bytes, but the table copies it for each tensor.
    let mut names = HashSet::new();
    let mut hash = 0;
    for (name, value) in items {
        let Value::Text(name) = *pickle.value(*name) else { continue };
        let fault = |problem: String| Error::weight(file.path(), format!("{name:.80}"), problem);
        match pickle.value(*value) {
            Value::Tensor(_) if name.len() > MOST_NAME => {
                return Err(fault(format!("has a name of {} bytes; expected at most {MOST_NAME}", name.len())));
            }
            Value::Tensor(_) if !names.insert(name) => return Err(fault("is there twice".into())),
            Value::Tensor(_) if tensors.len() == MOST_TENSORS => {
                return Err(fault(format!("is one of more than {MOST_TENSORS} tensors; is it the right file?")));
            }
            Value::Tensor(view) => tensors.push(layout::place(name, view, &pickle, &storages).map_err(fault)?),
            // Numbers and texts among weights are not weights; an object might be a weight.
            other @ Value::Instance(..) => {
                return Err(fault(format!("is {}, not a tensor that can be read", other.kind())));
            }
            _ => {}
        }
    }
    if tensors.is_empty() {
        return Err(fault(no_tensors(&pickle, items)));
    }
    for Stored { name, dtype, shape, strides, .. } in &tensors {
        hash = fnv1a(format!("{hash} {name} {} {shape:?} {strides:?}", dtype.name()).as_bytes());
    }
    tensors.sort_by(|a, b| (a.start, &a.name).cmp(&(b.start, &b.name)));
    Ok(Table { tensors, hash })
}

/// The dictionary that holds the weights.
fn weights<'p>(pickle: &'p Pickle<'_>) -> std::result::Result<&'p [(Id, Id)], String> {
    match (pickle.root(), pickle.get("state_dict")) {
        (_, Some(Value::Dict(items))) | (Value::Dict(items), None) => Ok(items),
        (_, Some(other)) => Err(format!("holds {} as its state_dict, not a dictionary of tensors", other.kind())),
        (Value::Instance(..), None) => Err(format!(
            "holds {}, which cannot be read without its code; save its state_dict() instead",
            pickle.root().kind()
        )),
        (other, None) => Err(format!("holds {}, not a dictionary of tensors", other.kind())),
    }
}

/// The error for a dictionary without tensors, with the kinds of its values.
fn no_tensors(pickle: &Pickle<'_>, items: &[(Id, Id)]) -> String {
    const SHOWN: usize = 8;
    let names = items.iter().filter_map(|(name, _)| match pickle.value(*name) {
        Value::Text(name) => Some(format!("{name:.40}")),
        _ => None,
    });
    let names: Vec<String> = names.take(SHOWN).collect();
    match names.is_empty() {
        true => "holds no tensors: its dictionary is empty".into(),
        false => {
            format!("holds no tensors: its dictionary has neither tensors nor a state_dict, only {}", names.join(", "))
        }
    }
}
