//! [`Template`]: text of a manifest with `{{ variable }}` in it, filled in as far as it can be when a revision is built.

use std::{sync::Arc, time::Instant};

use manifest::template::{self, Part};

use super::{
    Absent,
    values::{Asked, Value, Values},
};

/// Why a template cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is not one.
    #[error("the template `{template}` is wrong: {source}")]
    Malformed {
        /// The template.
        template: String,
        /// How.
        source: template::TemplateError,
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

/// Text, some of which may be asked for when it is needed.
#[derive(Clone)]
pub(crate) enum Template {
    /// All of it is known.
    Fixed(Arc<str>),
    /// Its pieces, in order.
    Asked(Arc<[Piece]>),
}

/// A piece of a [`Template`].
pub(crate) enum Piece {
    Text(Arc<str>),
    Variable(Arc<Asked>),
}

impl Template {
    /// The template `text` over the application's variables.
    ///
    /// # Errors
    /// When it is none, or names a variable that there is not. Errors never contain values.
    pub(crate) fn new(text: &str, values: &Values) -> Result<Self, TemplateError> {
        let malformed = |source| TemplateError::Malformed { template: text.to_owned(), source };
        let (mut pieces, mut known) = (Vec::new(), String::with_capacity(text.len()));
        for part in template::parse(text).map_err(malformed)? {
            match part {
                Part::Text(text) => known.push_str(text),
                Part::Variable(name) => match values.get(name) {
                    Some(Value::Fixed(value)) => known.push_str(value),
                    Some(Value::Asked(asked)) => {
                        pieces.push(Piece::Text(std::mem::take(&mut known).into()));
                        pieces.push(Piece::Variable(Arc::clone(asked)));
                    }
                    None => {
                        return Err(TemplateError::Unknown { template: text.to_owned(), name: name.to_owned() });
                    }
                },
            }
        }
        if pieces.is_empty() {
            return Ok(Self::Fixed(known.into()));
        }
        pieces.push(Piece::Text(known.into()));
        Ok(Self::Asked(pieces.into()))
    }

    /// The whole text, at `deadline` at the latest.
    ///
    /// # Errors
    /// [`Absent::Provider`].
    pub(crate) async fn fill_in(&self, deadline: Instant) -> Result<Arc<str>, Absent> {
        let pieces = match self {
            Self::Fixed(text) => return Ok(Arc::clone(text)),
            Self::Asked(pieces) => pieces,
        };
        let mut whole = String::new();
        for piece in pieces.iter() {
            match piece {
                Piece::Text(text) => whole.push_str(text),
                Piece::Variable(asked) => whole.push_str(&asked.get(deadline).await?),
            }
        }
        Ok(whole.into())
    }

    #[cfg(test)]
    pub(crate) fn fixed(text: &str) -> Self {
        Self::Fixed(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        [("host", "example.com"), ("port", "81")].into_iter().collect()
    }

    #[tokio::test]
    async fn variables_are_filled_in_wherever_they_stand() {
        for (template, text) in
            [("http://{{ host }}:{{port}}", "http://example.com:81"), ("plain } text", "plain } text")]
        {
            let template = Template::new(template, &values()).unwrap();
            assert_eq!(&*template.fill_in(Instant::now()).await.unwrap(), text);
        }
    }

    #[test]
    fn a_template_that_cannot_be_filled_in_says_why() {
        let error = |template| Template::new(template, &values()).err().unwrap().to_string();
        assert!(error("{{ nobody }}").contains("`nobody`"));
        assert!(error("{{ host").contains("without"));
    }
}
