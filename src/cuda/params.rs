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

/// A kernel's parameters.
pub trait Params: bytemuck::Pod {
    /// Name of the struct in the `.cu` file.
    const NAME: &'static str;
    /// Its fields: the names their type may have there, and their own, with the length of an array.
    const FIELDS: &'static [(&'static [&'static str], &'static str)];
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
            const FIELDS: &'static [(&'static [&'static str], &'static str)] = &[$((
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
