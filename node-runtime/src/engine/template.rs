//! Templates of a manifest: text with `{{ variable }}` in it.

use std::collections::BTreeMap;

/// Why a template cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without `}}`.
    #[error("the template `{template}` has `{{{{` without `}}}}`")]
    Open {
        /// The template.
        template: String,
    },
    /// It names a variable that the application does not have.
    #[error("the template `{template}` names `{name}`, which is no variable of the application")]
    Unknown {
        /// The template.
        template: String,
        /// The name.
        name: String,
    },
}

/// Fills in `template`.
///
/// # Errors
/// When it names an unknown variable or has an end missing. Errors never contain values.
pub(super) fn expand(template: &str, variables: &BTreeMap<&str, &str>) -> Result<String, TemplateError> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) =
            after.split_once("}}").ok_or_else(|| TemplateError::Open { template: template.to_owned() })?;
        let unknown = || TemplateError::Unknown { template: template.to_owned(), name: name.trim().to_owned() };
        text.push_str(before);
        text.push_str(variables.get(name.trim()).ok_or_else(unknown)?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_wherever_they_stand() {
        let variables = BTreeMap::from([("host", "example.com"), ("port", "81")]);
        assert_eq!(expand("http://{{ host }}:{{port}}", &variables).unwrap(), "http://example.com:81");
        assert_eq!(expand("plain } text", &variables).unwrap(), "plain } text");
        assert!(expand("{{ nobody }}", &variables).unwrap_err().to_string().contains("`nobody`"));
        assert!(expand("{{ host", &variables).unwrap_err().to_string().contains("without"));
    }
}
