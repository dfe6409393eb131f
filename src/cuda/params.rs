//! Parameters of kernels: one struct each, the same in Rust and in the `.cu` file.

/// What may be a field of a kernel's parameters.
pub trait Field: Copy {
    /// What the `.cu` file calls it.
    const NAMES: &'static [&'static str];
}

/// An address in device memory; 0 where an optional buffer is not given.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Address(pub u64);

impl Address {
    /// No buffer.
    pub const NULL: Self = Self(0);
}

impl Field for Address {
    const NAMES: &'static [&'static str] = &["const void *", "void *"];
}

impl Field for i32 {
    const NAMES: &'static [&'static str] = &["std::int32_t "];
}

impl Field for i64 {
    const NAMES: &'static [&'static str] = &["std::int64_t "];
}

impl Field for f32 {
    const NAMES: &'static [&'static str] = &["float "];
}

/// The fields of a struct: the names their type may have in the `.cu` file, and their own, with the length of an array.
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
    let bytes = if types == Address::NAMES || types == i64::NAMES { 8 } else { 4 };
    let length = name.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']')?.parse().ok());
    (bytes, length.unwrap_or(1))
}

/// The addresses in the bytes of parameters, each with the name of its field. No field is padded.
pub(super) fn addresses(fields: Fields, params: &[u8]) -> Vec<(&'static str, u64)> {
    let mut found = Vec::new();
    let mut rest = params;
    for &(types, name) in fields {
        let (bytes, length) = extent((types, name));
        let (field, after) = rest.split_at(bytes * length);
        if types == Address::NAMES {
            found.extend(field.chunks_exact(8).map(|bytes| (name, bytemuck::pod_read_unaligned(bytes))));
        }
        rest = after;
    }
    found
}

/// Declares a struct of parameters, with its fields listed for the test that compares it with the `.cu` file. Arrays are
/// written as there: `name[8]: f32`.
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
        }
    }

    #[test]
    fn addresses_are_found_among_other_fields() {
        const FIELDS: Fields =
            &[(Address::NAMES, "x"), (f32::NAMES, "factors[2]"), (Address::NAMES, "more[2]"), (i64::NAMES, "stride")];
        let words = [7u64, u64::MAX, 8, 9, 10];
        assert_eq!(addresses(FIELDS, bytemuck::bytes_of(&words)), [("x", 7), ("more[2]", 8), ("more[2]", 9)]);
        assert_eq!(addresses(&[], &[]), []);
    }
}
