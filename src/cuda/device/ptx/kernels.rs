//! The PTX that the machine runs: the program's own, or files of a folder.

use super::decode;
use super::program::Program;
use super::text::Text;
use crate::cuda::device::driver::{Replacement, of_environment};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

mod table {
    //! The PTX that nvcc made of each file of kernels.
    include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
}

/// The PTX of a file of kernels.
struct File {
    stem: &'static str,
    /// The PTX from which the program's machine code for sm_80, or for the file's only architecture, was made.
    shipped: &'static str,
    /// The PTX for sm_100 and newer, unless the file is for one architecture only.
    newer: Option<&'static str>,
    /// As `shipped`, but a product and a sum are rounded separately, as on the emulator.
    separate: &'static str,
}

/// Which PTX of the program the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiled {
    /// The PTX for sm_80 and newer that the program ships.
    Shipped,
    /// The PTX for sm_100 and newer, from which the machine code for these GPUs was made.
    Newer,
    /// PTX in which a product and a sum are rounded separately (`-fmad=false`), as on the emulator.
    Separate,
}

/// Texts, and the kernels in them that were decoded.
#[derive(Debug)]
pub struct Kernels {
    texts: Vec<Text>,
    programs: Mutex<HashMap<String, Arc<Program>>>,
    /// The files that replace the program's own, for the device's name.
    pub replaced: Vec<Replacement>,
}

impl Kernels {
    pub fn new(texts: Vec<Text>) -> Self {
        Self { texts, programs: Mutex::default(), replaced: Vec::new() }
    }

    /// The program's own PTX, except for the files that `OSP_KERNELS` replaces.
    ///
    /// # Errors
    /// [`Error::Device`] if the program was built without nvcc; [`Error::Usage`] if a replacement is not PTX.
    pub fn of_program(compiled: Compiled) -> Result<Self> {
        let replaced = of_environment()?;
        if table::FILES.is_empty() && replaced.is_empty() {
            return Err(Error::Device(
                "this program was built without nvcc, so it holds no PTX: run scripts/get-nvcc and build again".into(),
            ));
        }
        let mut texts = Vec::new();
        for file in table::FILES {
            if !replaced.iter().any(|replacement| replacement.stem() == file.stem) {
                let text = match compiled {
                    Compiled::Shipped => Some(file.shipped),
                    Compiled::Newer => file.newer,
                    Compiled::Separate => Some(file.separate),
                };
                texts.extend(text.map(|text| Text::new(format!("{}.ptx", file.stem), text)));
            }
        }
        for replacement in &replaced {
            let path = replacement.path().display().to_string();
            let only = || Error::Usage(format!("{path}: the PTX machine runs only PTX; nvcc -ptx makes it"));
            let text = replacement.text().ok_or_else(only)?.to_owned();
            texts.push(Text::new(path, text));
        }
        Ok(Self { texts, programs: Mutex::default(), replaced })
    }

    /// The kernel of this name, and the text that holds it.
    ///
    /// # Errors
    /// A message if there is no such kernel, or if the machine does not know one of its instructions.
    pub fn find(&self, name: &str) -> std::result::Result<(&Text, Arc<Program>), String> {
        let text = self.text(name).ok_or("there is no such kernel")?;
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = programs.get(name) {
            return Ok((text, program.clone()));
        }
        let program = Arc::new(decode::program(text, name)?);
        programs.insert(name.to_owned(), program.clone());
        Ok((text, program))
    }

    /// Whether there is a kernel of this name.
    pub fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    fn text(&self, name: &str) -> Option<&Text> {
        self.texts.iter().find(|text| text.entries().any(|entry| entry == name))
    }

    /// A message for each instruction of each kernel that the machine does not know.
    pub fn unknown(&self) -> Vec<String> {
        let of = |text: &Text| {
            let unknown = |entry: &str| decode::unknown(text, entry).unwrap_or_else(|problem| vec![problem]);
            text.entries().flat_map(unknown).collect::<Vec<_>>()
        };
        self.texts.iter().flat_map(of).collect()
    }
}
