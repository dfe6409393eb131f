//! The values of a pickle: plain data, storages and tensors; of everything else only the name.

use crate::tensor::DType;

/// Index of a value.
pub(super) type Id = u32;

/// A value of a pickle. Texts are borrowed from the file.
pub(super) enum Value<'a> {
    /// Text, of any protocol.
    Text(&'a str),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// A list or a tuple.
    Sequence(Vec<Id>),
    /// A dictionary of any class.
    Dict(Vec<(Id, Id)>),
    /// A class or a function: module and name.
    Name(&'a str, &'a str),
    /// Bytes in the archive.
    Storage(Storage<'a>),
    /// A tensor.
    Tensor(Box<View<'a>>),
    /// An object whose content is ignored, or the result of a harmless function: module and name of the class or
    /// function.
    Instance(&'a str, &'a str),
    /// A value of a kind that holds no tensors.
    Other(&'static str),
}

/// A reference to bytes in the archive.
#[derive(Clone)]
pub(super) struct Storage<'a> {
    /// The type of the elements; `None` for bytes.
    pub dtype: Option<DType>,
    /// Name in the archive.
    pub key: &'a str,
    /// The claimed number of elements.
    pub count: i64,
    /// The element that counts as the first.
    pub first: i64,
}

/// The pickle's claims about a tensor; [`super::layout`] checks them. A pickle can repeat a tensor in five bytes, so what may be long is
/// not copied: shape and strides are sequences.
pub(super) struct View<'a> {
    pub storage: Storage<'a>,
    pub dtype: DType,
    pub first: i64,
    pub shape: Id,
    pub strides: Id,
}

impl Storage<'_> {
    /// Bytes of an element.
    pub fn size(&self) -> usize {
        self.dtype.map_or(1, DType::size)
    }
}

impl Value<'_> {
    /// The kind of the value, for messages.
    pub fn kind(&self) -> String {
        match self {
            Self::Text(_) => "a text".into(),
            Self::Int(_) => "an integer".into(),
            Self::Bool(_) => "a truth value".into(),
            Self::Sequence(_) => "a list".into(),
            Self::Dict(_) => "a dictionary".into(),
            Self::Name(module, name) => format!("the name {module:.80}.{name:.80}"),
            Self::Storage(_) => "a storage without a tensor".into(),
            Self::Tensor(_) => "a tensor".into(),
            Self::Instance(module, name) => format!("an instance of {module:.80}.{name:.80}"),
            Self::Other(kind) => format!("a value of kind {kind}"),
        }
    }
}

/// An integer of Python, in little-endian two's complement of any length.
pub(super) fn long(bytes: &[u8]) -> Value<'static> {
    if bytes.len() > 8 {
        return Value::Other("large int");
    }
    let fill = if bytes.last().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
    let mut whole = [fill; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(whole))
}

/// A number of protocol 0, in which truth values are written `00` and `01`.
pub(super) fn number_text(text: &str, float: bool) -> Value<'static> {
    match (text, text.strip_suffix('L').unwrap_or(text).parse()) {
        ("00", _) => Value::Bool(false),
        ("01", _) => Value::Bool(true),
        (_, Ok(number)) if !float => Value::Int(number),
        _ => Value::Other("number"),
    }
}

/// The target of the persistent id `id`, a tuple: `("storage", type, key, device, elements[, view])`, or in an old file
/// `("module", class, …)`.
pub(super) fn persistent<'a>(values: &[Value<'a>], id: Id) -> Result<Value<'a>, String> {
    let value = |id: &Id| &values[*id as usize];
    let unknown = || "refers to data in a way that PyTorch does not use; save it again with torch.save".to_owned();
    let Value::Sequence(items) = value(&id) else { return Err(unknown()) };
    // The first ones decide. A pickle can repeat a long tuple in three bytes.
    match (items.iter().take(6).map(value).collect::<Vec<_>>()).as_slice() {
        [Value::Text("module"), Value::Name(module, name), ..] => Ok(Value::Name(module, name)),
        [Value::Text("storage"), Value::Name(_, class), Value::Text(key), _, Value::Int(count), rest @ ..] => {
            let first = match rest {
                [Value::Sequence(view), ..] => match view.get(1).map(value) {
                    Some(Value::Int(first)) => *first,
                    _ => return Err(unknown()),
                },
                _ => 0,
            };
            match storage_type(class) {
                Some(dtype) => Ok(Value::Storage(Storage { dtype, key, count: *count, first })),
                None => Ok(Value::Instance("torch", class)),
            }
        }
        _ => Err(unknown()),
    }
}

/// The type of the elements of a storage class; the inner `None` means bytes.
fn storage_type(class: &str) -> Option<Option<DType>> {
    Some(match class {
        "UntypedStorage" => None,
        "FloatStorage" => Some(DType::F32),
        "HalfStorage" => Some(DType::F16),
        "BFloat16Storage" => Some(DType::Bf16),
        "DoubleStorage" => Some(DType::F64),
        "LongStorage" => Some(DType::I64),
        "IntStorage" => Some(DType::I32),
        "ShortStorage" => Some(DType::I16),
        "CharStorage" => Some(DType::I8),
        "ByteStorage" => Some(DType::U8),
        "BoolStorage" => Some(DType::Bool),
        _ => return None,
    })
}

/// The result of a call.
pub(super) enum Made<'a> {
    /// A new value.
    New(Value<'a>),
    /// A value that already exists.
    Same(Id),
}

/// The result of `function(*arguments)`. Nothing is called: tensors and containers are recognised by name. The results
/// of some harmless functions are ignored. A file that calls any other function is refused. `makes_instance`: the
/// program only makes an object of a class, and calls nothing.
pub(super) fn call<'a>(
    values: &[Value<'a>],
    function: Id,
    arguments: Id,
    makes_instance: bool,
) -> Result<Made<'a>, String> {
    let refused = |what: String| {
        Err(format!("calls {what}, which weights do not need; it was refused, and nothing was executed"))
    };
    let Value::Name(module, name) = values[function as usize] else {
        return refused(values[function as usize].kind());
    };
    let Value::Sequence(arguments) = &values[arguments as usize] else {
        return Err(format!("calls {module:.80}.{name:.80} without a list of arguments; download it again"));
    };
    match (module, name, arguments.as_slice()) {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3", _) => {
            tensor(values, name, arguments).map(Made::New)
        }
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state", [tensor, ..]) => {
            Ok(Made::Same(*tensor))
        }
        ("torch", "Size", [sizes]) => Ok(Made::Same(*sizes)),
        ("torch._tensor", "_rebuild_from_type_v2", [function, _, arguments, ..]) => match values[*function as usize] {
            // A tensor of a subclass. This function must not be allowed here: arguments may contain themselves.
            Value::Name("torch._utils", name) if name.starts_with("_rebuild_") => {
                call(values, *function, *arguments, false)
            }
            _ => refused(values[*function as usize].kind()),
        },
        ("collections", "OrderedDict" | "defaultdict" | "Counter", _) => dictionary(values, name, arguments),
        _ if makes_instance || is_harmless(module, name) => Ok(Made::New(Value::Instance(module, name))),
        _ => refused(format!("{module:.80}.{name:.80}")),
    }
}

/// Functions and classes that training code pickles beside weights. None of them touches anything but its arguments.
fn is_harmless(module: &str, name: &str) -> bool {
    const BUILT_IN: [&str; 14] = [
        "set",
        "frozenset",
        "list",
        "tuple",
        "dict",
        "bytearray",
        "bytes",
        "complex",
        "slice",
        "range",
        "object",
        "int",
        "float",
        "bool",
    ];
    match module {
        "builtins" | "__builtin__" => BUILT_IN.contains(&name),
        "_codecs" => name == "encode",
        "copyreg" | "copy_reg" => name == "_reconstructor",
        "collections" => name == "deque",
        "argparse" => name == "Namespace",
        "datetime" => matches!(name, "date" | "datetime" | "time" | "timedelta" | "timezone"),
        "pathlib" | "pathlib._local" => name.ends_with("Path"),
        "numpy" => matches!(name, "dtype" | "ndarray"),
        "numpy.core.multiarray" | "numpy._core.multiarray" => matches!(name, "_reconstruct" | "scalar"),
        "torch" => name == "device",
        "torch._utils" => name.starts_with("_rebuild_"),
        "torch.nn.parameter" => matches!(name, "Parameter" | "Buffer"),
        _ => false,
    }
}

/// `_rebuild_tensor…(storage, first element, shape, strides, …)`; the third version has the type as argument 6.
fn tensor<'a>(values: &[Value<'a>], version: &str, arguments: &[Id]) -> Result<Value<'a>, String> {
    let value = |at: usize| arguments.get(at).map(|id| &values[*id as usize]);
    let strange = || format!("holds a tensor in a form that PyTorch does not use (torch._utils.{version})");
    let sizes = |at: usize| arguments.get(at).copied().filter(|id| matches!(values[*id as usize], Value::Sequence(_)));
    let storage = match value(0) {
        Some(Value::Storage(storage)) => storage.clone(),
        // A storage of an unknown type: an error only if a weight uses it.
        Some(Value::Instance(module, class)) => return Ok(Value::Instance(module, class)),
        _ => return Err(strange()),
    };
    let dtype = match value(6) {
        Some(Value::Name("torch", name)) if version == "_rebuild_tensor_v3" => match torch_type(name) {
            Some(dtype) => dtype,
            None => return Ok(Value::Instance("torch", name)),
        },
        _ => storage.dtype.ok_or_else(strange)?,
    };
    let (Some(Value::Int(first)), Some(shape), Some(strides)) = (value(1), sizes(2), sizes(3)) else {
        return Err(strange());
    };
    Ok(Value::Tensor(Box::new(View { storage, dtype, first: *first, shape, strides })))
}

fn torch_type(name: &str) -> Option<DType> {
    Some(match name {
        "float32" => DType::F32,
        "float16" => DType::F16,
        "bfloat16" => DType::Bf16,
        "float64" => DType::F64,
        "int64" => DType::I64,
        "int32" => DType::I32,
        "int16" => DType::I16,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "bool" => DType::Bool,
        _ => return None,
    })
}

/// A dictionary: empty, or with the pairs of its only argument.
fn dictionary<'a>(values: &[Value<'a>], class: &str, arguments: &[Id]) -> Result<Made<'a>, String> {
    let pair = |id: &Id| match &values[*id as usize] {
        Value::Sequence(pair) if pair.len() == 2 => Some((pair[0], pair[1])),
        _ => None,
    };
    let items = match arguments.first().map(|id| (*id, &values[*id as usize])) {
        Some((id, Value::Dict(_))) => return Ok(Made::Same(id)),
        Some((_, Value::Sequence(pairs))) => pairs.iter().map(pair).collect(),
        // The argument is the class of the default values.
        _ => Some(Vec::new()),
    };
    let problem = || format!("holds a collections.{class} whose items are not pairs; download it again");
    items.map(|items| Made::New(Value::Dict(items))).ok_or_else(problem)
}
