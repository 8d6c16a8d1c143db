//! A table in Markdown that is also read in a terminal.

use std::fmt;

pub(crate) enum Cell {
    Figure(f64),
    Ratio(f64),
}

/// Names to the left, figures to the right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(ToString::to_string).collect()] }
    }

    pub(crate) fn row(&mut self, name: &str, cells: &[Cell]) {
        let cells = cells.iter().map(ToString::to_string);
        self.rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max()
        };
        (0..self.rows[0].len()).map(|column| width(column).unwrap_or_default()).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (nth, row) in self.rows.iter().enumerate() {
            write!(f, "| {:1$} |", row[0], widths[0])?;
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                write!(f, " {cell:>width$} |")?;
            }
            writeln!(f)?;
            if nth == 0 {
                write!(f, "|{:-<1$}|", "", widths[0] + 2)?;
                for width in &widths[1..] {
                    write!(f, "{:-<1$}:|", "", width + 1)?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ratio(ratio) => write!(f, "{ratio:.3}"),
            Self::Figure(figure) if figure < 10.0 => write!(f, "{figure:.2}"),
            Self::Figure(figure) if figure < 100.0 => write!(f, "{figure:.1}"),
            Self::Figure(figure) => {
                let digits = format!("{figure:.0}");
                for (nth, digit) in digits.chars().enumerate() {
                    if nth > 0 && (digits.len() - nth) % 3 == 0 {
                        f.write_str(" ")?;
                    }
                    write!(f, "{digit}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_in_a_terminal_and_is_markdown() {
        let mut table = Table::new(&["what", "ns"]);
        table.row("sweep", &[Cell::Figure(1234567.4)]);
        table.row("a", &[Cell::Ratio(1.0)]);
        let expected = "| what  |        ns |\n|-------|----------:|\n| sweep | 1 234 567 |\n| a     |     1.000 |\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn figures_have_three_digits_at_least() {
        let figures = [0.5, 9.994, 12.34, 999.6].map(|figure| Cell::Figure(figure).to_string());
        assert_eq!(figures, ["0.50", "9.99", "12.3", "1 000"]);
    }
}
