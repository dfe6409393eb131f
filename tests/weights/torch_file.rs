//! Makes files in the format of `torch.save`, including files that it would never write.

/// A value to pickle.
#[derive(Clone, Debug)]
pub enum Py {
    None,
    Int(i64),
    Text(&'static str),
    List(Vec<Py>),
    Tuple(Vec<Py>),
    Dict(Vec<(Py, Py)>),
    /// A class or function: module and name.
    Name(&'static str, &'static str),
    /// The result of a call.
    Call(&'static str, &'static str, Vec<Py>),
    /// An instance of a class with attributes.
    Instance(&'static str, &'static str, Box<Py>),
    Tensor(Tensor),
    /// Raw instructions of the pickle machine.
    Raw(Vec<u8>),
}

/// A tensor and the whole storage under it. Tensors that share a storage repeat its bytes.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Class of the storage, `FloatStorage`.
    pub class: &'static str,
    pub key: &'static str,
    pub first: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
    /// The claimed number of elements of the storage.
    pub count: i64,
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// f32 values in row-major order.
    pub fn f32(key: &'static str, shape: &[i64], values: &[f32]) -> Self {
        Self::new("FloatStorage", key, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect(), 4)
    }

    /// Elements of `size` bytes in row-major order.
    pub fn new(class: &'static str, key: &'static str, shape: &[i64], bytes: Vec<u8>, size: usize) -> Self {
        let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        let count = (bytes.len() / size) as i64;
        Self { class, key, first: 0, shape: shape.to_vec(), strides, count, bytes }
    }
}

/// A dictionary with keys that are text.
pub fn dict(items: impl IntoIterator<Item = (&'static str, Py)>) -> Py {
    Py::Dict(items.into_iter().map(|(key, value)| (Py::Text(key), value)).collect())
}

/// A state dict of tensors.
pub fn state<const N: usize>(tensors: [(&'static str, Tensor); N]) -> Py {
    dict(tensors.map(|(name, tensor)| (name, Py::Tensor(tensor))))
}

/// The file that `torch.save` makes of `value`.
pub fn zipped(value: &Py) -> Vec<u8> {
    zip(&entries(value), false)
}

/// As [`zipped`], with the 64-bit lengths and offsets of a large file.
pub fn zipped_wide(value: &Py) -> Vec<u8> {
    zip(&entries(value), true)
}

/// The file that `torch.save` made before PyTorch 1.6: pickles, then storages.
pub fn row_of_pickles(value: &Py) -> Vec<u8> {
    let (mut file, storages) = (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(), storages(value));
    let keys = storages.iter().map(|tensor| Py::Text(tensor.key)).collect();
    let little_endian = dict([("little_endian", Py::Raw(vec![0x88])), ("protocol_version", Py::Int(1001))]);
    for part in [&Py::Int(1001), &little_endian, value, &Py::List(keys)] {
        file.extend(program(part, true));
    }
    for storage in storages {
        file.extend(storage.count.to_le_bytes());
        file.extend(&storage.bytes);
    }
    file
}

/// The pickle alone, protocol 2.
pub fn pickle(value: &Py) -> Vec<u8> {
    program(value, false)
}

/// `old`: references to storages have a sixth field, the view.
fn program(value: &Py, old: bool) -> Vec<u8> {
    let mut out = vec![0x80, 2];
    emit(value, old, &mut out);
    out.push(b'.');
    out
}

/// The entries of the archive, with each storage once.
pub fn entries(value: &Py) -> Vec<(String, Vec<u8>)> {
    let mut entries =
        vec![("archive/data.pkl".to_owned(), pickle(value)), ("archive/byteorder".into(), b"little".into())];
    entries.extend(storages(value).into_iter().map(|tensor| (format!("archive/data/{}", tensor.key), tensor.bytes)));
    entries.push(("archive/version".into(), b"3\n".into()));
    entries
}

/// A zip archive of stored entries. `wide`: 64-bit sizes and offsets although 32 bits would do.
pub fn zip(entries: &[(String, Vec<u8>)], wide: bool) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let (size, place) = (bytes.len() as u64, file.len() as u64);
        // PyTorch pads with an extra field, so that data begins at multiples of 64.
        let padding = 64 - (file.len() + 30 + name.len() + 4) % 64;
        let common = [&[0; 8], &crc32(bytes).to_le_bytes()[..]].concat();
        let version = 20u16.to_le_bytes();
        let sizes = (size as u32).to_le_bytes().repeat(2);
        let name_length = (name.len() as u16).to_le_bytes();
        let extra = [b"FB", &(padding as u16).to_le_bytes()[..], &vec![b'Z'; padding]].concat();
        file.extend([b"PK\x03\x04", &version[..], &common, &sizes, &name_length].concat());
        file.extend([&(extra.len() as u16).to_le_bytes(), name.as_bytes(), &extra, bytes].concat());

        let field = [size, size, place].map(u64::to_le_bytes).concat();
        let extra = if wide { [&[1, 0, 24, 0], &field[..]].concat() } else { Vec::new() };
        let narrow = if wide { u32::MAX.to_le_bytes().repeat(2) } else { sizes };
        let place = if wide { u32::MAX } else { place as u32 };
        directory.extend([b"PK\x01\x02", &version[..], &version, &common, &narrow, &name_length].concat());
        directory.extend([&(extra.len() as u16).to_le_bytes()[..], &[0; 10], &place.to_le_bytes()].concat());
        directory.extend([name.as_bytes(), &extra].concat());
    }
    let (place, length, count) = (file.len() as u64, directory.len() as u64, entries.len() as u64);
    file.extend(directory);
    if wide {
        let end = file.len() as u64;
        let counts = [count, count, length, place].map(u64::to_le_bytes).concat();
        file.extend([b"PK\x06\x06", &44u64.to_le_bytes()[..], &[45, 0, 45, 0], &[0; 8], &counts].concat());
        file.extend([b"PK\x06\x07", &[0; 4][..], &end.to_le_bytes(), &1u32.to_le_bytes()].concat());
    }
    let (count, length) = (if wide { u16::MAX } else { count as u16 }, if wide { u32::MAX } else { length as u32 });
    let place = if wide { u32::MAX } else { place as u32 };
    file.extend([b"PK\x05\x06", &[0; 4][..], &count.to_le_bytes().repeat(2)].concat());
    file.extend([&length.to_le_bytes()[..], &place.to_le_bytes(), &[0; 2]].concat());
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

/// The storages of `value`, each key once.
fn storages(value: &Py) -> Vec<Tensor> {
    let mut found: Vec<Tensor> = Vec::new();
    let mut add = |inner: &Py| {
        let new = storages(inner).into_iter().filter(|tensor| found.iter().all(|known| known.key != tensor.key));
        let new: Vec<Tensor> = new.collect();
        found.extend(new);
    };
    match value {
        Py::Tensor(tensor) => return vec![tensor.clone()],
        Py::List(items) | Py::Tuple(items) | Py::Call(.., items) => items.iter().for_each(&mut add),
        Py::Dict(items) => items.iter().for_each(|(_, value)| add(value)),
        Py::Instance(.., state) => add(state),
        _ => {}
    }
    found
}

fn emit(value: &Py, old: bool, out: &mut Vec<u8>) {
    let mut all = |before: &[u8], items: &[Py], after: &[u8]| {
        out.extend(before);
        items.iter().for_each(|item| emit(item, old, out));
        out.extend(after);
    };
    match value {
        Py::None => out.push(b'N'),
        Py::Int(int) => out.extend([&[0x8a, 8], &int.to_le_bytes()[..]].concat()),
        Py::Text(text) => out.extend([b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()),
        Py::List(items) => all(b"](", items, b"e"),
        Py::Tuple(items) => all(b"(", items, b"t"),
        Py::Dict(items) => {
            let items: Vec<Py> = items.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect();
            all(b"}(", &items, b"u");
        }
        Py::Name(module, name) => out.extend(format!("c{module}\n{name}\n").as_bytes()),
        Py::Call(module, name, arguments) => all(format!("c{module}\n{name}\n(").as_bytes(), arguments, b"tR"),
        Py::Instance(module, name, state) => {
            all(&[format!("c{module}\n{name}\n").as_bytes(), b")\x81"].concat(), std::slice::from_ref(state), b"b");
        }
        Py::Tensor(tensor) => emit(&rebuilt(tensor, old), old, out),
        Py::Raw(code) => out.extend(code),
    }
}

/// The call that makes a tensor.
fn rebuilt(tensor: &Tensor, old: bool) -> Py {
    let Tensor { class, key, first, shape, strides, count, .. } = tensor;
    let sizes = |sizes: &[i64]| Py::Tuple(sizes.iter().map(|size| Py::Int(*size)).collect());
    let mut storage =
        vec![Py::Text("storage"), Py::Name("torch", class), Py::Text(key), Py::Text("cpu"), Py::Int(*count)];
    storage.extend(old.then_some(Py::None));
    let mut reference = Vec::new();
    emit(&Py::Tuple(storage), old, &mut reference);
    reference.push(b'Q');
    let hooks = Py::Call("collections", "OrderedDict", Vec::new());
    let requires_grad = Py::Raw(vec![0x89]);
    let arguments = [Py::Raw(reference), Py::Int(*first), sizes(shape), sizes(strides), requires_grad, hooks];
    Py::Call("torch._utils", "_rebuild_tensor_v2", arguments.to_vec())
}
