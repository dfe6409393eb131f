//! Parameters of kernels: one struct for each kernel, with the same fields in Rust and in the `.cu` file.

use std::borrow::Cow;

pub use super::field::{Address, Field};
pub use super::tensor_map::TensorMap;

/// The fields of a struct: the names that their type may have in the `.cu` file, and the field's name, with an array's
/// length.
pub type Fields = &'static [(&'static [&'static str], &'static str)];

/// A kernel's parameters.
pub trait Params: bytemuck::Pod {
    /// Name of the struct in the `.cu` file.
    const NAME: &'static str;
    /// Its fields.
    const FIELDS: Fields;
}

/// Bytes of a field, and how many values of its type it holds.
fn extent((types, name): (&[&str], &str)) -> (usize, usize) {
    let bytes = match types {
        _ if types == TensorMap::NAMES => size_of::<TensorMap>(),
        _ if types == Address::NAMES || types == i64::NAMES => 8,
        _ => 4,
    };
    let length = name.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']')?.parse().ok());
    (bytes, length.unwrap_or(1))
}

/// The tensor maps among fields; they are the first.
pub(crate) fn tensor_maps(fields: Fields) -> usize {
    fields.iter().take_while(|(types, _)| *types == TensorMap::NAMES).count()
}

/// Bytes of a struct in the `.cu` file, where a tensor map is aligned.
pub(crate) fn padded(fields: Fields, bytes: usize) -> usize {
    if tensor_maps(fields) == 0 { bytes } else { bytes.next_multiple_of(TensorMap::ALIGNMENT) }
}

/// The bytes of a struct as a kernel takes them.
pub(crate) fn launched<P: Params>(params: &P) -> Cow<'_, [u8]> {
    let bytes = bytemuck::bytes_of(params);
    match padded(P::FIELDS, bytes.len()) {
        len if len == bytes.len() => Cow::Borrowed(bytes),
        len => Cow::Owned([bytes, &vec![0; len - bytes.len()]].concat()),
    }
}

/// The addresses among a kernel's parameters: the name of each field, and its offset in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Addresses(Vec<(&'static str, usize)>);

impl Addresses {
    /// Finds the addresses among `fields`, which have no padding between them.
    pub fn among(fields: Fields) -> Self {
        let mut places = Vec::new();
        let mut offset = 0;
        for &(types, name) in fields {
            let (bytes, length) = extent((types, name));
            // A tensor map begins with its address.
            if types == Address::NAMES || types == TensorMap::NAMES {
                places.extend((0..length).map(|i| (name, offset + i * bytes)));
            }
            offset += bytes * length;
        }
        Self(places)
    }

    /// Reads the addresses from the bytes of a kernel's parameters.
    pub fn read<'a>(&'a self, params: &'a [u8]) -> impl Iterator<Item = (&'static str, u64)> + 'a {
        self.0.iter().map(|&(name, offset)| (name, bytemuck::pod_read_unaligned(&params[offset..offset + 8])))
    }
}

/// The 32-bit integers among a kernel's parameters, such as sizes: their names and values.
pub(crate) fn integers(fields: Fields, params: &[u8]) -> Vec<(&'static str, i32)> {
    let mut found = Vec::new();
    let mut offset = 0;
    for &(types, name) in fields {
        let (bytes, length) = extent((types, name));
        if types == i32::NAMES && length == 1 {
            found.push((name, bytemuck::pod_read_unaligned(&params[offset..offset + bytes])));
        }
        offset += bytes * length;
    }
    found
}

/// Declares a struct of parameters, and lists its fields for the test that compares it with the `.cu` file. An array is
/// written as in the `.cu` file: `name[8]: f32`.
macro_rules! params {
    (
        $(#[$attribute:meta])*
        $name:ident { $($(#[$comment:meta])* $field:ident $([$length:literal])?: $type:ty,)* }
    ) => {
        $(#[$attribute])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        pub(crate) struct $name {
            $($(#[$comment])* pub(crate) $field: $crate::cuda::params::field_type!($type $(; $length)?),)*
        }

        impl $crate::cuda::params::Params for $name {
            const NAME: &'static str = stringify!($name);
            const FIELDS: $crate::cuda::params::Fields = &[$((
                <$type as $crate::cuda::params::Field>::NAMES,
                concat!(stringify!($field) $(, "[", $length, "]")?),
            ),)*];
        }
    };
}

/// A field's type: one value, or an array of them.
macro_rules! field_type {
    ($type:ty) => {
        $type
    };
    ($type:ty; $length:literal) => {
        [$type; $length]
    };
}

pub(crate) use {field_type, params};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::CONTRACTS;

    #[test]
    fn fields_fill_their_struct() {
        for contract in CONTRACTS {
            let bytes: usize =
                contract.fields.iter().map(|&field| extent(field)).map(|(one, length)| one * length).sum();
            assert_eq!(bytes, contract.bytes, "{}", contract.params);
            let maps = contract.fields.iter().filter(|(types, _)| *types == TensorMap::NAMES).count();
            assert_eq!(tensor_maps(contract.fields), maps, "{}: tensor maps are the first fields", contract.params);
        }
    }

    #[test]
    fn addresses_are_found_among_other_fields() {
        const FIELDS: Fields =
            &[(Address::NAMES, "x"), (f32::NAMES, "factors[2]"), (Address::NAMES, "more[2]"), (i64::NAMES, "stride")];
        let words = [7u64, u64::MAX, 8, 9, 10];
        let addresses = |fields, params| Addresses::among(fields).read(params).collect::<Vec<_>>();
        assert_eq!(addresses(FIELDS, bytemuck::bytes_of(&words)), [("x", 7), ("more[2]", 8), ("more[2]", 9)]);
        assert_eq!(addresses(&[], &[]), []);
    }

    #[test]
    fn integers_are_found_among_other_fields() {
        const FIELDS: Fields = &[(Address::NAMES, "x"), (i32::NAMES, "rows"), (f32::NAMES, "s"), (i32::NAMES, "keys")];
        let words = [u64::MAX, 7 | 5 << 32, 9];
        assert_eq!(integers(FIELDS, bytemuck::bytes_of(&words)), [("rows", 7), ("keys", 9)]);
    }
}
