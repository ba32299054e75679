//! Foreign text made safe for HTML: the one way by which text gets into a page.

/// Appends `text` so that it is text wherever it stands, between tags or inside quotes.
pub(crate) fn push(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            // What no page may hold.
            c if c.is_control() || ('\u{fdd0}'..='\u{fdef}').contains(&c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// `text`, escaped.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push(&mut out, text);
    out
}

/// A number as a person reads it: four significant digits, no needless zeros.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let size = value.abs();
    if !value.is_finite() {
        return value.to_string();
    }
    if !(1e-4..1e7).contains(&size) {
        let text = format!("{value:.3e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", trimmed(digits));
    }
    let before_point = (size.log10().floor() as i32).max(0) as usize + 1;
    let after_point = if size < 1.0 { 3 - size.log10().floor() as i32 } else { 0 };
    let decimals =
        if size < 1.0 { after_point as usize } else { 4usize.saturating_sub(before_point) };
    trimmed(&format!("{value:.decimals$}")).replace('-', "−")
}

/// A decimal number without zeros at its end.
fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        let hostile = "<script>alert('1')</script>&\"\0\u{1b}[31m";
        assert_eq!(
            escaped(hostile),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;\u{fffd}\u{fffd}[31m"
        );
        assert_eq!(escaped("一只猫 🐈"), "一只猫 🐈");
    }

    #[test]
    fn numbers_are_short() {
        let pairs = [
            (0.0, "0"),
            (1.0, "1"),
            (0.5, "0.5"),
            (12.345678, "12.35"),
            (0.012345, "0.01235"),
            (1234.5, "1234"),
            (100000.0, "100000"),
            (1e9, "1e9"),
            (-2.5, "−2.5"),
            (1.5e-7, "1.5e-7"),
            (0.1 + 0.2, "0.3"),
        ];
        for (value, text) in pairs {
            assert_eq!(number(value), text, "{value}");
        }
    }
}
