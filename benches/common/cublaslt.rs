//! The product of NVIDIA's cuBLASLt, if its library can be loaded.

use cudarc::cublaslt::{CudaBlasLT, Matmul, MatmulConfig, sys};
use cudarc::driver::{CudaContext, DeviceRepr, sys::CUevent_flags};
use half::{bf16, f16};
use osp::cuda::Half;
use std::error::Error;

/// Products in a run.
const PRODUCTS: u64 = 8;
/// Runs of which the best counts.
const RUNS: usize = 5;

/// Operations per second of a product of matrices of `side`×`side` in `half`, summed in f32; `None` without the
/// library.
pub fn product(side: usize, half: Half, values: &[f32]) -> Option<f64> {
    // SAFETY: it only tries to load the library, whose own code is NVIDIA's.
    if !unsafe { sys::is_culib_present() } {
        return None;
    }
    let measured = match half {
        Half::F16 => measure(side, values.iter().copied().map(f16::from_f32).collect()),
        Half::Bf16 => measure(side, values.iter().copied().map(bf16::from_f32).collect()),
    };
    measured.map_err(|error| println!("cuBLASLt does not work: {error}")).ok()
}

fn measure<T: DeviceRepr>(side: usize, values: Vec<T>) -> Result<f64, Box<dyn Error>>
where
    CudaBlasLT: Matmul<T>,
{
    assert_eq!(values.len(), side * side, "one matrix");
    let context = CudaContext::new(0)?;
    let stream = context.new_stream()?;
    let a = stream.clone_htod(&values)?;
    let b = stream.clone_htod(&values)?;
    let mut out = stream.clone_htod(&values)?;
    let library = CudaBlasLT::new(stream.clone())?;
    let (size, line) = (side as u64, side as i64);
    let config = MatmulConfig {
        // As in a linear layer, the inner axis of both matrices is contiguous.
        transa: true,
        transb: false,
        transc: false,
        m: size,
        n: size,
        k: size,
        alpha: 1.0,
        lda: line,
        ldb: line,
        beta: 0.0,
        ldc: line,
        stride_a: None,
        stride_b: None,
        stride_c: None,
        stride_bias: None,
        batch_size: None,
    };
    // SAFETY: all three matrices have side² elements, as the configuration says, and live as long as `multiply`.
    let mut multiply = || unsafe { library.matmul(config, &a, &b, &mut out, None, None) };
    let event = || context.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        // The first product keeps the GPU busy while the host prepares the others.
        multiply()?;
        let (start, end) = (event()?, event()?);
        start.record(&stream)?;
        (0..PRODUCTS).try_for_each(|_| multiply())?;
        end.record(&stream)?;
        best = best.min(f64::from(start.elapsed_ms(&end)?) / 1e3);
    }
    Ok((PRODUCTS * 2 * size.pow(3)) as f64 / best)
}
