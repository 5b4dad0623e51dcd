//! Lines and columns of a text, found in constant time however long lines are.

/// Characters are counted from one of these to the next.
const STEP: usize = 256;

/// Where the lines of a text start, and how many characters are before some of its bytes.
pub(super) struct Lines {
    starts: Vec<usize>,
    characters: Vec<usize>,
}

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let counts = text.as_bytes().chunks(STEP).scan(0, |sum, chunk| {
            let before = *sum;
            *sum += characters(chunk);
            Some(before)
        });
        Self { starts: std::iter::once(0).chain(newlines).collect(), characters: counts.collect() }
    }

    /// The line and the column of the byte `at`, both from 1.
    pub(super) fn of(&self, text: &str, at: usize) -> (usize, usize) {
        let at = at.min(text.len());
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        (line, self.before(text, at).saturating_sub(self.before(text, start)) + 1)
    }

    /// How many characters start before the byte `at`.
    fn before(&self, text: &str, at: usize) -> usize {
        let step = at / STEP;
        let Some(known) = self.characters.get(step) else {
            let last = self.characters.last().copied().unwrap_or_default();
            let from = self.characters.len().saturating_sub(1) * STEP;
            return last + text.as_bytes().get(from..at).map_or(0, characters);
        };
        known + text.as_bytes().get(step * STEP..at).map_or(0, characters)
    }
}

/// How many characters start in `bytes` of UTF-8.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_the_line_and_column_that_counting_finds() {
        let text = format!("ä\n\nb{}\nc\u{1F600}d\n", "ü-".repeat(400));
        let lines = Lines::new(&text);
        for (at, _) in text.char_indices().chain([(text.len(), ' ')]) {
            let before = &text[..at];
            let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
            assert_eq!(lines.of(&text, at), (before.matches('\n').count() + 1, column), "{at}");
        }
        assert_eq!(Lines::new("").of("", 0), (1, 1));
        assert_eq!(Lines::new("a").of("a", 99), (1, 2));
    }
}
