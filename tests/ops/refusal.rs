//! What a refused call says.

use osp::{Error, Result};

/// The argument that a call was refused for.
#[track_caller]
pub fn refused(result: Result<()>) -> &'static str {
    match result {
        Err(Error::Shape { argument, .. }) => argument,
        other => panic!("expected a refusal of an argument, found {other:?}"),
    }
}
