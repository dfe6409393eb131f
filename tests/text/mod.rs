//! Caption cleaning and the tokenizer, compared with the original.

mod caption;
mod tokenizer;

use std::path::PathBuf;

/// A file or folder of the golden data.
fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}
