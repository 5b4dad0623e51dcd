//! The table of one workload: a row for each server, medians over the rounds; below it, two rows against each other.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{CONNECTIONS, load::Measured};

/// What one measurement says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    /// Requests per second.
    rate: f64,
    /// Microseconds that half of the requests took at most.
    p50: f64,
    /// And 99 of 100.
    p99: f64,
    /// Microseconds of the server's processor time for each request.
    cpu: f64,
}

impl Cell {
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    pub(crate) fn of(mut measured: Measured) -> Self {
        let times = &mut measured.latencies;
        times.sort_unstable();
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
        let count = times.len().max(1) as f64;
        Self {
            rate: times.len() as f64 / measured.elapsed.as_secs_f64(),
            p50: at(50).copied().unwrap_or_default().into(),
            p99: at(99).copied().unwrap_or_default().into(),
            cpu: measured.cpu.as_secs_f64() * 1e6 / count,
        }
    }

    fn median(cells: &[Self]) -> Self {
        let median = |value: fn(&Self) -> f64| quarter(cells.iter().map(value), 2);
        Self {
            rate: median(|cell| cell.rate),
            p50: median(|cell| cell.p50),
            p99: median(|cell| cell.p99),
            cpu: median(|cell| cell.cpu),
        }
    }
}

/// What so many quarters of `values` are below: 2 is the median.
fn quarter(values: impl Iterator<Item = f64>, quarters: usize) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() * quarters / 4).copied().unwrap_or(f64::NAN)
}

/// All measurements of one workload.
pub(crate) struct Table {
    title: String,
    /// Each server's name and command.
    rows: Vec<(String, String)>,
    /// By row and number of connections.
    cells: BTreeMap<(usize, usize), Vec<Cell>>,
    /// Two rows whose processor time is compared round by round: whatever else the machine does hits both alike.
    rivals: Option<(usize, usize)>,
}

impl Table {
    pub(crate) fn new(title: &str, rows: impl Iterator<Item = (String, String)>) -> Self {
        Self { title: title.to_owned(), rows: rows.collect(), cells: BTreeMap::new(), rivals: None }
    }

    /// Compares these two rows, by their names, if both are there.
    pub(crate) fn compare(&mut self, one: &str, other: &str) {
        let row = |name| self.rows.iter().position(|row| row.0 == name);
        self.rivals = row(one).zip(row(other));
    }

    pub(crate) fn add(&mut self, row: usize, connections: usize, cell: Cell) {
        self.cells.entry((row, connections)).or_default().push(cell);
    }

    fn median(&self, row: usize, connections: usize) -> Cell {
        Cell::median(self.cells.get(&(row, connections)).map_or(&[], Vec::as_slice))
    }

    /// The processor time of one row in units of the other's: median and quartiles of all rounds.
    fn ratio(&self, (one, other): (usize, usize), connections: usize) -> String {
        let cells = |row| self.cells.get(&(row, connections)).map_or(&[][..], Vec::as_slice).iter();
        let ratios = || cells(one).zip(cells(other)).map(|(one, other)| one.cpu / other.cpu);
        let [low, median, high] = [1, 2, 3].map(|quarters| quarter(ratios(), quarters));
        format!("{median:.2} ({low:.2} to {high:.2}) with {connections}")
    }

    /// The first row is what the ratios are against.
    pub(crate) fn render(&self) -> String {
        let mut text = format!(
            "{:<26} {:>8} {:>7} {:>7} {:>7}   {:>8} {:>7} {:>7} {:>7} {:>6} {:>6}\n",
            self.title,
            "1: req/s",
            "p50 us",
            "p99 us",
            "cpu us",
            "64: r/s",
            "p50 us",
            "p99 us",
            "cpu us",
            "rate",
            "cpu"
        );
        let floor = self.median(0, 64);
        for (row, (name, _)) in self.rows.iter().enumerate() {
            let (alone, many) = (self.median(row, 1), self.median(row, 64));
            // Writing to a string cannot fail.
            let _infallible = writeln!(
                text,
                "{name:<26} {:>8.0} {:>7.0} {:>7.0} {:>7.1}   {:>8.0} {:>7.0} {:>7.0} {:>7.1} {:>6.2} {:>6.2}",
                alone.rate,
                alone.p50,
                alone.p99,
                alone.cpu,
                many.rate,
                many.p50,
                many.p99,
                many.cpu,
                many.rate / floor.rate,
                many.cpu / floor.cpu
            );
        }
        if let Some(rivals @ (one, other)) = self.rivals
            && let (Some((one, _)), Some((other, _))) = (self.rows.get(one), self.rows.get(other))
        {
            let [alone, many] = CONNECTIONS.map(|connections| self.ratio(rivals, connections));
            let _infallible =
                writeln!(text, "  cpu of `{one}` / `{other}` in the same round: {alone}, {many} connections");
        }
        for (name, command) in &self.rows {
            let _infallible = writeln!(text, "  {name}: {command}");
        }
        text
    }
}
