//! Bytes on their way from a device to the host.

use crate::error::Result;

/// What nobody has waited for yet.
pub trait Arriving: Send {
    /// Waits for the bytes.
    ///
    /// # Errors
    /// Those of what makes them and of the copy.
    fn bytes(&mut self) -> Result<&[u8]>;
}

/// Bytes that are there.
impl Arriving for Vec<u8> {
    fn bytes(&mut self) -> Result<&[u8]> {
        Ok(self)
    }
}
