//! H.264 through openh264: an encoder and a decoder.

use super::VideoInfo;
use super::yuv::{self, Colour, Planes, Siting, Yuv420};
use openh264::decoder::{DecodedYUV, DecoderConfig, Flush};
use openh264::encoder::{
    BitRate, Complexity, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, QpRange, RateControlMode, VuiConfig,
};
use openh264::formats::YUVSource;
use openh264::{OpenH264API, Timestamp};

/// NAL unit type of a frame at which decoding can begin.
pub(super) const IDR: u8 = 5;
/// NAL unit type of a sequence parameter set.
pub(super) const SPS: u8 = 7;
pub(super) const PPS: u8 = 8;

/// The quantiser, from 0 (nearly lossless) to 51. At 20, differences are hard to see.
const QUANTISER: u8 = 20;

/// A result with openh264's error.
pub(super) type Result<T> = std::result::Result<T, openh264::Error>;

/// A coded frame.
#[derive(Default)]
pub(super) struct Unit {
    /// NAL units without start codes.
    pub nals: Vec<Vec<u8>>,
    /// Whether decoding can begin here.
    pub key: bool,
}

/// Encodes frames to coded frames in the same order: there are no B-frames.
pub(super) struct Encoder {
    inner: openh264::encoder::Encoder,
    info: VideoInfo,
    planes: Yuv420,
    frames: u64,
}

impl Encoder {
    pub fn new(info: VideoInfo) -> Result<Self> {
        let fps = info.fps.as_f64();
        // Constant quality: no mode of openh264 has this name, but this mode keeps the quantiser within the limits,
        // drops no frames and ignores the bit rate, which only decides the signalled level.
        let config = EncoderConfig::new()
            .rate_control_mode(RateControlMode::Bufferbased)
            .qp(QpRange::new(QUANTISER, QUANTISER + 2))
            .bitrate(BitRate::from_bps(10_000_000))
            .skip_frames(false)
            .max_frame_rate(FrameRate::from_hz(fps as f32))
            .complexity(Complexity::High)
            .intra_frame_period(IntraFramePeriod::from_num_frames((2.0 * fps).ceil() as u32))
            // One thread: with more, the number of slices, and so the bytes, would depend on the number of cores.
            .num_threads(1)
            .vui(VuiConfig::bt709());
        let inner = openh264::encoder::Encoder::with_api_config(OpenH264API::from_source(), config)?;
        Ok(Self { inner, info, planes: Yuv420::default(), frames: 0 })
    }

    /// Encodes the next frame, `[H, W, 3]`.
    pub fn encode(&mut self, rgb: &[u8]) -> Result<Unit> {
        self.planes.convert(rgb, self.info.width, self.info.height, Colour::BT709);
        let milliseconds = self.frames as f64 * 1000.0 / self.info.fps.as_f64();
        self.frames += 1;
        let coded = self.inner.encode_at(&self.planes, Timestamp::from_millis(milliseconds as u64))?;
        let mut unit = Unit { key: coded.frame_type() == FrameType::IDR, nals: Vec::new() };
        for layer in (0..coded.num_layers()).filter_map(|index| coded.layer(index)) {
            for nal in (0..layer.nal_count()).filter_map(|index| layer.nal_unit(index)) {
                let start = nal.iter().position(|&byte| byte == 1).map_or(0, |one| one + 1);
                unit.nals.push(nal[start..].to_vec());
            }
        }
        Ok(unit)
    }
}

impl YUVSource for Yuv420 {
    fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    fn strides(&self) -> (usize, usize, usize) {
        (self.width, self.width / 2, self.width / 2)
    }

    fn y(&self) -> &[u8] {
        &self.y
    }

    fn u(&self) -> &[u8] {
        &self.u
    }

    fn v(&self) -> &[u8] {
        &self.v
    }
}

/// A decoded frame.
pub(super) struct Picture {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

/// The decoder has stopped: its input is damaged or of an unsupported kind. openh264 does not report which.
pub(super) struct Stopped;

/// Decodes coded frames, which come in decoding order, to frames in presentation order.
pub(super) struct Decoder {
    inner: openh264::decoder::Decoder,
    /// The colour space of the next pictures.
    pub colour: Colour,
}

impl Decoder {
    pub fn new(colour: Colour) -> std::result::Result<Self, Stopped> {
        // The default, a flush after each unit, breaks streams with B-frames: their pictures must wait for each other.
        let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        let inner =
            openh264::decoder::Decoder::with_api_config(OpenH264API::from_source(), config).map_err(|_| Stopped)?;
        Ok(Self { inner, colour })
    }

    /// Decodes NAL units with start codes; gives the next picture, if one is ready to be shown.
    pub fn decode(&mut self, annex_b: &[u8]) -> std::result::Result<Option<Picture>, Stopped> {
        let colour = self.colour;
        let decoded = self.inner.decode(annex_b).map_err(|_| Stopped)?;
        Ok(decoded.map(|decoded| picture(&decoded, colour)))
    }

    /// The waiting pictures. All pictures that are decoded later must be shown after them.
    pub fn drain(&mut self) -> std::result::Result<Vec<Picture>, Stopped> {
        let colour = self.colour;
        let waiting = self.inner.flush_remaining().map_err(|_| Stopped)?;
        Ok(waiting.iter().map(|decoded| picture(decoded, colour)).collect())
    }
}

fn picture(decoded: &DecodedYUV, colour: Colour) -> Picture {
    let ((width, height), (y, u, v)) = (decoded.dimensions(), decoded.strides());
    let planes = Planes {
        width,
        height,
        data: [decoded.y(), decoded.u(), decoded.v()],
        stride: [y, u, v],
        halved: (true, true),
        siting: Siting::Left,
    };
    Picture { width, height, rgb: yuv::to_rgb(&planes, colour) }
}
