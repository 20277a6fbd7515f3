//! Measurements as Markdown: one row per case, one column per server, medians, ratios to the best C peer.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::server::Kind;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Less,
    More,
}

pub struct Table {
    title: String,
    better: Better,
    decimals: usize,
    columns: Vec<String>,
    /// Columns that the ratio is taken against; the ratio's numerator is column 0.
    c_peers: Vec<usize>,
    has_subject: bool,
    rows: Vec<String>,
    /// Every measurement by (row, column).
    values: BTreeMap<(usize, usize), Vec<f64>>,
}

impl Table {
    pub fn new(title: &str, better: Better, decimals: usize, kinds: &[Kind]) -> Table {
        Table {
            title: title.to_owned(),
            better,
            decimals,
            columns: kinds.iter().map(|kind| kind.title.clone()).collect(),
            c_peers: kinds
                .iter()
                .enumerate()
                .filter(|(_, kind)| kind.is_c_peer())
                .map(|(column, _)| column)
                .collect(),
            has_subject: kinds.first().is_some_and(|kind| kind.flavor == super::server::Flavor::Subject),
            rows: Vec::new(),
            values: BTreeMap::new(),
        }
    }

    /// Adds a measurement; rows appear in the order of their first one.
    pub fn add(&mut self, row: &str, column: usize, value: f64) {
        let row = self.rows.iter().position(|known| known == row).unwrap_or_else(|| {
            self.rows.push(row.to_owned());
            self.rows.len() - 1
        });
        self.values.entry((row, column)).or_default().push(value);
    }

    pub fn median(&self, row: &str, column: usize) -> Option<f64> {
        let row = self.rows.iter().position(|known| known == row)?;
        median(self.values.get(&(row, column))?)
    }

    /// The server under test divided by the best C peer.
    fn ratio(&self, row: &str) -> Option<f64> {
        let peers = self.c_peers.iter().filter_map(|column| self.median(row, *column));
        let best = match self.better {
            Better::Less => peers.reduce(f64::min),
            Better::More => peers.reduce(f64::max),
        }?;
        let subject = self.median(row, 0).filter(|_| self.has_subject)?;
        (best != 0.0).then(|| subject / best)
    }

    pub fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n| |", self.title);
        for column in &self.columns {
            let _ = write!(text, " {column} |");
        }
        text.push_str(if self.has_subject { " ratio to the best C peer |\n|---|" } else { "\n|---|" });
        text.push_str(&"---:|".repeat(self.columns.len() + usize::from(self.has_subject)));
        text.push('\n');
        for row in &self.rows {
            let _ = write!(text, "| {row} |");
            for column in 0..self.columns.len() {
                match self.median(row, column) {
                    Some(value) => {
                        let _ = write!(text, " {value:.*} |", self.decimals);
                    }
                    None => text.push_str(" – |"),
                }
            }
            if self.has_subject {
                match self.ratio(row) {
                    Some(ratio) => {
                        let _ = write!(text, " {ratio:.2} |");
                    }
                    None => text.push_str(" – |"),
                }
            }
            text.push('\n');
        }
        text
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The value below which the share `quantile` (0 to 1) of the sorted values lies.
pub fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    match sorted.len() {
        0 => 0.0,
        n => sorted[((n as f64 * quantile).ceil() as usize).clamp(1, n) - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Flavor;
    use super::*;

    fn kind(title: &str, flavor: Flavor) -> Kind {
        Kind { title: title.to_owned(), flavor, path: "x".into() }
    }

    #[test]
    fn medians_and_the_ratio_to_the_best_c_peer() {
        let kinds = [
            kind("kindred", Flavor::Subject),
            kind("redis", Flavor::Redis),
            kind("valkey", Flavor::Valkey),
            kind("kevy", Flavor::Kevy),
        ];
        let mut table = Table::new("CPU", Better::Less, 2, &kinds);
        for value in [3.0, 1.0, 2.0] {
            table.add("GET", 0, value);
        }
        table.add("GET", 1, 5.0);
        table.add("GET", 2, 4.0);
        table.add("GET", 3, 0.1);
        table.add("SET", 1, 1.0);
        assert_eq!(
            table.markdown(),
            "### CPU\n\n| | kindred | redis | valkey | kevy | ratio to the best C peer |\n|---|---:|---:|---:|---:|---:|\n\
             | GET | 2.00 | 5.00 | 4.00 | 0.10 | 0.50 |\n| SET | – | 1.00 | – | – | – |\n"
        );
        let mut table = Table::new("rps", Better::More, 0, &kinds[..3]);
        table.add("GET", 0, 10.0);
        table.add("GET", 1, 5.0);
        table.add("GET", 2, 4.0);
        assert!(table.markdown().contains("| GET | 10 | 5 | 4 | 2.00 |"));
    }

    #[test]
    fn quantiles() {
        let values: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), 500.0);
        assert_eq!(quantile(&values, 0.999), 999.0);
        assert_eq!(quantile(&values, 1.0), 1000.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
