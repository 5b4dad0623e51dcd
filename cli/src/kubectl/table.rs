//! Tables as `kubectl` prints them.

/// `rows` below `head`, in columns.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.len())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// How long ago something was, as `kubectl` has it: `45s`, `3m`, `5h`, `12d`.
pub(super) fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["cart".to_owned(), "True".to_owned()], vec!["a-longer-name".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "READY"], &rows), "NAME            READY\ncart            True\na-longer-name\n");
    }

    #[test]
    fn ages_are_short() {
        assert_eq!([-5, 45, 180, 7_300, 200_000].map(age), ["0s", "45s", "3m", "2h", "2d"]);
    }
}
