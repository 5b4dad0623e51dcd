//! Reads TOML field by field, so that every problem has a place and no field is overlooked.
//!
//! A reader asks a [`Table`] for the fields that it knows and then calls [`Table::finish`], which
//! reports the others. A problem does not end the reading: the value read becomes an empty one, and
//! [`read`] returns all problems instead of the result.

mod lines;
mod words;

use std::{cell::RefCell, collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::problem::{ManifestError, Place, Problem};
use lines::Lines;
use words::{article, join};

pub(crate) use words::{list, near, suggest};

/// The largest text that is read, in bytes.
const LARGEST: usize = 1 << 20;
/// What the parser says of a key that is there twice. Which one, it leaves to the span.
const DUPLICATE: &str = "duplicate key";
/// After so many problems, reading ends.
const MOST_PROBLEMS: usize = 100;

/// Reads `text`, called `file` in problems, with `body`.
pub(crate) fn read<T>(file: &str, text: &str, body: impl FnOnce(&Table<'_>) -> T) -> Result<T, ManifestError> {
    if text.len() > LARGEST {
        let place = Place { line: 1, column: 1, field: String::new() };
        let message = format!("has {} bytes, but a manifest may have {LARGEST}", text.len());
        return Err(ManifestError { file: file.to_owned(), problems: vec![Problem { place, message }] });
    }
    let document = Document { text, lines: Lines::new(text), problems: RefCell::default() };
    let value = match DeTable::parse(text) {
        Ok(root) => {
            let root = Table {
                document: &document,
                table: root.get_ref(),
                span: 0..0,
                path: String::new(),
                known: RefCell::default(),
                misplaced: RefCell::default(),
            };
            Some(body(&root))
        }
        Err(error) => {
            let span = error.span().unwrap_or_default();
            let key = if error.message() == DUPLICATE { text.get(span.clone()) } else { None };
            let key = key.map(|key| format!(" `{key}`: remove one of the two")).unwrap_or_default();
            document.report(&span, "", format!("this is not TOML: {}{key}", error.message()));
            None
        }
    };
    let mut problems = document.problems.into_inner();
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        _ => {
            problems.sort();
            problems.dedup();
            // What is said about all of them comes last, and stands where the last of them does.
            if let [.., before, last] = problems.as_mut_slice()
                && last.place.line == usize::MAX
            {
                last.place.line = before.place.line;
            }
            Err(ManifestError { file: file.to_owned(), problems })
        }
    }
}

/// The text being read, and what was wrong with it so far.
struct Document<'t> {
    text: &'t str,
    lines: Lines,
    problems: RefCell<Vec<Problem>>,
}

impl Document<'_> {
    fn place(&self, span: &Range<usize>, field: &str) -> Place {
        let (line, column) = self.lines.of(self.text, span.start);
        Place { line, column, field: field.to_owned() }
    }

    fn report(&self, span: &Range<usize>, field: &str, message: String) {
        if self.is_full() {
            return;
        }
        let problem = Problem { place: self.place(span, field), message };
        self.problems.borrow_mut().push(problem);
        if self.is_full() {
            let last = Place { line: usize::MAX, column: 1, field: String::new() };
            let message = format!("there are more problems: these are the first {MOST_PROBLEMS} that were found");
            self.problems.borrow_mut().push(Problem { place: last, message });
        }
    }

    /// Whether there are so many problems that nobody will read more.
    fn is_full(&self) -> bool {
        self.problems.borrow().len() >= MOST_PROBLEMS
    }
}

/// A table of known fields, or one whose keys the author chose ([`Table::entries`]).
pub(crate) struct Table<'d> {
    document: &'d Document<'d>,
    table: &'d DeTable<'d>,
    span: Range<usize>,
    path: String,
    known: RefCell<Vec<&'static str>>,
    /// Fields that are unknown here, and about which everything is said.
    misplaced: RefCell<Vec<&'static str>>,
}

impl<'d> Table<'d> {
    /// The field, which is from now on a known one.
    pub(crate) fn get(&self, key: &'static str) -> Option<Field<'d>> {
        self.known.borrow_mut().push(key);
        self.table.get(key).map(|value| self.field(key, value))
    }

    fn field(&self, key: &str, value: &'d Spanned<DeValue<'d>>) -> Field<'d> {
        Field { document: self.document, value: value.get_ref(), span: value.span(), path: join(&self.path, key) }
    }

    /// Every key and value, for a table whose keys the author chose.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'d str, Field<'d>)> {
        self.table.iter().take_while(|_| !self.document.is_full()).map(|(key, value)| {
            let mut field = self.field(key.get_ref(), value);
            // A table starts where its name does; for `[a.b]` that is what an author looks for.
            if value.get_ref().is_table() {
                field.span = key.span();
            }
            (key.get_ref().as_ref(), field)
        })
    }

    /// Like [`Table::get`], with a problem when it is not there; `hint` is what to write.
    pub(crate) fn required(&self, key: &'static str, hint: &str) -> Option<Field<'d>> {
        let field = self.get(key);
        if field.is_none() {
            self.missing(key, hint);
        }
        field
    }

    /// Reports that `key` is not there; `hint` is what to write.
    pub(crate) fn missing(&self, key: &str, hint: &str) {
        self.document.report(&self.span, &join(&self.path, key), format!("is missing: add {hint}"));
    }

    /// Reports something about the table as a whole.
    pub(crate) fn report(&self, message: impl Into<String>) {
        self.document.report(&self.span, &self.path, message.into());
    }

    /// Calls the table, in problems, by another name than its position.
    pub(crate) fn rename(&mut self, path: String) {
        self.path = path;
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        self.document.place(&self.span, &self.path)
    }

    pub(crate) fn string(&self, key: &'static str) -> Option<String> {
        self.get(key).and_then(|field| field.string())
    }

    pub(crate) fn boolean(&self, key: &'static str) -> Option<bool> {
        self.get(key).and_then(|field| field.boolean())
    }

    /// How many of something, at least 1.
    pub(crate) fn count(&self, key: &'static str) -> Option<usize> {
        let field = self.get(key)?;
        let count = usize::try_from(field.integer()?).ok().filter(|count| *count > 0);
        if count.is_none() {
            field.report("must be at least 1");
        }
        count
    }

    pub(crate) fn table(&self, key: &'static str) -> Option<Self> {
        self.get(key).and_then(|field| field.table())
    }

    /// The elements of an array; none when it is absent.
    pub(crate) fn list(&self, key: &'static str) -> Vec<Field<'d>> {
        self.get(key).map(|field| field.list()).unwrap_or_default()
    }

    pub(crate) fn strings(&self, key: &'static str) -> Vec<String> {
        self.list(key).iter().filter_map(Field::string).collect()
    }

    /// A table of strings under keys that the author chose.
    pub(crate) fn string_map(&self, key: &'static str) -> BTreeMap<String, String> {
        let Some(table) = self.table(key) else { return BTreeMap::new() };
        table.entries().filter_map(|(key, field)| Some((key.to_owned(), field.string()?))).collect()
    }

    /// Fields that mean something to other tools only.
    pub(crate) fn ignore(&self, keys: &[&'static str]) {
        self.known.borrow_mut().extend(keys);
    }

    /// Reports `key` if it is there, with what to write instead.
    pub(crate) fn misplaced(&self, key: &'static str, instead: &str) {
        if let Some((key, _)) = self.table.get_key_value(key) {
            let message = format!("unknown field: {instead}");
            self.document.report(&key.span(), &join(&self.path, key.get_ref()), message);
        }
        self.misplaced.borrow_mut().push(key);
    }

    /// Reports every field that nobody asked for.
    pub(crate) fn finish(&self) {
        let mut known = self.known.borrow().clone();
        known.sort_unstable();
        known.dedup();
        for (key, _) in self.table.iter().take_while(|_| !self.document.is_full()) {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) && !self.misplaced.borrow().contains(&name) {
                let message = format!("unknown field: {}", suggest(name, &known));
                self.document.report(&key.span(), &join(&self.path, name), message);
            }
        }
    }
}

/// One value, with its place.
pub(crate) struct Field<'d> {
    document: &'d Document<'d>,
    value: &'d DeValue<'d>,
    span: Range<usize>,
    path: String,
}

impl<'d> Field<'d> {
    /// Reports something about it.
    pub(crate) fn report(&self, message: impl Into<String>) {
        self.document.report(&self.span, &self.path, message.into());
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        self.document.place(&self.span, &self.path)
    }

    fn expected<T>(&self, what: &str, advice: &str) -> Option<T> {
        self.report(format!("must be {what}, but is {}{advice}", article(self.value.type_str())));
        None
    }

    pub(crate) fn string(&self) -> Option<String> {
        if self.document.is_full() {
            return None;
        }
        let advice = match self.value {
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
                ": put quotes around it"
            }
            DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_) => "",
        };
        self.value.as_str().map(str::to_owned).or_else(|| self.expected("a string", advice))
    }

    /// The string, when it is one; nothing is reported otherwise.
    pub(crate) fn if_string(&self) -> Option<&'d str> {
        self.value.as_str()
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        let advice = if self.value.is_str() { ": remove the quotes" } else { "" };
        self.value.as_bool().or_else(|| self.expected("true or false", advice))
    }

    /// The boolean, when it is one; nothing is reported otherwise.
    pub(crate) fn if_boolean(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// Whether it is a list.
    pub(crate) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        if self.value.as_integer().is_some() {
            return self.if_integer().or_else(|| {
                self.report("is a number beyond all that can be meant");
                None
            });
        }
        let advice = if self.value.is_str() { ": remove the quotes" } else { "" };
        self.expected("an integer", advice)
    }

    /// The integer, when it is one; nothing is reported otherwise.
    pub(crate) fn if_integer(&self) -> Option<i64> {
        let number = self.value.as_integer()?;
        i64::from_str_radix(number.as_str(), number.radix()).ok()
    }

    pub(crate) fn table(&self) -> Option<Table<'d>> {
        self.table_such_as("")
    }

    /// The table; a problem otherwise, with `example` of what to write unless that is empty.
    pub(crate) fn table_such_as(&self, example: &str) -> Option<Table<'d>> {
        if self.document.is_full() {
            return None;
        }
        let advice = || if example.is_empty() { String::new() } else { format!(": write {example}") };
        let Some(table) = self.value.as_table() else { return self.expected("a table", &advice()) };
        Some(Table {
            document: self.document,
            table,
            span: self.span.clone(),
            path: self.path.clone(),
            known: RefCell::default(),
            misplaced: RefCell::default(),
        })
    }

    /// The table, when it is one; nothing is reported otherwise.
    pub(crate) fn if_table(&self) -> Option<Table<'d>> {
        self.value.is_table().then(|| self.table()).flatten()
    }

    pub(crate) fn list(&self) -> Vec<Self> {
        self.list_such_as("")
    }

    /// The elements of a list; a problem otherwise, with `example` of what to write unless that is empty.
    pub(crate) fn list_such_as(&self, example: &str) -> Vec<Self> {
        let advice = match self.value {
            _ if !example.is_empty() => format!(": write {example}"),
            DeValue::String(_) => ": put brackets around it".to_owned(),
            _ => String::new(),
        };
        let Some(array) = self.value.as_array() else { return self.expected("a list", &advice).unwrap_or_default() };
        array
            .iter()
            .enumerate()
            .map(|(index, value)| Self {
                document: self.document,
                value: value.get_ref(),
                span: value.span(),
                path: format!("{}[{index}]", self.path),
            })
            .collect()
    }

    /// Whether it is a list or a table with nothing in it, or false.
    pub(crate) fn is_empty(&self) -> bool {
        match self.value {
            DeValue::Array(array) => array.is_empty(),
            DeValue::Table(table) => table.is_empty(),
            DeValue::Boolean(value) => !value,
            DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) => false,
        }
    }
}
