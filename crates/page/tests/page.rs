//! Whole pages: nothing foreign becomes markup, nothing is loaded, and a browser gets sound structure.
#![allow(clippy::unwrap_used)]

use altclip_page::{
    Axis, Bar, BarChart, Cell, Error, Heatmap, KeyFigure, LineChart, Mark, Page, Picture, Point,
    Sheet, Table, Tile,
};
use proptest::prelude::*;

/// The smallest file that begins as a PNG.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\"><script>";

/// A page of every kind of block, with `text` wherever a text can be.
fn page(text: &str, numbers: &[f64]) -> String {
    let mut page = Page::new(text);
    page.paragraph(text).note(text).preformatted(text);
    page.figures(&[KeyFigure::new(text, text).note(text), KeyFigure::new("R@1", "72.5")]);
    page.section(text).heading(text);
    let mut table = Table::new([text, "n"]);
    table.caption(text).row([Cell::text(text), Cell::number(1.5, 1).strong()]);
    table.row([text, text]).row([Cell::value(text).strong(), Cell::number(f64::NAN, 2)]);
    page.add(&table);
    let mut lines = LineChart::new(text, Axis::linear(text), Axis::log(text));
    let points = || numbers.iter().enumerate().map(|(x, &y)| (x as f64, y));
    lines.line(text, points());
    let interval = |(x, y)| Point { x, y, interval: Some([y - 0.1, y + 0.1]) };
    lines.line_with_intervals(text, points().map(interval)).line("none", []);
    page.add(&lines);
    let mut bars = BarChart::new(text, Axis::from_zero(text).percent(), [text, "other"]);
    for &value in numbers {
        bars.group(text, [Bar { value, interval: Some([value, value]) }, Bar::from(0.5)]);
    }
    bars.group(text, [] as [Bar; 0]);
    page.section(text).add(&bars);
    page.add(&Heatmap::new(text, (text, text), [text, text], &[3, 1, 0, u64::MAX]));
    page.add(&Heatmap::new(text, (text, text), [] as [&str; 0], &[]));
    let picture = Picture::new(PNG, text).unwrap();
    let mut sheet = Sheet::new();
    sheet.tile(Tile::new(picture.clone(), text).note(text).mark(Mark::Right));
    sheet.tile(Tile::new(picture.clone(), text).mark(Mark::Wrong));
    page.add(&sheet).add(&picture);
    page.html()
}

/// The tags of a page, in order, as far as they are well formed; text must hold no `<` or `>`.
fn tags(html: &str) -> Result<Vec<&str>, String> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find(['<', '>']) {
        if rest[start..].starts_with('>') {
            return Err(format!(
                "a stray > before: {}",
                &rest[start..].chars().take(40).collect::<String>()
            ));
        }
        rest = &rest[start + 1..];
        let mut in_quotes = false;
        let inside = |c: char| {
            in_quotes ^= c == '"';
            !in_quotes && (c == '>' || c == '<')
        };
        let end = rest.find(inside).ok_or("a tag without end")?;
        if !rest[end..].starts_with('>') {
            return Err(format!("a tag inside a tag: {}", &rest[..end]));
        }
        tags.push(&rest[..end]);
        rest = &rest[end + 1..];
    }
    Ok(tags)
}

/// What is wrong with a page, if anything.
fn fault(html: &str) -> Option<String> {
    let tags = match tags(html) {
        Ok(tags) => tags,
        Err(fault) => return Some(fault),
    };
    let mut open = Vec::new();
    for tag in tags {
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or("");
        if ["script", "link", "iframe", "object", "embed", "base", "form", "a"].contains(&name) {
            return Some(format!("<{tag}>"));
        }
        for attribute in [" src=\"", " href=\"", " on", " style=\"", " xlink"] {
            if let Some(at) = tag.find(attribute) {
                let value = &tag[at + attribute.len()..];
                if name != "img" || !value.starts_with("data:image/png;base64,") {
                    let quoted = tag[..at].matches('"').count() % 2 == 1;
                    if !quoted {
                        return Some(format!("<{tag}>"));
                    }
                }
            }
        }
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) if open.pop() != Some(name) => {
                return Some(format!("<{tag}> closes another"));
            }
            (true, _) | (_, true) => {}
            _ if ["!doctype", "meta", "img"].contains(&name) => {}
            _ => open.push(name),
        }
    }
    (!open.is_empty()).then(|| format!("{open:?} are open"))
}

#[test]
fn hostile_text_stays_text() {
    let hostile = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</title></svg></style><script>",
        "--><!--]]>&lt;&#60;",
        "\0\u{1b}[31m\u{202e}evil\u{fdd0}",
        "一只猫\n<b>",
        "",
    ];
    for text in hostile {
        let html = page(text, &[1.0, 0.5, 2.0]);
        assert_eq!(fault(&html), None, "{text:?}");
        assert!(!html.contains("<script") && !html.contains("<b>\n") && !html.contains('\0'));
    }
}

#[test]
fn the_judge_can_fail() {
    let good = page("text", &[1.0]);
    assert_eq!(fault(&good), None);
    for (from, to) in [
        ("</section>", ""),
        ("</h1>", "</h1><script></script>"),
        ("</h1>", "</h1><img src=\"http://x\" alt=\"\">"),
        ("</h1>", "</h1><p onclick=\"x\"></p>"),
        ("</h1>", "> </h1>"),
        ("</h1>", "<</h1>"),
    ] {
        assert!(fault(&good.replacen(from, to, 1)).is_some(), "{from} to {to}");
    }
}

#[test]
fn nothing_is_loaded() {
    let html = page("text", &[1.0, 2.0]);
    for word in ["http:", "https:", "//", "url(", "@import", "@font-face", "xmlns"] {
        let at = html.find(word).map(|at| &html[at.saturating_sub(40)..(at + 20).min(html.len())]);
        assert_eq!(at, None, "{word}");
    }
    assert!(html.contains("default-src 'none'"));
    assert!(html.contains("prefers-color-scheme: dark"));
}

#[test]
fn a_plot_says_what_it_shows_and_has_its_numbers() {
    let mut chart = LineChart::new("R@1", Axis::linear("step"), Axis::from_zero("R@1").percent());
    chart.line("zh", [(0.0, 0.125), (100.0, 0.5)]).line("en", [(0.0, f64::NAN)]);
    let mut page = Page::new("t");
    let html = page.add(&chart).html();
    let label = "aria-label=\"R@1. R@1 against step. zh: 2 points, 12.5 % at 0 to 50 % at 100. en: 1 points, NaN % at 0 to NaN % at 0.\"";
    assert!(html.contains(label), "{html}");
    for part in [
        "role=\"img\"",
        "<title>zh, step 100: 50 %</title>",
        "<li dir=\"auto\"><i class=\"s1\"></i>en</li>",
        "<td class=\"n\" dir=\"auto\">12.5 %</td>",
        "1 points are not finite",
    ] {
        assert!(html.contains(part), "{part}");
    }
}

#[test]
fn only_pictures_are_pictures() {
    for (file, media) in
        [(PNG, "png"), (b"\xff\xd8\xff\xe0", "jpeg"), (b"GIF89a", "gif"), (b"RIFF0000WEBP", "webp")]
    {
        let mut page = Page::new("t");
        let html = page.add(&Picture::new(file, "").unwrap()).html();
        assert!(html.contains(&format!("src=\"data:image/{media};base64,")));
    }
    for file in [&b""[..], b"<svg onload=\"x\">", b"BM", b"%PDF"] {
        assert_eq!(Picture::new(file, ""), Err(Error::NotAPicture { bytes: file.len() }));
    }
}

#[test]
fn long_runs_make_small_pages() {
    let mut chart = LineChart::new("loss", Axis::linear("step"), Axis::linear("loss"));
    chart.line("train", (0..1_000_000).map(|step| (f64::from(step), f64::from(step % 1_000))));
    let mut page = Page::new("t");
    let bytes = page.add(&chart).html().len();
    assert!(bytes < 120_000, "{bytes}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_page_is_sound(text in any::<String>(), numbers in prop::collection::vec(any::<f64>(), 0..5)) {
        let html = page(&text, &numbers);
        prop_assert_eq!(fault(&html), None);
        prop_assert!(!html.contains("\"NaN\"") && !html.contains("\"inf\""), "a place that is none");
    }
}
