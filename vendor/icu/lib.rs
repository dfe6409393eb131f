//! The part of `icu` that `plsfix` uses: the four normal forms of Unicode.
//!
//! `icu` 1.5 also has calendars, time zones and plurals, in 60 packages that take longer to build than any other
//! dependency. `unicode-normalization`, which `plsfix` needs anyway, computes the same forms. It knows Unicode 18, and
//! `icu` 1.5 knows Unicode 15.1. Characters that are in both have equal forms, by Unicode's stability policy.
//!
//! This replacement applies if the crate `osp` is built from its repository. A package from a registry has no patches,
//! so there `plsfix` builds `icu`.

/// The module of this name in `icu`.
pub mod normalizer {
    use unicode_normalization::UnicodeNormalization;

    /// Converts text to a composing form: NFC or NFKC.
    pub struct ComposingNormalizer(fn(&str) -> String);

    impl ComposingNormalizer {
        /// NFC: canonical equivalence.
        pub fn new_nfc() -> Self {
            Self(|text| text.nfc().collect())
        }

        /// NFKC: compatibility equivalence.
        pub fn new_nfkc() -> Self {
            Self(|text| text.nfkc().collect())
        }

        /// Returns the form of `text`.
        pub fn normalize(&self, text: &str) -> String {
            self.0(text)
        }
    }

    /// Converts text to a decomposing form: NFD or NFKD.
    pub struct DecomposingNormalizer(fn(&str) -> String);

    impl DecomposingNormalizer {
        /// NFD: canonical equivalence.
        pub fn new_nfd() -> Self {
            Self(|text| text.nfd().collect())
        }

        /// NFKD: compatibility equivalence.
        pub fn new_nfkd() -> Self {
            Self(|text| text.nfkd().collect())
        }

        /// Returns the form of `text`.
        pub fn normalize(&self, text: &str) -> String {
            self.0(text)
        }
    }
}
