//! Changes of a picture that leave its meaning: another window, other colours. Each is a function of a
//! counter, so a resumed run sees the same pictures.
//!
//! There is no mirroring: captions say left and right.

use crate::random::Random;
use altclip_image::Rgb;

/// How far pictures are changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    /// Smallest share of a picture's area that a window keeps; 1 keeps all of it.
    pub min_area: f32,
    /// Largest turn to either side, in degrees; corners that come into view are white.
    pub turn: f32,
    /// How far brightness, contrast and saturation go, as a share; 0 leaves them.
    pub colour: f32,
    /// Largest turn of the hue to either side, in degrees.
    pub hue: f32,
    /// Share of pictures that lose their colours.
    pub grey: f32,
    /// Share of pictures whose white ground takes another colour.
    pub ground: f32,
    /// Share of pictures whose shades become a few flat colours, as in a drawing.
    pub flat: f32,
    /// Share of pictures whose edges are drawn in dark lines.
    pub lines: f32,
}

impl Augment {
    /// Pictures as they are.
    pub const NONE: Self = Self {
        min_area: 1.0,
        turn: 0.0,
        colour: 0.0,
        hue: 0.0,
        grey: 0.0,
        ground: 0.0,
        flat: 0.0,
        lines: 0.0,
    };
    /// Windows of 90 % of the area and more, as CLIP was trained with; colours stay.
    ///
    /// # Source
    /// mlfoundations/open_clip `src/open_clip/transform.py`, `AugmentationCfg.scale` (commit 89fb801).
    pub const CROP: Self = Self { min_area: 0.9, ..Self::NONE };
    /// Windows, turns, colours, flat shades and drawn lines: for small sets, whose every picture is seen
    /// many times, and for drawings of one thing in many styles.
    pub const STRONG: Self = Self {
        min_area: 0.6,
        turn: 20.0,
        colour: 0.35,
        hue: 20.0,
        grey: 0.1,
        ground: 0.2,
        flat: 0.4,
        lines: 0.5,
    };

    /// The picture of sample `counter`.
    pub fn apply(&self, image: Rgb, seed: u64, counter: u64) -> Rgb {
        if *self == Self::NONE {
            return image;
        }
        let random = Random::named(seed, "augment");
        let mut draw = Draw { random, index: counter.wrapping_mul(DRAWS) };
        let mut canvas = Canvas::of(&self.window(image, &mut draw));
        let degrees = draw.between(-self.turn, self.turn);
        let zoom = draw.between(-0.25, 0.25).exp2();
        if self.turn > 0.0 {
            canvas = canvas.turned(degrees, zoom);
        }
        let (flat, levels) = (draw.unit() < self.flat, draw.between(2.0, 6.0).floor());
        if flat {
            canvas.flatten(levels);
        }
        let (lines, strength) = (draw.unit() < self.lines, draw.between(0.4, 1.5));
        if lines {
            canvas = canvas.outlined(strength);
        }
        self.colours(&mut canvas, &mut draw);
        canvas.picture()
    }

    fn window(&self, image: Rgb, draw: &mut Draw) -> Rgb {
        let (width, height) = (image.width(), image.height());
        let area = draw.between(self.min_area, 1.0);
        let ratio = draw.between(-0.15, 0.15).exp2();
        let (x, y) = (draw.unit(), draw.unit());
        if self.min_area >= 1.0 {
            return image;
        }
        let side = |full: u32, factor: f32| {
            ((full as f32 * area.sqrt() * factor).round() as u32).clamp(1, full)
        };
        let (w, h) = (side(width, ratio.sqrt()), side(height, ratio.sqrt().recip()));
        let (left, top) =
            ((x * (width - w + 1) as f32) as u32, (y * (height - h + 1) as f32) as u32);
        let (left, top) = (left.min(width - w), top.min(height - h));
        let columns = 3 * left as usize..3 * (left + w) as usize;
        let rows = (top..top + h).flat_map(|y| image.row(y).get(columns.clone()).unwrap_or(&[]));
        let data = rows.copied().collect();
        // The window lies inside, so the sizes agree.
        Rgb::from_raw(w, h, data).unwrap_or(image)
    }

    fn colours(&self, canvas: &mut Canvas, draw: &mut Draw) {
        let grey = draw.unit() < self.grey;
        let ground = draw.unit() < self.ground;
        let tint = [(); 3].map(|()| draw.between(120.0, 255.0));
        let hue = draw.between(-self.hue, self.hue).to_radians();
        let mut factor = || 1.0 + draw.between(-self.colour, self.colour);
        let (brightness, contrast, saturation) = (factor(), factor(), factor());
        let saturation = if grey { 0.0 } else { saturation };
        let (sin, cos) = hue.sin_cos();
        for pixel in &mut canvas.pixels {
            if ground && pixel.iter().all(|&value| value >= 250.0) {
                *pixel = tint;
            }
            let [r, g, b] = *pixel;
            let luma = 0.299 * r + 0.587 * g + 0.114 * b;
            // The plane of colours of one luma (YIQ), turned by the hue.
            let (i, q) = (0.596 * r - 0.274 * g - 0.322 * b, 0.211 * r - 0.523 * g + 0.312 * b);
            let (i, q) = (saturation * (cos * i - sin * q), saturation * (sin * i + cos * q));
            let turned = [
                luma + 0.956 * i + 0.621 * q,
                luma - 0.272 * i - 0.647 * q,
                luma - 1.106 * i + 1.703 * q,
            ];
            *pixel = turned
                .map(|value| (((value - 127.5) * contrast + 127.5) * brightness).clamp(0.0, 255.0));
        }
    }
}

/// A picture as numbers from 0 to 255.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<[f32; 3]>,
}

const WHITE: [f32; 3] = [255.0; 3];

impl Canvas {
    fn of(image: &Rgb) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let pixels = image.data().as_chunks().0.iter().map(|pixel| pixel.map(f32::from)).collect();
        Self { width, height, pixels }
    }

    fn picture(self) -> Rgb {
        let data = self.pixels.iter().flatten().map(|&value| value as u8).collect();
        let (width, height) = (self.width as u32, self.height as u32);
        // One pixel each, so the size agrees.
        Rgb::from_raw(width, height, data).unwrap_or_else(|_| {
            unreachable!("a canvas of {width} x {height} has so many pixels; this is a bug")
        })
    }

    fn at(&self, x: isize, y: isize) -> [f32; 3] {
        let inside = |at: isize, len: usize| usize::try_from(at).ok().filter(|&at| at < len);
        match (inside(x, self.width), inside(y, self.height)) {
            (Some(x), Some(y)) => self.pixels.get(y * self.width + x).copied().unwrap_or(WHITE),
            _ => WHITE,
        }
    }

    /// Turned about the middle and enlarged, with bilinear samples.
    fn turned(&self, degrees: f32, zoom: f32) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (sin, cos) = (sin / zoom, cos / zoom);
        let middle = [self.width as f32 / 2.0 - 0.5, self.height as f32 / 2.0 - 0.5];
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for y in 0..self.height {
            for x in 0..self.width {
                let (dx, dy) = (x as f32 - middle[0], y as f32 - middle[1]);
                let (sx, sy) = (middle[0] + cos * dx + sin * dy, middle[1] - sin * dx + cos * dy);
                let (left, top) = (sx.floor(), sy.floor());
                let (fx, fy) = (sx - left, sy - top);
                let (left, top) = (left as isize, top as isize);
                let corner = |dx: isize, dy: isize| self.at(left + dx, top + dy);
                let (a, b, c, d) = (corner(0, 0), corner(1, 0), corner(0, 1), corner(1, 1));
                let mut pixel = WHITE;
                for (n, value) in pixel.iter_mut().enumerate() {
                    let upper = a[n] + fx * (b[n] - a[n]);
                    let lower = c[n] + fx * (d[n] - c[n]);
                    *value = upper + fy * (lower - upper);
                }
                pixels.push(pixel);
            }
        }
        Self { pixels, ..*self }
    }

    /// Each channel in so many steps.
    fn flatten(&mut self, levels: f32) {
        let step = 255.0 / levels;
        for value in self.pixels.iter_mut().flatten() {
            *value = ((*value / step).round() * step).min(255.0);
        }
    }

    /// Darker where the luma changes: an edge of full contrast becomes black at strength 1.
    fn outlined(&self, strength: f32) -> Self {
        // A white border spares the loop below every question of where it is.
        let stride = self.width + 2;
        let mut luma = vec![255.0; stride * (self.height + 2)];
        let rows = luma.chunks_exact_mut(stride).skip(1).zip(self.pixels.chunks_exact(self.width));
        for (row, pixels) in rows {
            for (luma, [r, g, b]) in row[1..].iter_mut().zip(pixels) {
                *luma = 0.299 * r + 0.587 * g + 0.114 * b;
            }
        }
        let mut pixels = self.pixels.clone();
        for (y, row) in pixels.chunks_exact_mut(self.width).enumerate() {
            let [above, here, below] = [y, y + 1, y + 2].map(|y| &luma[y * stride..][..stride]);
            for (x, pixel) in row.iter_mut().enumerate() {
                let (across, down) = (here[x + 2] - here[x], below[x + 1] - above[x + 1]);
                let edge = (across * across + down * down).sqrt() / 80.0;
                let keep = (1.0 - strength * edge).clamp(0.0, 1.0);
                *pixel = pixel.map(|value| value * keep);
            }
        }
        Self { pixels, ..*self }
    }
}

/// Numbers that one picture may take.
const DRAWS: u64 = 32;

/// The numbers of one picture, one after the other.
struct Draw {
    random: Random,
    index: u64,
}

impl Draw {
    fn unit(&mut self) -> f32 {
        self.index = self.index.wrapping_add(1);
        self.random.uniform(self.index) as f32
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Rgb {
        let data = (0..20 * 10 * 3).map(|n| (n % 256) as u8).collect();
        Rgb::from_raw(20, 10, data).unwrap()
    }

    #[test]
    fn a_counter_gives_one_picture_and_another_counter_another() {
        let image = |counter| Augment::STRONG.apply(picture(), 7, counter);
        assert_eq!(image(3), image(3));
        assert_ne!(image(3), image(4));
        assert_eq!(Augment::NONE.apply(picture(), 7, 3), picture());
    }

    #[test]
    fn a_window_keeps_its_share_of_the_area() {
        for counter in 0..200 {
            let image = Augment::CROP.apply(picture(), 1, counter);
            let area = f64::from(image.width() * image.height()) / 200.0;
            assert!(area > 0.75 && area <= 1.0, "{area}");
        }
    }
}
