//! Types of the fields of a kernel's parameters.

/// A type that a field of a kernel's parameters may have.
pub trait Field: Copy {
    /// The names of the type in the `.cu` file.
    const NAMES: &'static [&'static str];
}

/// An address in device memory; 0 for an optional buffer that is not given.
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
