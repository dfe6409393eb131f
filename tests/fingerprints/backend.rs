//! A backend in front of another backend, which hashes the bits of every operation's output.

use super::names::Names;
use osp::Result;
use osp::arriving::Arriving;
use osp::backend::Backend;
use osp::ops::prelude::*;
use osp::ops::{DeviceBuffer, DeviceWeight};
use osp::tensor::Tensor;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The state of FNV-1a with 64 bits before the first byte.
const EMPTY: u64 = 0xCBF2_9CE4_8422_2325;

/// Hashes the outputs of a model's layers. An operation with a parameter belongs to the parameter's layer, any other to
/// the layer of the next parameter.
pub struct Printing<B> {
    backend: B,
    names: Names,
    prints: RefCell<Prints>,
}

#[derive(Default)]
struct Prints {
    /// Layers in the order of their first operation, each with the state of its hash.
    layers: Vec<(String, u64)>,
    places: BTreeMap<String, usize>,
    /// Outputs that wait for the next parameter.
    waiting: Vec<f32>,
}

impl Prints {
    fn add(&mut self, layer: &str, values: &[f32]) {
        let place = *self.places.entry(layer.to_owned()).or_insert_with(|| {
            self.layers.push((layer.to_owned(), EMPTY));
            self.layers.len() - 1
        });
        let hash = &mut self.layers[place].1;
        for byte in values.iter().flat_map(|value| value.to_bits().to_le_bytes()) {
            *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        }
    }
}

/// A parameter, and the layer that it belongs to.
pub struct Named<W> {
    weight: W,
    layer: String,
}

impl<W: DeviceWeight> DeviceWeight for Named<W> {
    fn shape(&self) -> &[usize] {
        self.weight.shape()
    }
}

impl<B: Backend> Printing<B> {
    /// Hashes what `backend` computes with parameters of these names.
    pub fn new(backend: B, names: Names) -> Self {
        Self { backend, names, prints: RefCell::default() }
    }

    /// The layers in the order of their first operation, with the hash of everything that each has computed.
    pub fn layers(self) -> Vec<(String, u64)> {
        let mut prints = self.prints.into_inner();
        let waiting = std::mem::take(&mut prints.waiting);
        if !waiting.is_empty() {
            prints.add("output", &waiting);
        }
        prints.layers
    }

    fn named(
        &self,
        parts: Vec<Tensor>,
        load: impl FnOnce(&B, Vec<Tensor>) -> Result<B::Weight>,
    ) -> Result<Named<B::Weight>> {
        let layer = self.names.layer(&parts[0]);
        Ok(Named { weight: load(&self.backend, parts)?, layer })
    }

    /// Adds an output, with those that wait, to a layer; without a layer, it waits.
    fn print(&self, layer: Option<&str>, out: &B::Buffer) -> Result<()> {
        let mut values = vec![0.0; out.len()];
        self.backend.download(out, 0, &mut values)?;
        let mut prints = self.prints.borrow_mut();
        prints.waiting.append(&mut values);
        if let Some(layer) = layer {
            let values = std::mem::take(&mut prints.waiting);
            prints.add(layer, &values);
        }
        Ok(())
    }
}

impl<B: Backend> Backend for Printing<B> {
    type Buffer = B::Buffer;
    type Weight = Named<B::Weight>;

    fn name(&self) -> String {
        self.backend.name()
    }

    fn largest(&self) -> f32 {
        self.backend.largest()
    }

    fn alloc(&self, len: usize) -> Result<B::Buffer> {
        self.backend.alloc(len)
    }

    fn alloc_f32(&self, len: usize) -> Result<B::Buffer> {
        self.backend.alloc_f32(len)
    }

    fn upload(&self, host: &[f32]) -> Result<B::Buffer> {
        self.backend.upload(host)
    }

    fn upload_f32(&self, host: &[f32]) -> Result<B::Buffer> {
        self.backend.upload_f32(host)
    }

    fn download(&self, buffer: &B::Buffer, offset: usize, host: &mut [f32]) -> Result<()> {
        self.backend.download(buffer, offset, host)
    }

    fn weight(&self, parts: Vec<Tensor>) -> Result<Self::Weight> {
        self.named(parts, B::weight)
    }

    fn prefetch_weight(&self, parts: Vec<Tensor>) -> Result<Self::Weight> {
        self.named(parts, B::prefetch_weight)
    }

    fn start_prefetch(&self) -> Result<()> {
        self.backend.start_prefetch()
    }

    fn finish_prefetch(&self) -> Result<()> {
        self.backend.finish_prefetch()
    }

    /// It belongs to the layer of the weight that it is made of.
    fn alloc_weight(&self, shape: &[usize]) -> Result<Self::Weight> {
        Ok(Named { weight: self.backend.alloc_weight(shape)?, layer: String::new() })
    }

    fn weight_values(&self, weight: &Self::Weight) -> Result<Vec<f32>> {
        self.backend.weight_values(&weight.weight)
    }

    fn run_linear(&self, op: &Linear, args: LinearArgs<'_, B::Buffer, Self::Weight>) -> Result<()> {
        let LinearArgs { x, weight: Named { weight, layer }, bias, gate, norm, mut moments, out } = args;
        let bias = bias.map(|bias| &bias.weight);
        let args = LinearArgs { x, weight, bias, gate, norm, moments: moments.as_deref_mut(), out: &mut *out };
        self.backend.run_linear(op, args)?;
        self.print(Some(layer), out)?;
        moments.map_or(Ok(()), |moments| self.print(Some(layer), moments))
    }

    fn run_attention(&self, op: &Attention, args: AttentionArgs<'_, B::Buffer>) -> Result<()> {
        let out = &mut *args.out;
        self.backend.run_attention(op, AttentionArgs { out: &mut *out, ..args })?;
        self.print(None, out)
    }

    fn run_ada_layer_norm(&self, op: &AdaLayerNorm, args: AdaLayerNormArgs<'_, B::Buffer>) -> Result<()> {
        let out = &mut *args.out;
        self.backend.run_ada_layer_norm(op, AdaLayerNormArgs { out: &mut *out, ..args })?;
        self.print(None, out)
    }

    fn run_layer_norm(&self, op: &LayerNorm, args: LayerNormArgs<'_, B::Buffer, Self::Weight>) -> Result<()> {
        let LayerNormArgs { x, weight: Named { weight, layer }, bias, out } = args;
        self.backend.run_layer_norm(op, LayerNormArgs { x, weight, bias: &bias.weight, out: &mut *out })?;
        self.print(Some(layer), out)
    }

    fn run_rms_norm(&self, op: &RmsNorm, args: RmsNormArgs<'_, B::Buffer, Self::Weight>) -> Result<()> {
        let RmsNormArgs { x, weight: Named { weight, layer }, out } = args;
        self.backend.run_rms_norm(op, RmsNormArgs { x, weight, out: &mut *out })?;
        self.print(Some(layer), out)
    }

    fn run_row_moments(&self, op: &RowMoments, args: RowMomentsArgs<'_, B::Buffer>) -> Result<()> {
        let moments = &mut *args.moments;
        self.backend.run_row_moments(op, RowMomentsArgs { moments: &mut *moments, ..args })?;
        self.print(None, moments)
    }

    fn run_row_statistics(&self, op: &RowStatistics, args: RowStatisticsArgs<'_, B::Buffer>) -> Result<()> {
        let statistics = &mut *args.statistics;
        self.backend.run_row_statistics(op, RowStatisticsArgs { statistics: &mut *statistics, ..args })?;
        self.print(None, statistics)
    }

    fn run_fold_norm(&self, op: &FoldNorm, args: FoldNormArgs<'_, B::Buffer, Self::Weight>) -> Result<()> {
        let FoldNormArgs { weight: Named { weight, layer }, bias, modulation, folded, columns } = args;
        let bias = bias.map(|bias| &bias.weight);
        folded.layer.clone_from(layer);
        let args = FoldNormArgs { weight, bias, modulation, folded: &mut folded.weight, columns: &mut *columns };
        self.backend.run_fold_norm(op, args)?;
        self.print(Some(layer), columns)
    }

    /// The convolution behind shows what the folded weight makes.
    fn run_fold_enlargement(&self, op: &FoldEnlargement, args: FoldEnlargementArgs<'_, Self::Weight>) -> Result<()> {
        let FoldEnlargementArgs { weight: Named { weight, layer }, folded } = args;
        folded.layer.clone_from(layer);
        self.backend.run_fold_enlargement(op, FoldEnlargementArgs { weight, folded: &mut folded.weight })
    }

    fn run_conv3d(&self, op: &Conv3d, args: ConvArgs<'_, B::Buffer, Self::Weight>) -> Result<()> {
        let ConvArgs { x, weight: Named { weight, layer }, bias, other, mut moments, out } = args;
        let bias = bias.map(|bias| &bias.weight);
        let args = ConvArgs { x, weight, bias, other, moments: moments.as_deref_mut(), out: &mut *out };
        self.backend.run_conv3d(op, args)?;
        self.print(Some(layer), out)?;
        moments.map_or(Ok(()), |moments| self.print(Some(layer), moments))
    }

    fn run_depthwise_conv(
        &self,
        op: &DepthwiseConv,
        args: DepthwiseConvArgs<'_, B::Buffer, Self::Weight>,
    ) -> Result<()> {
        let DepthwiseConvArgs { x, weight: Named { weight, layer }, bias, out } = args;
        self.backend.run_depthwise_conv(op, DepthwiseConvArgs { x, weight, bias: &bias.weight, out: &mut *out })?;
        self.print(Some(layer), out)
    }

    fn moments_len(&self, moments: &Moments) -> usize {
        self.backend.moments_len(moments)
    }

    fn statistics_len(&self, frames: usize, groups: usize) -> usize {
        self.backend.statistics_len(frames, groups)
    }

    fn run_group_moments(&self, op: &Moments, args: MomentsArgs<'_, B::Buffer>) -> Result<()> {
        let moments = &mut *args.moments;
        self.backend.run_group_moments(op, MomentsArgs { moments: &mut *moments, ..args })?;
        self.print(None, moments)
    }

    fn run_group_statistics(&self, op: &Statistics, args: StatisticsArgs<'_, B::Buffer>) -> Result<()> {
        let statistics = &mut *args.statistics;
        self.backend.run_group_statistics(op, StatisticsArgs { statistics: &mut *statistics, ..args })?;
        self.print(None, statistics)
    }

    fn run_group_norm(&self, op: &GroupNorm, args: GroupNormArgs<'_, B::Buffer, Self::Weight>) -> Result<()> {
        let GroupNormArgs { x, statistics, weight: Named { weight, layer }, bias, out } = args;
        let args = GroupNormArgs { x, statistics, weight, bias: &bias.weight, out: &mut *out };
        self.backend.run_group_norm(op, args)?;
        self.print(Some(layer), out)
    }

    fn run_time_average(&self, op: &TimeAverage, args: TimeAverageArgs<'_, B::Buffer>) -> Result<()> {
        let out = &mut *args.out;
        self.backend.run_time_average(op, TimeAverageArgs { out: &mut *out, ..args })?;
        self.print(None, out)
    }

    fn run_time_double(&self, op: &TimeDouble, args: TimeDoubleArgs<'_, B::Buffer>) -> Result<()> {
        let out = &mut *args.out;
        self.backend.run_time_double(op, TimeDoubleArgs { out: &mut *out, ..args })?;
        self.print(None, out)
    }

    fn run_regroup_frames(&self, op: &RegroupFrames, args: RegroupFramesArgs<'_, B::Buffer>) -> Result<()> {
        let out = &mut *args.out;
        self.backend.run_regroup_frames(op, RegroupFramesArgs { out: &mut *out, ..args })?;
        self.print(None, out)
    }

    fn run_embedding(&self, op: &Embedding, args: EmbeddingArgs<'_, B::Buffer, Self::Weight>) -> Result<()> {
        let EmbeddingArgs { ids, table: Named { weight: table, layer }, out } = args;
        self.backend.run_embedding(op, EmbeddingArgs { ids, table, out: &mut *out })?;
        self.print(Some(layer), out)
    }

    fn run_add_rows(&self, op: &AddRows, args: AddRowsArgs<'_, B::Buffer>) -> Result<()> {
        let x = &mut *args.x;
        self.backend.run_add_rows(op, AddRowsArgs { x: &mut *x, ..args })?;
        self.print(None, x)
    }

    fn run_patch_embed(&self, op: &PatchEmbed, args: PatchEmbedArgs<'_, B::Buffer, Self::Weight>) -> Result<()> {
        let PatchEmbedArgs { x, weight: Named { weight, layer }, bias, out } = args;
        self.backend.run_patch_embed(op, PatchEmbedArgs { x, weight, bias: &bias.weight, out: &mut *out })?;
        self.print(Some(layer), out)
    }

    fn run_unpatchify(&self, op: &Unpatchify, args: UnpatchifyArgs<'_, B::Buffer>) -> Result<()> {
        let out = &mut *args.out;
        self.backend.run_unpatchify(op, UnpatchifyArgs { out: &mut *out, ..args })?;
        self.print(None, out)
    }

    fn run_combine(&self, op: &Combine<'_>, args: CombineArgs<'_, B::Buffer>) -> Result<()> {
        let out = &mut *args.out;
        self.backend.run_combine(op, CombineArgs { out: &mut *out, ..args })?;
        self.print(None, out)
    }

    fn run_hold(&self, op: &Hold, args: HoldArgs<'_, B::Buffer>) -> Result<()> {
        let sample = &mut *args.sample;
        self.backend.run_hold(op, HoldArgs { sample: &mut *sample, ..args })?;
        self.print(None, sample)
    }

    fn run_copy_box(&self, op: &CopyBox, args: CopyBoxArgs<'_, B::Buffer>) -> Result<()> {
        let out = &mut *args.out;
        self.backend.run_copy_box(op, CopyBoxArgs { out: &mut *out, ..args })?;
        self.print(None, out)
    }

    fn run_blend_box(&self, op: &BlendBox, args: BlendBoxArgs<'_, B::Buffer>) -> Result<()> {
        let tile = &mut *args.tile;
        self.backend.run_blend_box(op, BlendBoxArgs { tile: &mut *tile, ..args })?;
        self.print(None, tile)
    }

    fn run_from_bytes(&self, op: &FromBytes, args: FromBytesArgs<'_, B::Buffer>) -> Result<()> {
        let out = &mut *args.out;
        self.backend.run_from_bytes(op, FromBytesArgs { out: &mut *out, ..args })?;
        self.print(None, out)
    }

    /// Bytes are made of an output that is printed.
    fn run_to_bytes(&self, op: &ToBytes, args: ToBytesArgs<'_, B::Buffer>) -> Result<Box<dyn Arriving>> {
        self.backend.run_to_bytes(op, args)
    }

    /// Only looks at outputs that are printed.
    fn run_distance(&self, op: &Distance, args: DistanceArgs<'_, B::Buffer>) -> Result<Box<dyn Arriving>> {
        self.backend.run_distance(op, args)
    }

    /// Only looks at an output that is printed.
    fn run_finite(&self, op: &Finite, args: FiniteArgs<'_, B::Buffer>) -> Result<Box<dyn Arriving>> {
        self.backend.run_finite(op, args)
    }
}
