//! `preprocessor_config.json` in both of its shapes.

use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::preprocess::{CLIP_MEAN, CLIP_STD, Preprocessor, Resize};
use crate::resize::Filter;

/// Longest side that settings may ask for; far above any released model's.
const MAX_SIZE: u64 = 4096;

/// The processors of CLIP's family, whose steps are those of this crate. `Fast` and `Pil` name
/// other backends of the same processor.
const PROCESSORS: &[&str] = &["CLIP", "ChineseCLIP", "AltCLIP", WUKONG];
/// The name here for the order of Wukong's authors, who have no such file.
const WUKONG: &str = "Wukong";

#[derive(Deserialize)]
struct Raw {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    size: Option<Value>,
    crop_size: Option<Value>,
    resample: Option<Value>,
    rescale_factor: Option<Value>,
    image_mean: Option<Value>,
    image_std: Option<Value>,
    do_resize: Option<Value>,
    do_center_crop: Option<Value>,
    do_rescale: Option<Value>,
    do_normalize: Option<Value>,
    do_pad: Option<Value>,
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Preprocessor, Error> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| Error::Config {
        field: "the file",
        found: error.to_string(),
        expected: "a JSON object",
    })?;
    let names = [&raw.image_processor_type, &raw.feature_extractor_type];
    for name in names.into_iter().flatten() {
        check_processor(name)?;
    }
    let normalize_first = names.into_iter().flatten().any(|name| name.starts_with(WUKONG));
    if flag("do_pad", &raw.do_pad, false)? {
        return Err(invalid("do_pad", &Value::Bool(true), "false"));
    }
    let resize = if flag("do_resize", &raw.do_resize, true)? {
        raw.size.as_ref().map_or(Ok(Resize::ShortestEdge(224)), size)?
    } else {
        Resize::None
    };
    let crop = if flag("do_center_crop", &raw.do_center_crop, true)? {
        Some(raw.crop_size.as_ref().map_or(Ok((224, 224)), crop_size)?)
    } else {
        None
    };
    if crop.is_none() && !matches!(resize, Resize::Exact { .. }) {
        let expected = "true, or a size with height and width, so that all outputs are of one size";
        return Err(invalid("do_center_crop", &Value::Bool(false), expected));
    }
    let filter = match &raw.resample {
        None => Filter::Bicubic,
        Some(value) => value.as_u64().and_then(Filter::from_number).ok_or_else(|| {
            invalid("resample", value, "1 lanczos, 2 bilinear, 3 bicubic, 4 box or 5 hamming")
        })?,
    };
    if let (true, Some(value)) = (normalize_first && filter != Filter::Bicubic, &raw.resample) {
        return Err(invalid("resample", value, "3 bicubic, the only one for Wukong's order"));
    }
    let rescale = if flag("do_rescale", &raw.do_rescale, true)? {
        Some(match &raw.rescale_factor {
            None => 1.0 / 255.0,
            Some(value) => number("rescale_factor", value)?,
        })
    } else {
        None
    };
    let normalize = if flag("do_normalize", &raw.do_normalize, true)? {
        let mean = raw.image_mean.as_ref().map_or(Ok(CLIP_MEAN), |v| triple("image_mean", v))?;
        let std = raw.image_std.as_ref().map_or(Ok(CLIP_STD), |v| triple("image_std", v))?;
        if let Some(value) = std.iter().find(|value| **value as f32 == 0.0) {
            return Err(invalid("image_std", &Value::from(*value), "numbers other than zero"));
        }
        Some((mean, std))
    } else {
        None
    };
    let preprocessor = Preprocessor::new(resize, filter, crop, rescale, normalize);
    Ok(if normalize_first { preprocessor.normalizing_first() } else { preprocessor })
}

fn invalid(field: &'static str, found: &Value, expected: &'static str) -> Error {
    Error::Config { field, found: found.to_string(), expected }
}

fn check_processor(name: &str) -> Result<(), Error> {
    let stem = ["Fast", "Pil"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let family =
        ["ImageProcessor", "FeatureExtractor"].iter().find_map(|end| stem.strip_suffix(end));
    if family.is_some_and(|family| PROCESSORS.contains(&family)) {
        return Ok(());
    }
    Err(Error::Config {
        field: "image_processor_type",
        found: name.to_owned(),
        expected: "CLIPImageProcessor, ChineseCLIPImageProcessor or a backend of these",
    })
}

fn flag(field: &'static str, value: &Option<Value>, default: bool) -> Result<bool, Error> {
    match value {
        None => Ok(default),
        Some(value) => value.as_bool().ok_or_else(|| invalid(field, value, "true or false")),
    }
}

/// A side in pixels.
fn side(field: &'static str, value: &Value) -> Result<u32, Error> {
    match value.as_u64() {
        Some(side @ 1..=MAX_SIZE) => Ok(side as u32),
        _ => Err(invalid(field, value, "a whole number from 1 to 4096")),
    }
}

/// `{"height": h, "width": w}` or `[h, w]`.
fn rows_columns(field: &'static str, value: &Value) -> Result<Option<(u32, u32)>, Error> {
    let (height, width) = match value {
        Value::Array(sides) => match sides.as_slice() {
            [height, width] => (height, width),
            _ => return Err(invalid(field, value, "two numbers, height and width")),
        },
        _ => match (value.get("height"), value.get("width")) {
            (Some(height), Some(width)) => (height, width),
            _ => return Ok(None),
        },
    };
    Ok(Some((side(field, height)?, side(field, width)?)))
}

fn size(value: &Value) -> Result<Resize, Error> {
    if value.is_number() {
        return side("size", value).map(Resize::ShortestEdge);
    }
    let expected = "a number, {shortest_edge} or {height, width}";
    if value.get("longest_edge").is_some_and(|edge| !edge.is_null()) {
        return Err(invalid("size", value, expected));
    }
    if let Some(edge) = value.get("shortest_edge").filter(|edge| !edge.is_null()) {
        return side("size", edge).map(Resize::ShortestEdge);
    }
    match rows_columns("size", value)? {
        Some((height, width)) => Ok(Resize::Exact { height, width }),
        None => Err(invalid("size", value, expected)),
    }
}

fn crop_size(value: &Value) -> Result<(u32, u32), Error> {
    if value.is_number() {
        return side("crop_size", value).map(|side| (side, side));
    }
    rows_columns("crop_size", value)?
        .ok_or_else(|| invalid("crop_size", value, "a number or {height, width}"))
}

fn number(field: &'static str, value: &Value) -> Result<f64, Error> {
    let finite = |number: &f64| (*number as f32).is_finite();
    value.as_f64().filter(finite).ok_or_else(|| invalid(field, value, "a finite number"))
}

/// Three numbers, or one for all channels.
fn triple(field: &'static str, value: &Value) -> Result<[f64; 3], Error> {
    match value {
        Value::Array(values) => match values.as_slice() {
            [red, green, blue] => {
                Ok([number(field, red)?, number(field, green)?, number(field, blue)?])
            }
            _ => Err(invalid(field, value, "three numbers")),
        },
        _ => number(field, value).map(|number| [number; 3]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_mean_the_same() {
        let old = br#"{"crop_size": 224, "size": 224, "resample": 3, "do_normalize": true,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "feature_extractor_type": "CLIPFeatureExtractor"}"#;
        let new = br#"{"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224},
            "do_rescale": true, "rescale_factor": 0.00392156862745098, "do_convert_rgb": true,
            "image_processor_type": "CLIPImageProcessor", "processor_class": "AltCLIPProcessor"}"#;
        let clip = Preprocessor::clip(224);
        assert_eq!(parse(old).unwrap(), clip);
        assert_eq!(parse(new).unwrap(), clip);
        assert_eq!(parse(b"{}").unwrap(), clip);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let cases: &[(&str, &str)] = &[
            ("[]", "the file"),
            ("{", "the file"),
            (r#"{"image_processor_type": "ViTImageProcessor"}"#, "image_processor_type"),
            (r#"{"size": 0}"#, "size"),
            (r#"{"size": 1e9}"#, "size"),
            (r#"{"size": {"longest_edge": 4}}"#, "size"),
            (r#"{"crop_size": {"height": 4}}"#, "crop_size"),
            (r#"{"resample": 0}"#, "resample"),
            (r#"{"do_resize": "yes"}"#, "do_resize"),
            (r#"{"do_center_crop": false}"#, "do_center_crop"),
            (r#"{"do_pad": true}"#, "do_pad"),
            (r#"{"image_mean": [1, 2]}"#, "image_mean"),
            (r#"{"image_std": [1, 0, 1]}"#, "image_std"),
            (r#"{"rescale_factor": 1e300}"#, "rescale_factor"),
            (r#"{"image_processor_type": "WukongImageProcessor", "resample": 2}"#, "resample"),
        ];
        for (text, expected) in cases {
            match parse(text.as_bytes()) {
                Err(Error::Config { field, .. }) => assert_eq!(field, *expected, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn wukongs_order_has_a_name() {
        let text =
            br#"{"image_processor_type": "WukongImageProcessor", "size": 24, "crop_size": 24}"#;
        assert_eq!(parse(text).unwrap(), Preprocessor::wukong(24));
        assert_ne!(Preprocessor::wukong(24), Preprocessor::clip(24));
    }

    #[test]
    fn squashing_processors_are_understood() {
        let text = br#"{"image_processor_type": "ChineseCLIPImageProcessorFast",
            "size": {"height": 30, "width": 20}, "do_center_crop": false}"#;
        let preprocessor = parse(text).unwrap();
        assert_eq!(preprocessor.resize(), Resize::Exact { height: 30, width: 20 });
        assert_eq!(preprocessor.output_size(), (30, 20));
    }
}
