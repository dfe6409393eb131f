//! The launches of a whole decode, which is too long to time and quick to count.

use super::run::Subject;
use super::{Profiled, Record, Recorder};
use crate::checkpoint::Model;
use crate::cuda::Cuda;
use crate::cuda::device::{Device, Dry};
use crate::engine::{self, Engine, Observer, Processor, Windowed};
use crate::error::{Error, Result};
use crate::memory::MemoryOptions;
use std::sync::Arc;

impl Engine {
    /// The launches of the VAE's decoder over all windows of a request, counted as this engine's device would make them.
    ///
    /// # Errors
    /// [`Error::Usage`] on the CPU, which launches nothing; errors of the sizes.
    pub fn count_decode(&self, model: &Model, subject: &Subject, observer: &mut dyn Observer) -> Result<Vec<Record>> {
        let dry = match self.processor() {
            Processor::Cpu(_) => return Err(Error::Usage("the CPU launches no kernels to count".into())),
            Processor::Gpu { device, .. } | Processor::Emulated(device) => Dry::new().like(&**device),
            Processor::Dry(variant) => Dry::new().with_variant(*variant),
        };
        let (recorder, [_, half]) = (Recorder::default(), self.dtypes());
        let device: Arc<dyn Device> = Arc::new(Profiled::new(Arc::new(dry), recorder.clone()));
        let shapes = model.shapes();
        let size = model.factors()?.latent_size(subject.size);
        let latent = vec![0.5; size.iter().product::<usize>() * shapes.need_vae()?.config.embed_dim];
        let clip = Windowed { size, tiling: subject.tiling };
        let backend = Cuda::new(device, half).silent();
        engine::decode(&backend, &shapes, &latent, clip, MemoryOptions::NONE, observer, &mut |_| Ok(()))?;
        Ok(recorder.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Quiet;
    use crate::model::vae::tiling::Tiling;
    use crate::preset;

    #[test]
    fn a_whole_decode_has_the_launches_of_all_its_windows() {
        let model = preset::open("v1.1.0", Some(65)).unwrap();
        let launches = |size, tiling| {
            let subject = Subject { size, tokens: 1, tiling, repeat: None };
            Engine::dry().count_decode(&model, &subject, &mut Quiet).unwrap()
        };
        let flops = |records: &[Record]| records.iter().map(|record| record.flops).sum::<u64>();
        let (one, all) = (launches([65, 256, 256], None), launches([221, 512, 512], Some(Tiling::default())));
        assert!(all.len() > 20 * one.len(), "{} and {}", all.len(), one.len());
        // As many as 21.5 whole windows.
        assert!((flops(&all) as f64 / flops(&one) as f64 - 21.5).abs() < 0.1);
        let cpu = Engine::cpu().count_decode(
            &model,
            &Subject { size: [1, 16, 16], tokens: 1, tiling: None, repeat: None },
            &mut Quiet,
        );
        assert!(cpu.unwrap_err().to_string().contains("CPU"));
    }
}
