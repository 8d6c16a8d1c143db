//! Where what was measured is kept, and the files that it is put into.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::page::page;
use crate::parts::Part;
use crate::picture::draw;
use crate::question::Question;
use crate::show;

/// A folder with a JSON file and a picture for each part, so that one can be measured again without the others.
pub(crate) struct Kept(PathBuf);

impl Kept {
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
        Ok(Kept(folder.to_owned()))
    }

    fn file(&self, part: &str, ending: &str) -> PathBuf {
        self.0.join(format!("{part}.{ending}"))
    }

    pub(crate) fn keep(&self, question: &Question) -> anyhow::Result<()> {
        write(&self.file(&question.part, "json"), &(serde_json::to_string_pretty(question)? + "\n"))?;
        write(&self.file(&question.part, "svg"), &draw(question))
    }

    /// Those that were ever measured.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let there = |part: &&Part| self.file(&part.name(), "json").exists();
        Part::value_variants().iter().filter(there).copied().collect()
    }

    pub(crate) fn all(&self) -> anyhow::Result<Vec<Question>> {
        let read = |part: &Part| {
            let file = self.file(&part.name(), "json");
            serde_json::from_str(&fs::read_to_string(&file)?)
                .with_context(|| format!("{} has another form: delete it", file.display()))
        };
        self.parts().iter().map(read).collect()
    }

    pub(crate) fn page(&self, questions: &[Question]) -> anyhow::Result<PathBuf> {
        let file = self.0.join("index.html");
        write(&file, &page(questions))?;
        Ok(file)
    }
}

/// A file with a place for each table.
pub(crate) struct Into(pub(crate) PathBuf);

impl Into {
    /// What stands before the table, and what behind it.
    pub(crate) fn around(&self, part: &str) -> anyhow::Result<(String, String)> {
        let path = self.0.display();
        let text = fs::read_to_string(&self.0).with_context(|| format!("can't read {path}"))?;
        let (begin, end) = (format!("<!-- bench {part} -->\n"), format!("<!-- /bench {part} -->"));
        let place = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
        let Some((before, after)) = place else {
            bail!("{path} has no lines {} and {end} for the table", begin.trim());
        };
        Ok((before.to_owned() + &begin, end + after))
    }

    /// The table, and its picture in a folder of the file's name.
    pub(crate) fn put(&self, question: &Question) -> anyhow::Result<()> {
        let (before, after) = self.around(&question.part)?;
        let folder = self.0.with_extension("");
        fs::create_dir_all(&folder)?;
        let picture = folder.join(format!("{}.svg", question.part));
        write(&picture, &draw(question))?;
        let stem = folder.file_name().unwrap_or_default().to_string_lossy();
        let address = format!("{stem}/{}.svg", question.part);
        write(&self.0, &format!("{before}{}{after}", show::markdown(question, Some(&address))))
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("can't write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("serving-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn a_table_stands_between_its_lines_and_is_replaced() {
        let folder = folder("into");
        let into = Into(folder.join("costs.md"));
        fs::write(&into.0, "before\n<!-- bench http1 -->\nold\n<!-- /bench http1 -->\nafter\n").expect("a file");
        let mut question = show::example();
        into.put(&question).expect("there is a place");
        into.put(&question).expect("there still is");
        let text = fs::read_to_string(&into.0).expect("it is there");
        assert!(text.starts_with("before\n<!-- bench http1 -->\nBy wrk.\n"), "{text}");
        assert!(text.ends_with("|\n<!-- /bench http1 -->\nafter\n") && !text.contains("old"), "{text}");
        assert!(text.contains("(costs/http1.svg)") && folder.join("costs/http1.svg").exists());
        question.part = "rest".to_owned();
        let wrong = into.put(&question).expect_err("it has no place").to_string();
        assert!(wrong.ends_with("has no lines <!-- bench rest --> and <!-- /bench rest --> for the table"), "{wrong}");
        fs::remove_dir_all(folder).expect("it is ours");
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let folder = folder("kept");
        let kept = Kept::new(&folder).expect("it can be made");
        assert!(kept.parts().is_empty());
        kept.keep(&show::example()).expect("it is written");
        assert_eq!(kept.parts(), [Part::Http1]);
        let read = kept.all().expect("it is read");
        assert_eq!(show::table(&read[0]), show::table(&show::example()));
        let page = fs::read_to_string(kept.page(&read).expect("it is written")).expect("it is there");
        assert!(page.contains("<svg ") && page.contains("no difference seen"), "{page}");
        fs::remove_dir_all(folder).expect("it is ours");
    }
}
