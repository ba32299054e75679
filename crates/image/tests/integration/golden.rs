//! Parity: RGB bytes equal Pillow's, pixel values equal those of `CLIPImageProcessorPil`.

use altclip_image::{Alpha, DecodeOptions, Preprocessor, Rgb, decode, decode_and_preprocess};
use serde::Deserialize;

use crate::support::{checksum, naive_resize, synthetic};

#[derive(Deserialize)]
struct Goldens {
    pictures: Vec<Picture>,
    tensors: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Picture {
    name: String,
    width: u32,
    height: u32,
    rgb: String,
    first: Vec<u8>,
    white: String,
    file: String,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    config: String,
    width: u32,
    height: u32,
    shape: [usize; 3],
    values: String,
    first: Vec<f32>,
}

fn goldens() -> Goldens {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/image/pictures.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().as_chunks::<2>().0;
    digits
        .iter()
        .map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap())
        .collect()
}

/// Name and bytes of every golden file.
pub(crate) fn files() -> Vec<(String, Vec<u8>)> {
    goldens().pictures.into_iter().map(|p| (p.name, bytes(&p.file))).collect()
}

/// The bytes of one golden file.
pub(crate) fn file(name: &str) -> Vec<u8> {
    files().into_iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name}")).1
}

#[test]
fn decoded_pictures_equal_pillows() {
    let pictures = goldens().pictures;
    assert!(pictures.len() >= 80);
    for picture in pictures {
        let file = bytes(&picture.file);
        let rgb = decode(&file, &DecodeOptions::default())
            .unwrap_or_else(|error| panic!("{}: {error}", picture.name));
        assert_eq!(
            (rgb.width(), rgb.height()),
            (picture.width, picture.height),
            "{}",
            picture.name
        );
        let n = picture.first.len();
        assert_eq!(rgb.data()[..n], picture.first, "{}", picture.name);
        assert_eq!(checksum(rgb.into_data()), picture.rgb, "{}", picture.name);
        let options = DecodeOptions { alpha: Alpha::CompositeWhite, ..Default::default() };
        let white = decode(&file, &options).unwrap();
        assert_eq!(checksum(white.into_data()), picture.white, "{} on white", picture.name);
    }
}

/// The part that is decoded for a preprocessor gives the values that the whole picture gives.
#[test]
fn decoding_for_a_preprocessor_changes_nothing() {
    let configs = [
        r#"{"size": 20, "crop_size": 20}"#,
        r#"{"size": 7, "crop_size": 5, "resample": 1}"#,
        r#"{"size": 90, "crop_size": 64, "resample": 2}"#,
        r#"{"size": 10, "crop_size": 40}"#,
        r#"{"size": {"height": 9, "width": 21}, "crop_size": {"height": 3, "width": 14}}"#,
        r#"{"do_resize": false, "crop_size": 12}"#,
    ];
    let options = [false, true].map(|apply_exif_orientation| DecodeOptions {
        apply_exif_orientation,
        ..Default::default()
    });
    for (name, file) in files() {
        for config in configs {
            let preprocessor = Preprocessor::from_json(config.as_bytes()).unwrap();
            for options in &options {
                let expected = preprocessor.apply(&decode(&file, options).unwrap()).unwrap();
                let mut values = vec![f32::NAN; expected.len()];
                decode_and_preprocess(&file, options, &preprocessor, &mut values).unwrap();
                assert_eq!(values, expected, "{name}, {config}");
            }
        }
    }
}

fn value_sum(values: &[f32]) -> String {
    checksum(values.iter().flat_map(|value| value.to_le_bytes()))
}

#[test]
fn pixel_values_equal_the_image_processors() {
    let tensors = goldens().tensors;
    assert!(tensors.len() >= 150);
    for tensor in tensors {
        let preprocessor = Preprocessor::from_json(tensor.config.as_bytes()).unwrap();
        let (height, width) = preprocessor.output_size();
        assert_eq!([3, height, width], tensor.shape, "{}", tensor.name);
        let values = preprocessor.apply(&synthetic(tensor.width, tensor.height)).unwrap();
        let place = format!("{} of {} x {}", tensor.name, tensor.width, tensor.height);
        assert_eq!(values[..tensor.first.len()], tensor.first, "{place}");
        assert_eq!(value_sum(&values), tensor.values, "{place}");
    }
}

#[derive(Deserialize)]
struct Wukong {
    side: u32,
    step: usize,
    pictures: Vec<Normalized>,
}

#[derive(Deserialize)]
struct Normalized {
    width: u32,
    height: u32,
    values: Vec<f32>,
}

#[test]
fn pixels_that_are_normalised_first_equal_opencvs_cubic() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/image/wukong.json");
    let golden: Wukong = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (wukong, clip) = (Preprocessor::wukong(golden.side), Preprocessor::clip(golden.side));
    for Normalized { width, height, values } in &golden.pictures {
        let image = synthetic(*width, *height);
        let off = |preprocessor: &Preprocessor| {
            let found = preprocessor.apply(&image).unwrap();
            assert_eq!(found.len().div_ceil(golden.step), values.len());
            let apart = found.iter().step_by(golden.step).zip(values).map(|(a, b)| (a - b).abs());
            apart.fold(0.0f32, f32::max)
        };
        assert!(off(&wukong) < 2e-5, "{width} x {height}: {}", off(&wukong));
        // Control: CLIP's order is another picture, but where nothing is resized.
        assert!(off(&clip) > 0.01 || (*width, *height) == (24, 24), "{width} x {height}");
        let mut decoded = vec![f32::NAN; wukong.apply(&image).unwrap().len()];
        let file = crate::support::png_of(&image);
        decode_and_preprocess(&file, &DecodeOptions::default(), &wukong, &mut decoded).unwrap();
        assert_eq!(decoded, wukong.apply(&image).unwrap());
    }
    // A crop larger than the picture is filled up with zeros, behind the normalisation.
    let json = r#"{"image_processor_type": "WukongImageProcessor", "size": 8, "crop_size": 10}"#;
    let values = Preprocessor::from_json(json.as_bytes()).unwrap().apply(&synthetic(8, 8)).unwrap();
    let inner = clip_like(8, &synthetic(8, 8));
    assert_eq!((values.len(), values[0], values[11]), (300, 0.0, inner[0]));
}

/// The pixel values of a picture that has its size.
fn clip_like(size: u32, image: &Rgb) -> Vec<f32> {
    Preprocessor::clip(size).apply(image).unwrap()
}

/// Pixel values of a crop at (`left`, `top`) of the picture resized by the naive oracle.
fn naive_values(image: &Rgb, size: u32, shift: f64, left: u32) -> Vec<f32> {
    let (width, height) = (image.width(), image.height());
    let long = size * width.max(height) / width.min(height);
    let (width, height) = if width <= height { (size, long) } else { (long, size) };
    let resized = naive_resize(image, width, height, shift);
    let (x0, y0) = ((width - size) / 2 + left, (height - size) / 2);
    let rows = (y0..y0 + size)
        .flat_map(|y| resized.row(y)[3 * x0 as usize..3 * (x0 + size) as usize].to_vec());
    let crop = Rgb::from_raw(size, size, rows.collect()).unwrap();
    // The crop has its size already, so this only rescales and normalises.
    Preprocessor::clip(size).apply(&crop).unwrap()
}

/// Negative control: what the goldens must not accept.
#[test]
fn the_goldens_tell_half_a_pixel_and_one_column() {
    let tensor = goldens()
        .tensors
        .into_iter()
        .find(|tensor| tensor.name == "old" && tensor.width == 61)
        .unwrap();
    let image = synthetic(tensor.width, tensor.height);
    assert_eq!(value_sum(&naive_values(&image, 30, 0.0, 0)), tensor.values);
    assert_ne!(value_sum(&naive_values(&image, 30, 0.5, 0)), tensor.values, "half a pixel off");
    assert_ne!(value_sum(&naive_values(&image, 30, 0.0, 1)), tensor.values, "one column off");
}
