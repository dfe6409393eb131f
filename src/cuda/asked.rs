//! Tiles that the user asks for in place of the cheapest, for experiments. The choice changes no bit.

use super::{attention, conv3d, gemm};
use crate::error::{Error, Result};
use std::sync::LazyLock;

/// The environment variable that asks for tiles.
const VARIABLE: &str = "OSP_TILES";

/// An operation, and the name of one of its tiles.
type Pair = (&'static str, &'static str);

/// Operations, each with the tile that the user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked(Vec<Pair>);

/// Every tile of every operation that has a choice.
fn known() -> impl Iterator<Item = Pair> {
    let of = |operation, tiles: Vec<&'static str>| tiles.into_iter().map(move |tile| (operation, tile));
    of(gemm::OPERATION, gemm::KERNELS.iter().map(|kernel| kernel.tile.name).collect())
        .chain(of(conv3d::OPERATION, conv3d::KERNELS.iter().map(|kernel| kernel.tile.name).collect()))
        .chain(of(conv3d::OPERATION, conv3d::sm90::KERNELS.iter().map(|kernel| kernel.tile.name).collect()))
        .chain(of(attention::OPERATION, attention::TEAMS.iter().map(|(name, _)| *name).collect()))
}

impl Asked {
    /// The tile that the user asks for, if any.
    pub fn tile(&self, operation: &str) -> Option<&'static str> {
        Some(self.0.iter().find(|(name, _)| *name == operation)?.1)
    }

    /// Reads `OPERATION=TILE`, or several with commas between them.
    ///
    /// # Errors
    /// [`Error::Usage`] for an operation without a choice, for a tile that the operation does not have, and for an
    /// operation that is named twice.
    pub fn parse(text: &str) -> Result<Self> {
        let mut asked = Self::default();
        for item in text.split(',') {
            let (operation, tile) = item.split_once('=').unwrap_or((item, ""));
            let pair = known().find(|pair| *pair == (operation.trim(), tile.trim()));
            let pair = pair.ok_or_else(|| Error::Usage(problem(item)))?;
            if asked.tile(pair.0).is_some() {
                return Err(Error::Usage(format!("{VARIABLE} names two tiles for {}; name one", pair.0)));
            }
            asked.0.push(pair);
        }
        Ok(asked)
    }

    /// The tiles that the environment asks for.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn of_environment() -> Result<&'static Self> {
        static ASKED: LazyLock<std::result::Result<Asked, String>> = LazyLock::new(|| {
            let text = std::env::var_os(VARIABLE).filter(|text| !text.is_empty());
            let asked = text.map(|text| Asked::parse(&text.to_string_lossy())).transpose();
            asked.map(Option::unwrap_or_default).map_err(|error| error.to_string())
        });
        ASKED.as_ref().map_err(|problem| Error::Usage(problem.clone()))
    }
}

/// The message for an item that is not a tile, with all tiles.
fn problem(item: &str) -> String {
    let mut operations: Vec<&str> = known().map(|(operation, _)| operation).collect();
    operations.dedup();
    let lists = operations.iter().map(|operation| {
        let tiles = known().filter(|pair| pair.0 == *operation).map(|(_, tile)| tile);
        format!("{operation}={}", tiles.collect::<Vec<_>>().join("|"))
    });
    let lists: Vec<String> = lists.collect();
    format!("{VARIABLE} has {:?}, which is not a tile; use one of {}", item.trim(), lists.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_only_known_tiles() {
        let asked = Asked::parse("linear=small, conv3d = strided_n64,attention=q128").unwrap();
        let tiles = ["linear", "conv3d", "attention", "norm"].map(|operation| asked.tile(operation));
        assert_eq!(tiles, [Some("small"), Some("strided_n64"), Some("q128"), None]);
        for (text, words) in [
            ("linear", ["\"linear\"", "linear=small|large|broad|ragged"]),
            ("", ["\"\"", "use one of linear="]),
            ("norm=small", ["norm=small", "attention=q16|q32|q64|q128"]),
            ("linear=n64", ["linear=n64", "conv3d=n128|n96|n64|n8|strided_n128|strided_n64|ragged|small|large"]),
            ("linear=small,linear=large", ["OSP_TILES", "two tiles for linear"]),
            ("linear=small,", ["\"\"", "which is not a tile"]),
        ] {
            let error = Asked::parse(text).unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{text}");
            assert!(words.iter().all(|word| error.to_string().contains(word)), "{text}: {error}");
        }
    }
}
