//! Prompt templates: what a label looks like as a caption.

/// Templates with a place for the label, `{}` or `{c}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Templates(Vec<String>);

impl Templates {
    /// These templates; one without a place for the label gets it at its end.
    pub fn new(templates: impl IntoIterator<Item = String>) -> Self {
        Self(templates.into_iter().collect())
    }

    /// The captions of one label: one for each template, or the label itself.
    pub fn captions(&self, label: &str) -> Vec<String> {
        if self.0.is_empty() {
            return vec![label.to_owned()];
        }
        let fill = |template: &String| match (template.contains("{}"), template.contains("{c}")) {
            (false, false) => format!("{template} {label}"),
            _ => template.replace("{}", label).replace("{c}", label),
        };
        self.0.iter().map(fill).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_of_a_label() {
        let captions = |templates: &[&str]| {
            Templates::new(templates.iter().map(|t| t.to_string())).captions("猫")
        };
        assert_eq!(captions(&[]), ["猫"]);
        assert_eq!(
            captions(&["一张{}的照片", "a photo of a {c}."]),
            ["一张猫的照片", "a photo of a 猫."]
        );
        assert_eq!(captions(&["a photo of"]), ["a photo of 猫"]);
    }
}
