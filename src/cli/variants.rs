//! Which variant of the kernels a device runs where there are several, and why.

use super::commands::selftest;
use osp::cuda::device::Device;
use osp::cuda::{VARIANTS, Variant};

/// A variant, and the reason for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    pub variant: Variant,
    pub why: Why,
}

/// Why a variant runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The user chose it.
    Asked,
    /// The GPU runs no other.
    Only,
    /// It is the newest, and it has passed the self-test on this GPU.
    Passed,
    /// The newest has not passed the self-test on this GPU.
    Untested,
    /// It is the default of devices without a GPU.
    NoGpu,
}

impl Running {
    /// What a GPU runs unless the user chooses: the newest kernels that can be trusted.
    pub fn on_card(card: &dyn Device) -> Self {
        let newest = Variant::Sm90;
        let (variant, why) = match card.runs(newest) {
            false => (Variant::Sm80, Why::Only),
            true if selftest::passed(&card.name(), newest) => (newest, Why::Passed),
            true => (Variant::Sm80, Why::Untested),
        };
        Self { variant, why }
    }

    /// What runs of each operation that has several kernels: a line for each, or for all together if all run the same.
    pub fn lines(self) -> Vec<String> {
        let why = match self.why {
            Why::Asked => "as --kernels asks".to_owned(),
            Why::Only => "the only variant for this GPU".to_owned(),
            Why::Passed => "because it has passed osp selftest here".to_owned(),
            Why::Untested => format!("until {} passes osp selftest here", Variant::Sm90),
            Why::NoGpu => "the default without a GPU".to_owned(),
        };
        match self.variant {
            Variant::Sm80 => vec![format!("{}: sm80, {why}", VARIANTS.map(|(operation, ..)| operation).join(", "))],
            Variant::Sm90 => VARIANTS
                .map(|(operation, variant, limits)| format!("{operation}: {variant} for {limits}, else sm80, {why}"))
                .to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_the_variant_and_the_reason() {
        for (variant, why, expected) in [
            (Variant::Sm80, Why::Asked, &["linear, conv3d, attention: sm80, as --kernels asks"][..]),
            (
                Variant::Sm90,
                Why::Asked,
                &[
                    "linear: sm90 for in_features a multiple of 8, else sm80, as --kernels asks",
                    "conv3d: sm90 for 3x3 taps at stride 1, cin a multiple of 64, cout a multiple of 8 from 64 on, of 64 behind an enlargement, else \
                     sm80, as --kernels asks",
                    "attention: sm90 for 64 or 72 features per head, without bias and RoPE, else sm80, as --kernels asks",
                ],
            ),
            (Variant::Sm80, Why::Only, &["linear, conv3d, attention: sm80, the only variant for this GPU"]),
            (Variant::Sm80, Why::Untested, &["linear, conv3d, attention: sm80, until sm90 passes osp selftest here"]),
            (Variant::Sm80, Why::NoGpu, &["linear, conv3d, attention: sm80, the default without a GPU"]),
        ] {
            assert_eq!(Running { variant, why }.lines(), expected);
        }
        let passed = Running { variant: Variant::Sm90, why: Why::Passed }.lines();
        assert!(passed.iter().all(|line| line.ends_with("because it has passed osp selftest here")), "{passed:?}");
    }
}
