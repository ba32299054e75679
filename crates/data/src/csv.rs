//! The fields of one CSV record (RFC 4180).

/// Splits a record without its line end; what is wrong with it in words.
pub(crate) fn fields(record: &str, separator: char) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(separator).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(separator) {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("text after a closing quote"),
        }
    }
}

/// A field after its opening quote, and what comes after the closing one.
fn quoted_field(text: &str) -> Result<(String, &str), &'static str> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or("a quote that is not closed")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split() {
        let cases: [(&str, &[&str]); 6] = [
            ("", &[""]),
            ("a,b,", &["a", "b", ""]),
            ("\"a,b\",c", &["a,b", "c"]),
            ("\"say \"\"hi\"\"\",", &["say \"hi\"", ""]),
            ("5\" disk, x", &["5\" disk", " x"]),
            ("\"一\n二\",三", &["一\n二", "三"]),
        ];
        for (record, expected) in cases {
            assert_eq!(fields(record, ',').unwrap(), expected, "{record:?}");
        }
        assert!(fields("\"a", ',').is_err());
        assert!(fields("\"a\"b,c", ',').is_err());
    }
}
