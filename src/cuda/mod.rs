//! The operations as the kernels in `kernels/`, launched on a [`device::Device`].
//!
//! Activations and parameters are f16 or bf16, chosen once for a backend. Sums, statistics, softmax and the states of
//! samplers are f32. Each operation's file packs its descriptor into the parameters of a kernel, chooses the kernel and
//! its grid, and launches it.

mod asked;
mod attention;
mod backend;
mod choice;
mod contracts;
mod conv3d;
mod depthwise;
pub mod device;
mod distance;
#[cfg(debug_assertions)]
mod documented;
mod embed;
mod enlarge;
mod facts;
mod facts_sm90;
mod field;
mod finite;
mod folded;
mod gemm;
mod groupnorm;
mod norm;
pub mod params;
mod patch;
mod pixels;
mod precision;
mod printed;
mod resample;
mod sampler;
mod tensor_map;
mod tile;
mod variant;

pub use choice::{Candidate, Choice};
pub use contracts::{CONTRACTS, Contract};
pub(crate) use facts::{Fact, fact};
pub(crate) use facts_sm90::{HopperFact, has_facts, hopper_fact};
pub use precision::{ElementType, Half};
pub use variant::{VARIANTS, Variant};

use crate::error::{Error, Result};
use crate::ops::{DeviceBuffer, DeviceWeight};
use crate::tensor::Tensor;
use asked::Asked;
use choice::Tile;
use device::{Device, Launch, Memory};
use params::{Address, Params};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Elements in device memory.
#[derive(Debug)]
pub struct Buffer {
    memory: Box<dyn Memory>,
    len: usize,
    precision: ElementType,
}

impl DeviceBuffer for Buffer {
    fn len(&self) -> usize {
        self.len
    }
}

impl Buffer {
    /// Its address, for a kernel that takes 16-bit elements.
    fn half(&self) -> Address {
        assert_eq!(self.precision, ElementType::Half, "activations are 16-bit");
        Address(self.memory.address())
    }

    /// Its address, for a kernel that takes f32.
    fn single(&self) -> Address {
        assert_eq!(self.precision, ElementType::Single, "states, masks and tables of attention are f32");
        Address(self.memory.address())
    }

    /// Its address, for a kernel whose parameters say what its elements are.
    fn address(&self) -> Address {
        Address(self.memory.address())
    }
}

/// A parameter in device memory, shared with the list of prefetched parameters.
#[derive(Debug)]
pub struct Weight {
    memory: Arc<Mutex<Box<dyn Memory>>>,
    address: u64,
    shape: Vec<usize>,
}

impl DeviceWeight for Weight {
    fn shape(&self) -> &[usize] {
        &self.shape
    }
}

impl Weight {
    fn new(memory: Box<dyn Memory>, shape: Vec<usize>) -> Self {
        let address = memory.address();
        Self { memory: Arc::new(Mutex::new(memory)), address, shape }
    }

    fn address(&self) -> Address {
        Address(self.address)
    }
}

/// Kernels on a device.
#[derive(Debug)]
pub struct Cuda {
    device: Arc<dyn Device>,
    half: Half,
    /// Which variant of a kernel runs, where there are several.
    variant: Variant,
    /// The multiprocessors for which launches are made.
    multiprocessors: usize,
    /// Prefetched parameters: memory is allocated, and the values are not copied yet.
    coming: Mutex<Vec<Coming>>,
    /// Tiles that every launch with a choice must take; they overrule the environment.
    forced: Option<Asked>,
    /// Whether launches may be printed.
    aloud: bool,
}

/// A prefetched parameter's memory and values.
type Coming = (Arc<Mutex<Box<dyn Memory>>>, Vec<Tensor>);

/// Threads of a block in kernels whose threads work independently.
const FLAT_THREADS: u32 = 256;

/// A launch without the kernel's parameters.
struct LaunchPlan {
    kernel: String,
    grid: [usize; 3],
    threads: u32,
    shared_bytes: usize,
    flops: u64,
    bytes: u64,
}

impl Cuda {
    /// A backend that keeps activations and parameters in `half` on `device`.
    pub fn new(device: Arc<dyn Device>, half: Half) -> Self {
        let (variant, multiprocessors) = (device.variant(), device.multiprocessors());
        Self { device, half, variant, multiprocessors, coming: Mutex::new(Vec::new()), forced: None, aloud: true }
    }

    /// This backend for a rehearsal, whose launches `OSP_PRINT_LAUNCHES` does not print.
    #[must_use]
    pub(crate) fn silent(self) -> Self {
        Self { aloud: false, ..self }
    }

    /// A backend on the same device that must use `tiles`, written as in `OSP_TILES`. An operation that cannot use its
    /// tile fails with [`Error::Unsupported`].
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown tile.
    pub(crate) fn forcing(&self, tiles: &str) -> Result<Self> {
        Ok(Self { forced: Some(Asked::parse(tiles)?), ..self.again() })
    }

    /// Which variant of a kernel it takes, where there are several.
    pub(crate) fn variant(&self) -> Variant {
        self.variant
    }

    /// A backend on the same device that takes this variant of each kernel.
    pub(crate) fn taking(&self, variant: Variant) -> Self {
        Self { variant, ..self.again() }
    }

    /// A backend on the same device whose launches are made for this many multiprocessors. Blocks that stay on their
    /// multiprocessor then have more to do.
    pub(crate) fn on_multiprocessors(&self, multiprocessors: usize) -> Self {
        Self { multiprocessors, ..self.again() }
    }

    /// This backend, without prefetched parameters.
    fn again(&self) -> Self {
        let Self { half, variant, multiprocessors, aloud, .. } = *self;
        let (device, forced) = (self.device.clone(), self.forced.clone());
        Self { device, half, variant, multiprocessors, coming: Mutex::new(Vec::new()), forced, aloud }
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    fn buffer(&self, len: usize, precision: ElementType) -> Result<Buffer> {
        Ok(Buffer { memory: self.device.alloc(len * precision.bytes())?, len, precision })
    }

    /// Memory for a parameter that stacks `parts`.
    fn room(&self, parts: &[Tensor]) -> Result<Weight> {
        let mut shape = parts[0].shape.clone();
        shape[0] = parts.iter().map(|part| part.shape[0]).sum();
        Ok(Weight::new(self.device.alloc_weight(2 * shape.iter().product::<usize>())?, shape))
    }

    /// Converts the values of `parts` to this backend's type, and gives them to `write` with the byte offset of each.
    fn stack(&self, parts: Vec<Tensor>, write: &mut dyn FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        /// Elements that are converted at a time. The host holds no more of a parameter whose file has another type.
        const PIECE: usize = 2 << 20;
        let mut bits = Vec::new();
        let mut offset = 0;
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            if part.dtype == self.half.dtype() && part.has_values() {
                write(offset, &part.bytes)?;
            } else if part.has_values() {
                for start in (0..part.len()).step_by(PIECE) {
                    bits.resize(PIECE.min(part.len() - start), 0);
                    self.half.convert(&part, start, &mut bits);
                    write(offset + 2 * start, bytemuck::cast_slice(&bits))?;
                }
            }
            offset += 2 * part.len();
        }
        Ok(())
    }

    /// The launch of one thread for each of `items`, by the kernel of `op` for vectors (`wide`) or for any sizes.
    fn flat(&self, op: &str, wide: bool, items: usize, flops: u64, bytes: u64) -> LaunchPlan {
        let ragged = if wide { "" } else { "_ragged" };
        let kernel = format!("{op}{ragged}_{}", self.half.suffix());
        let grid = [items.div_ceil(FLAT_THREADS as usize), 1, 1];
        LaunchPlan { kernel, grid, threads: FLAT_THREADS, shared_bytes: 0, flops, bytes }
    }

    /// The tile of an operation, by [`Choice::of`]. `candidates`: all tiles for the shape, with their blocks.
    fn choose(&self, operation: &'static str, candidates: impl IntoIterator<Item = (Tile, usize)>) -> Result<Choice> {
        let asked = match &self.forced {
            Some(forced) => forced.tile(operation),
            None => Asked::of_environment()?.tile(operation),
        };
        let choice = Choice::of(operation, candidates, self.multiprocessors, asked);
        match asked {
            Some(tile) if self.forced.is_some() && !choice.obeys() => {
                Err(Error::Unsupported(format!("{operation}: the tile {tile} does not take this shape")))
            }
            _ => Ok(choice),
        }
    }

    fn launch<P: Params>(&self, plan: &LaunchPlan, params: &P) -> Result<()> {
        self.launch_chosen(plan, None, params)
    }

    /// Launches a kernel; `choice` says how its tile was chosen, if the operation has several.
    fn launch_chosen<P: Params>(&self, plan: &LaunchPlan, choice: Option<&Choice>, params: &P) -> Result<()> {
        let side = |blocks: usize| u32::try_from(blocks).expect("grids of our sizes fit");
        if plan.grid.contains(&0) {
            return Ok(());
        }
        #[cfg(debug_assertions)]
        documented::check(&plan.kernel, plan.shared_bytes);
        let launch = Launch {
            kernel: &plan.kernel,
            grid: plan.grid.map(side),
            threads: plan.threads,
            shared_bytes: side(plan.shared_bytes),
            params: &params::launched(params),
            fields: P::FIELDS,
            flops: plan.flops,
            bytes: plan.bytes,
            choice,
        };
        if self.aloud {
            printed::print(&launch);
        }
        self.device.launch(&launch)
    }
}

/// Fails if the environment asks for unknown tiles.
///
/// # Errors
/// [`Error::Usage`], with all tiles.
pub fn check_environment() -> Result<()> {
    Asked::of_environment().map(drop)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A size as a kernel's parameter.
fn int(size: usize) -> Result<i32> {
    i32::try_from(size)
        .map_err(|_| Error::Unsupported(format!("a size of {size}: the kernels take at most {}", i32::MAX)))
}
