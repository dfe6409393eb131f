//! Buffers and parameters, as every backend has them.

/// Elements on a device. Dropping it frees the memory.
pub trait DeviceBuffer {
    /// Elements.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A parameter on a device, in the engine's layout.
pub trait DeviceWeight {
    /// Its shape: linear `[out, in]`, convolution `[cout, kt, kh, kw, cin]`, vector `[n]`.
    fn shape(&self) -> &[usize];

    /// Elements.
    fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
