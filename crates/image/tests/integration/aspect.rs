//! The crop window alone equals the crop of the whole resized picture, whatever the aspect.

use altclip_image::{Filter, Preprocessor, Rgb, Window, resize_window};

use crate::support::{Lcg, naive_resize, synthetic};

fn noise(width: u32, height: u32, lcg: &mut Lcg) -> Rgb {
    let data = (0..3 * width as usize * height as usize).map(|_| (lcg.next() >> 24) as u8);
    Rgb::from_raw(width, height, data.collect()).unwrap()
}

fn check(image: &Rgb, size: u32) {
    let (width, height) = (image.width(), image.height());
    let long =
        (f64::from(size) * f64::from(width.max(height)) / f64::from(width.min(height))) as u32;
    let (columns, rows) = if width <= height { (size, long) } else { (long, size) };
    let whole = naive_resize(image, columns, rows, 0.0);
    let crop = Preprocessor::clip(size).crop_rgb(image).unwrap();
    let (x0, y0) = ((columns - size) / 2, (rows - size) / 2);
    for y in 0..size {
        let expected = &whole.row(y0 + y)[3 * x0 as usize..3 * (x0 + size) as usize];
        assert_eq!(crop.row(y), expected, "{width} x {height} to {size}, row {y}");
    }
}

#[test]
fn the_window_equals_the_whole() {
    let mut lcg = Lcg(77);
    for (width, height, size) in
        [(1, 65_535, 2), (65_535, 1, 2), (2, 65_535, 3), (40_000, 3, 5), (1, 3000, 9), (3000, 1, 9)]
    {
        check(&noise(width, height, &mut lcg), size);
    }
    // ALTCLIP_ASPECT_CASES=10000 is the long run of the recipe.
    let cases = std::env::var("ALTCLIP_ASPECT_CASES").ok().and_then(|n| n.parse().ok());
    for _ in 0..cases.unwrap_or(1000) {
        let short = 1 + lcg.below(24) as u32;
        let long = short + lcg.below(if short < 6 { 400 } else { 60 }) as u32;
        let (width, height) = if lcg.below(2) == 0 { (short, long) } else { (long, short) };
        check(&noise(width, height, &mut lcg), 1 + lcg.below(20) as u32);
    }
}

#[test]
fn windows_of_any_filter_fit_together() {
    let image = synthetic(53, 41);
    for filter in [1, 2, 3, 4, 5].map(|number| Filter::from_number(number).unwrap()) {
        let all = Window { left: 0, top: 0, width: 30, height: 25 };
        let whole = resize_window(&image, 30, 25, filter, all).unwrap();
        let part = Window { left: 11, top: 7, width: 9, height: 13 };
        let window = resize_window(&image, 30, 25, filter, part).unwrap();
        for y in 0..13 {
            assert_eq!(window.row(y), &whole.row(7 + y)[33..60], "{filter:?}");
        }
    }
}

/// Negative control: the comparison above sees a window that is one column off.
#[test]
fn a_window_one_off_is_seen() {
    let image = synthetic(53, 41);
    let at = |left| {
        let window = Window { left, top: 7, width: 9, height: 13 };
        resize_window(&image, 30, 25, Filter::Bicubic, window).unwrap()
    };
    assert_ne!(at(11), at(12));
}
