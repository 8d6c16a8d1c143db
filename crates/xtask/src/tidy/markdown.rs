//! Tables and code blocks of a markdown text, with their lines.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A table: its rows by column name.
pub(crate) struct Table {
    columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

pub(crate) struct Row {
    pub(crate) line: usize,
    cells: Vec<String>,
}

pub(crate) struct Block {
    pub(crate) line: usize,
    /// The word behind the fence, such as `rust` or `rust,no_run`.
    pub(crate) language: String,
    pub(crate) text: String,
}

impl Table {
    /// The row's cell in the column of this name; empty where the table has no such column.
    pub(crate) fn cell<'a>(&self, row: &'a Row, column: &str) -> &'a str {
        self.at(column).and_then(|at| row.cells.get(at)).map_or("", String::as_str)
    }

    pub(crate) fn at(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|name| name == column)
    }

    fn has(&self, columns: &[&str]) -> bool {
        columns.iter().all(|column| self.at(column).is_some())
    }
}

/// The tables that have all of these columns.
pub(crate) fn tables(text: &str, columns: &[&str]) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut cell = String::new();
    let mut cells = Vec::new();
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::Table(_)) => tables.push(Table { columns: Vec::new(), rows: Vec::new() }),
            Event::Start(Tag::TableCell) => cell.clear(),
            Event::Text(words) | Event::Code(words) => cell.push_str(&words),
            Event::End(TagEnd::TableCell) => cells.push(cell.trim().to_owned()),
            Event::End(TagEnd::TableHead) => {
                if let Some(table) = tables.last_mut() {
                    table.columns = std::mem::take(&mut cells);
                }
            }
            Event::End(TagEnd::TableRow) => {
                if let Some(table) = tables.last_mut() {
                    let line = line_at(text, range.start);
                    table.rows.push(Row { line, cells: std::mem::take(&mut cells) });
                }
            }
            _ => {}
        }
    }
    tables.retain(|table| table.has(columns));
    tables
}

/// The fenced code blocks.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for (event, range) in Parser::new(text).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                let (line, language) = (line_at(text, range.start), language.to_string());
                blocks.push(Block { line, language, text: String::new() });
                inside = true;
            }
            Event::Text(words) if inside => {
                if let Some(block) = blocks.last_mut() {
                    block.text.push_str(&words);
                }
            }
            Event::End(TagEnd::CodeBlock) => inside = false,
            _ => {}
        }
    }
    blocks
}

/// The items of a cell that are set apart by commas or spaces.
pub(crate) fn items(cell: &str) -> impl Iterator<Item = &str> {
    cell.split([',', ' ']).map(str::trim).filter(|item| !item.is_empty())
}

fn line_at(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_by_column_name() {
        let text = "words\n\n| id | must |\n|---|---|\n| A-1 | be `so` |\n\n| x |\n|---|\n| y |\n";
        let tables = tables(text, &["id", "must"]);
        assert_eq!(tables.len(), 1);
        let row = &tables[0].rows[0];
        assert_eq!((row.line, tables[0].cell(row, "must")), (5, "be so"));
        assert_eq!(tables[0].cell(row, "no such column"), "");
    }

    #[test]
    fn a_block_keeps_its_bytes() {
        let found = blocks("a\n\n```rust\nfn f() {\n\n}\n```\n");
        assert_eq!((found[0].line, found[0].language.as_str()), (3, "rust"));
        assert_eq!(found[0].text, "fn f() {\n\n}\n");
    }
}
