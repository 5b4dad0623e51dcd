//! The templates in a component's configuration: text with `{{ variable }}` in it.
//!
//! Absent on purpose: values. Whoever knows them walks the [`Part`]s.

/// A piece of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'t> {
    /// Text that stands for itself.
    Text(&'t str),
    /// The name of an application variable, to be replaced by its value.
    Variable(&'t str),
}

/// Why a string is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{{` without its `}}`.
    #[error("`{{{{` without `}}}}`: write `{{{{ variable }}}}`")]
    Unclosed,
    /// What is between the braces cannot be a variable.
    #[error("`{{{{{0}}}}}` names no variable: {1}")]
    Name(String, &'static str),
}

/// The parts of `template`, in order.
///
/// # Errors
/// When it is not a template.
pub fn parse(template: &str) -> Result<Vec<Part<'_>>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((text, opened)) = rest.split_once("{{") {
        let (inside, after) = opened.split_once("}}").ok_or(TemplateError::Unclosed)?;
        let name = inside.trim();
        check_name(name).map_err(|problem| TemplateError::Name(inside.to_owned(), problem))?;
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        parts.push(Part::Variable(name));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    Ok(parts)
}

/// Why a template could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// It is none.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A variable has no value.
    #[error("the variable `{0}` has no value")]
    NoValue(String),
}

/// `template` with the values of its variables, as `value` knows them.
///
/// # Errors
/// When it is not a template, or when a variable has no value.
pub fn fill<'v>(template: &str, value: impl Fn(&str) -> Option<&'v str>) -> Result<String, FillError> {
    let mut filled = String::new();
    for part in parse(template)? {
        filled.push_str(match part {
            Part::Text(text) => text,
            Part::Variable(name) => value(name).ok_or_else(|| FillError::NoValue(name.to_owned()))?,
        });
    }
    Ok(filled)
}

/// Whether `name` can be the name of a variable: `^[a-z][a-z0-9]*(_[a-z0-9]+)*$`, the rule of all Spin versions.
///
/// # Errors
/// When it cannot; the text says what names look like.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.split('_').all(word) {
        Ok(())
    } else {
        Err("use lower-case ASCII letters and digits, starting with a letter, with single `_` between words")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_variables() {
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse("plain }} text"), Ok(vec![Part::Text("plain }} text")]));
        assert_eq!(
            parse("a {{ b }}{{c_1}} d"),
            Ok(vec![Part::Text("a "), Part::Variable("b"), Part::Variable("c_1"), Part::Text(" d")])
        );
    }

    #[test]
    fn a_template_that_is_not_one_says_why() {
        assert_eq!(parse("{{ a"), Err(TemplateError::Unclosed));
        for bad in ["{{}}", "{{ A }}", "{{ a-b }}", "{{ a__b }}", "{{ a_ }}", "{{ _a }}", "{{ 1a }}", "{{ {{ a }} }}"] {
            assert!(matches!(parse(bad), Err(TemplateError::Name(..))), "{bad}");
        }
        assert_eq!(parse("{{ A }}").unwrap_err().to_string().split(": ").next(), Some("`{{ A }}` names no variable"));
    }
}
