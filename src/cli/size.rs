//! Rows and columns of pixels, as an option or a list says them.

use osp::model::vae::MOST_SIDE;
use osp::{Error, Result};
use std::str::FromStr;

/// Rows and columns of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub height: usize,
    pub width: usize,
}

impl FromStr for Size {
    type Err = Error;

    /// Reads `HEIGHTxWIDTH`.
    fn from_str(text: &str) -> Result<Self> {
        let sides = text.split_once(['x', 'X', '×']);
        let sides = sides.and_then(|(height, width)| Some((height.parse().ok()?, width.parse().ok()?)));
        match sides {
            Some((height, width)) if height <= MOST_SIDE && width <= MOST_SIDE => Ok(Self { height, width }),
            Some(_) => Err(Error::Usage(format!("more than {MOST_SIDE} pixels a side"))),
            None => Err(Error::Usage("expected rows and columns of pixels, such as 512x512".into())),
        }
    }
}
