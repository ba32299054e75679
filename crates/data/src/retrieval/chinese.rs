//! Chinese captions that were cut into words: with spaces, or with part-of-speech marks too. A text encoder never saw such
//! texts, so the figures would be those of the marks.

use std::borrow::Cow;

use altclip_report::quote;

use super::SetCaption;

/// Whether a character is a Chinese one.
fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{3134f}')
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Spaced,
    Marked,
}

/// Names what was found, and takes it out if asked to.
pub(super) fn look(captions: &mut [SetCaption], clean: bool, notices: &mut Vec<String>) {
    let mut counts = [0u64; 2];
    let mut examples: [Option<String>; 2] = [None, None];
    let mut chinese = 0u64;
    for caption in captions.iter_mut() {
        if !caption.text.chars().any(is_han) {
            continue;
        }
        chinese += 1;
        let kind = match form(&caption.text) {
            Form::Plain => continue,
            Form::Spaced => 0,
            Form::Marked => 1,
        };
        counts[kind] += 1;
        examples[kind].get_or_insert_with(|| caption.text.clone());
        if clean {
            caption.text = cleaned(&caption.text).into_owned();
        }
    }
    let names = ["are cut into words by spaces", "carry part-of-speech marks"];
    for ((count, example), name) in counts.into_iter().zip(examples).zip(names) {
        let Some(example) = example else { continue };
        let what = if clean {
            "they were taken out"
        } else {
            "the figures are those of texts as no model was trained on; --clean-captions takes them out"
        };
        notices.push(format!(
            "{count} of {chinese} Chinese captions {name}, such as {}: {what}",
            quote(&example)
        ));
    }
}

fn form(text: &str) -> Form {
    let words: Vec<&str> = text.split_whitespace().collect();
    let chinese = words.iter().filter(|word| word.chars().any(is_han)).count();
    // Two words with a space may be a sentence with a pause.
    if chinese < 3 {
        return Form::Plain;
    }
    let marked = words.iter().filter(|word| unmarked(word).is_some()).count();
    match () {
        () if 2 * marked > words.len() => Form::Marked,
        () if words.len() >= 3 && chinese * 4 >= words.len() * 3 => {
            let letters = text.chars().filter(|&c| is_han(c)).count();
            // Words of a segmenter have one to four signs.
            if letters <= 4 * chinese { Form::Spaced } else { Form::Plain }
        }
        () => Form::Plain,
    }
}

/// The word in front of a mark such as `/n`, `:v` or `_nz`.
fn unmarked(word: &str) -> Option<&str> {
    let (word, mark) = word.rsplit_once(['/', ':', '_'])?;
    let is_mark = (1..=4).contains(&mark.len()) && mark.bytes().all(|b| b.is_ascii_alphabetic());
    (is_mark && !word.is_empty()).then_some(word)
}

/// Without marks, and without spaces next to a Chinese character.
fn cleaned(text: &str) -> Cow<'_, str> {
    let is_marked = form(text) == Form::Marked;
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        let word = if is_marked { unmarked(word).unwrap_or(word) } else { word };
        let joins = |c: Option<char>| c.is_some_and(|c| !c.is_ascii_alphanumeric());
        if !out.is_empty() && !joins(out.chars().next_back()) && !joins(word.chars().next()) {
            out.push(' ');
        }
        out.push_str(word);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_apart() {
        for (text, expected) in [
            ("一个戴帽子的男人站在街上", true),
            ("两只狗 在雪地里奔跑", true),
            ("a man in a hat", true),
            ("一个 戴 帽子 的 男人", false),
            ("一:m 个:q 男人:n 在:p 街上:s", false),
            ("一/m 个/q 男人/n", false),
        ] {
            assert_eq!(form(text) == Form::Plain, expected, "{text}");
        }
    }

    #[test]
    fn marks_and_spaces_are_taken_out() {
        assert_eq!(cleaned("一:m 个:q 男人:n 穿:v T:nx 恤:n 。:w"), "一个男人穿T恤。");
        assert_eq!(cleaned("一个 男人 用 iPhone Pro 拍照"), "一个男人用iPhone Pro拍照");
    }
}
