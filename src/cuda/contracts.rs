//! The kernels' parameters as Rust declares them, for the test that compares them with the sources.

use super::params::{Fields, Params, padded};
use super::{
    FLAT_THREADS, attention, conv3d, depthwise, distance, embed, enlarge, facts, facts_sm90, finite, folded, gemm,
    groupnorm, norm, patch, pixels, resample, sampler, tile,
};

/// A struct of parameters, and the threads that are launched with it.
#[derive(Clone, Copy, Debug)]
pub struct Contract {
    /// Stem of the file of kernels.
    pub stem: &'static str,
    /// Struct in that file.
    pub params: &'static str,
    /// Its fields: the names that their type may have in that file, and their own names.
    pub fields: Fields,
    /// Its size in Rust, in bytes.
    pub bytes: usize,
    /// The numbers of threads that its kernels are launched with.
    pub threads: &'static [u32],
}

impl Contract {
    /// The bytes that a kernel takes: its struct's size in the file.
    pub fn launched_bytes(&self) -> usize {
        padded(self.fields, self.bytes)
    }
}

const fn contract<P: Params>(stem: &'static str, threads: &'static [u32]) -> Contract {
    Contract { stem, params: P::NAME, fields: P::FIELDS, bytes: size_of::<P>(), threads }
}

/// Every struct of parameters.
pub const CONTRACTS: &[Contract] = &[
    contract::<attention::AttentionParams>("attention", &[attention::THREADS]),
    contract::<attention::sm90::AttentionSm90Params>("attention_sm90", &[attention::sm90::THREADS]),
    contract::<attention::AttentionParams>("attention_wide", &attention::wide::THREADS),
    contract::<conv3d::CausalConv3dParams>("conv3d", &[conv3d::THREADS]),
    contract::<conv3d::sm90::CausalConv3dSm90Params>("conv3d_sm90", &[conv3d::sm90::THREADS]),
    contract::<depthwise::DepthwiseConvParams>("depthwise", &[FLAT_THREADS]),
    contract::<distance::DistanceParams>("distance", &[FLAT_THREADS]),
    contract::<embed::EmbeddingParams>("embed", &[FLAT_THREADS]),
    contract::<embed::AddRowsParams>("embed", &[FLAT_THREADS]),
    contract::<enlarge::FoldEnlargementParams>("enlarge", &[FLAT_THREADS]),
    contract::<facts::FactParams>("facts", &[FLAT_THREADS]),
    contract::<facts_sm90::BoxFactParams>("facts_sm90", &[facts_sm90::THREADS[0]]),
    contract::<facts_sm90::GroupFactParams>("facts_sm90", &[facts_sm90::THREADS[0]]),
    contract::<facts_sm90::MulticastFactParams>("facts_sm90", &[facts_sm90::THREADS[0]]),
    contract::<facts_sm90::RegistersFactParams>("facts_sm90", &[facts_sm90::THREADS[1], facts_sm90::THREADS[2]]),
    contract::<finite::FiniteParams>("finite", &[FLAT_THREADS]),
    contract::<folded::RowMomentsParams>("folded", &[folded::THREADS]),
    contract::<folded::RowStatisticsParams>("folded", &[folded::THREADS]),
    contract::<folded::FoldNormParams>("folded", &[folded::THREADS]),
    contract::<gemm::GemmParams>("gemm", &[gemm::THREADS]),
    contract::<gemm::sm90::GemmSm90Params>("gemm_sm90", &[gemm::sm90::THREADS]),
    contract::<groupnorm::GroupMomentsParams>("groupnorm", &[groupnorm::THREADS]),
    contract::<groupnorm::GroupCombineParams>("groupnorm", &[groupnorm::THREADS]),
    contract::<groupnorm::GroupApplyParams>("groupnorm", &[groupnorm::THREADS]),
    contract::<norm::NormParams>("norm", &[norm::THREADS]),
    contract::<patch::PatchEmbedParams>("patch", &[FLAT_THREADS]),
    contract::<patch::UnpatchifyParams>("patch", &[FLAT_THREADS]),
    contract::<pixels::PixelsParams>("pixels", &[FLAT_THREADS]),
    contract::<resample::ResampleParams>("resample", &[FLAT_THREADS]),
    contract::<resample::RegroupFramesParams>("resample", &[FLAT_THREADS]),
    contract::<sampler::CombineParams>("sampler", &[FLAT_THREADS]),
    contract::<sampler::HoldParams>("sampler", &[FLAT_THREADS]),
    contract::<tile::CopyBoxParams>("tile", &[FLAT_THREADS]),
    contract::<tile::BlendBoxParams>("tile", &[FLAT_THREADS]),
];
