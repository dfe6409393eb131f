//! What `plsfix` takes from `icu`: the four normal forms of Unicode.
//!
//! `icu` 1.5 brings calendars, time zones and plurals, 60 packages that take longer to build than any other dependency.
//! `unicode-normalization`, which `plsfix` needs anyway, computes the same forms. It knows Unicode 18 where `icu` 1.5 knows
//! 15.1: the forms of characters that are in both are equal, as Unicode's stability policy promises.
//!
//! This holds where the crate `osp` is built from its repository. A package from a registry carries no patch: there `plsfix` builds
//! `icu` itself.

/// Named as in `icu`.
pub mod normalizer {
    use unicode_normalization::UnicodeNormalization;

    /// To the forms that compose: NFC, NFKC.
    pub struct ComposingNormalizer(fn(&str) -> String);

    impl ComposingNormalizer {
        /// Canonical equivalence.
        pub fn new_nfc() -> Self {
            Self(|text| text.nfc().collect())
        }

        /// Compatibility equivalence.
        pub fn new_nfkc() -> Self {
            Self(|text| text.nfkc().collect())
        }

        /// The form of `text`.
        pub fn normalize(&self, text: &str) -> String {
            self.0(text)
        }
    }

    /// To the forms that decompose: NFD, NFKD.
    pub struct DecomposingNormalizer(fn(&str) -> String);

    impl DecomposingNormalizer {
        /// Canonical equivalence.
        pub fn new_nfd() -> Self {
            Self(|text| text.nfd().collect())
        }

        /// Compatibility equivalence.
        pub fn new_nfkd() -> Self {
            Self(|text| text.nfkd().collect())
        }

        /// The form of `text`.
        pub fn normalize(&self, text: &str) -> String {
            self.0(text)
        }
    }
}
