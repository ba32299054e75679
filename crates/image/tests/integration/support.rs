//! Pictures that tests make themselves, and a slow, plain port of Pillow's resize as an oracle.

use altclip_image::Rgb;

/// Pseudo-random numbers, the same as in the reference script.
pub(crate) struct Lcg(pub(crate) u32);

impl Lcg {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 8) as usize % n
    }
}

/// A gradient with noise, as `synthetic` in the reference script.
pub(crate) fn synthetic(width: u32, height: u32) -> Rgb {
    let mut lcg = Lcg(1);
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                data.push((5 * x + 3 * y + 50 * c + (lcg.next() >> 27)) as u8);
            }
        }
    }
    Rgb::from_raw(width, height, data).unwrap()
}

/// FNV-1a.
pub(crate) fn checksum(bytes: impl IntoIterator<Item = u8>) -> String {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// A PNG of `rows`, which are packed as `depth` says.
pub(crate) fn png(
    width: u32,
    height: u32,
    color: png::ColorType,
    depth: png::BitDepth,
    rows: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(rows).unwrap();
    writer.finish().unwrap();
    out
}

pub(crate) fn png_of(image: &Rgb) -> Vec<u8> {
    png(image.width(), image.height(), png::ColorType::Rgb, png::BitDepth::Eight, image.data())
}

/// The whole of `image` resized with the bicubic filter, one value after the other.
///
/// `shift` moves the centre of every filter; 0 is right, anything else is a negative control.
pub(crate) fn naive_resize(image: &Rgb, width: u32, height: u32, shift: f64) -> Rgb {
    let across = |image: &Rgb| naive_across(image, width, shift);
    let down = |image: &Rgb| transposed(&naive_across(&transposed(image), height, shift));
    let rows = i64::from(image.height()) - i64::from(height);
    let columns = i64::from(image.width()) - i64::from(width);
    if rows > 0 && rows > 2 * columns { across(&down(image)) } else { down(&across(image)) }
}

fn transposed(image: &Rgb) -> Rgb {
    let mut data = Vec::with_capacity(image.data().len());
    for x in 0..image.width() as usize {
        (0..image.height()).for_each(|y| data.extend_from_slice(&image.row(y)[3 * x..3 * x + 3]));
    }
    Rgb::from_raw(image.height(), image.width(), data).unwrap()
}

fn naive_across(image: &Rgb, width: u32, shift: f64) -> Rgb {
    let weights = naive_weights(image.width() as usize, width as usize, shift);
    let mut data = Vec::new();
    for y in 0..image.height() {
        for (first, weights) in &weights {
            data.extend(
                [0, 1, 2].map(|c| naive_sum(weights, |k| image.row(y)[3 * (first + k) + c])),
            );
        }
    }
    Rgb::from_raw(width, image.height(), data).unwrap()
}

fn naive_weights(source: usize, output: usize, shift: f64) -> Vec<(usize, Vec<i64>)> {
    if source == output && shift == 0.0 {
        return (0..output).map(|i| (i, vec![1 << 22])).collect();
    }
    let scale = source as f64 / output as f64;
    let stretch = scale.max(1.0);
    (0..output)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale + shift;
            let first = ((centre - 2.0 * stretch + 0.5).trunc()).max(0.0) as usize;
            let end = ((centre + 2.0 * stretch + 0.5).trunc() as usize).min(source);
            let cubic = |x: f64| {
                let x = x.abs();
                if x < 1.0 {
                    (1.5 * x - 2.5) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
                } else {
                    0.0
                }
            };
            let taps: Vec<f64> =
                (first..end).map(|k| cubic((k as f64 - centre + 0.5) * (1.0 / stretch))).collect();
            let total: f64 = taps.iter().sum();
            let fixed = |w: &f64| {
                let scaled = w / total * f64::from(1 << 22);
                (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i64
            };
            (first, taps.iter().map(fixed).collect())
        })
        .collect()
}

fn naive_sum(weights: &[i64], value: impl Fn(usize) -> u8) -> u8 {
    let sum: i64 = weights.iter().enumerate().map(|(k, w)| w * i64::from(value(k))).sum();
    ((sum + (1 << 21)) >> 22).clamp(0, 255) as u8
}
