//! Bytes that a device is still copying to the host.

use crate::error::Result;

/// A copy that may still be in flight.
pub trait Arriving: Send {
    /// Waits for the bytes.
    ///
    /// # Errors
    /// The errors of the kernels that compute the bytes, and of the copy.
    fn bytes(&mut self) -> Result<&[u8]>;
}

/// Bytes that have arrived.
impl Arriving for Vec<u8> {
    fn bytes(&mut self) -> Result<&[u8]> {
        Ok(self)
    }
}
