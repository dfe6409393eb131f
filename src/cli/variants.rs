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
        let (variant, why) = match card.has(newest.kernel()) {
            false => (Variant::Sm80, Why::Only),
            true if selftest::passed(&card.name(), newest) => (newest, Why::Passed),
            true => (Variant::Sm80, Why::Untested),
        };
        Self { variant, why }
    }

    /// A line for each operation that has several kernels.
    pub fn lines(self) -> Vec<String> {
        let line = |(operation, newest, limits)| {
            let runs = match self.variant {
                Variant::Sm80 => "sm80".to_owned(),
                variant => format!("{variant} for {limits}, else sm80"),
            };
            let why = match self.why {
                Why::Asked => "as --kernels asks".to_owned(),
                Why::Only => "the only variant for this GPU".to_owned(),
                Why::Passed => "because it has passed osp selftest here".to_owned(),
                Why::Untested => format!("until {newest} passes osp selftest here"),
                Why::NoGpu => "the default without a GPU".to_owned(),
            };
            format!("{operation}: {runs}, {why}")
        };
        VARIANTS.map(line).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_the_variant_and_the_reason() {
        for (variant, why, expected) in [
            (Variant::Sm80, Why::Asked, "linear: sm80, as --kernels asks"),
            (Variant::Sm90, Why::Asked, "linear: sm90 for in_features a multiple of 8, else sm80, as --kernels asks"),
            (Variant::Sm80, Why::Only, "linear: sm80, the only variant for this GPU"),
            (
                Variant::Sm90,
                Why::Passed,
                "linear: sm90 for in_features a multiple of 8, else sm80, because it has passed osp selftest here",
            ),
            (Variant::Sm80, Why::Untested, "linear: sm80, until sm90 passes osp selftest here"),
            (Variant::Sm80, Why::NoGpu, "linear: sm80, the default without a GPU"),
        ] {
            assert_eq!(Running { variant, why }.lines(), [expected]);
        }
    }
}
