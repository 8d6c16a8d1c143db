//! Several runs beside each other: who keeps which promise.

use askama::Template;

use super::words::{self, plain, slug};
use crate::model::{Case, Run, Score, Tally, Verdict};

/// Runs as a matrix of servers and cases, in the order in which they are given. A cell leads to what came.
pub fn comparison(runs: &[Run]) -> askama::Result<String> {
    Comparison::of(runs).render()
}

#[derive(Template)]
#[template(path = "comparison.html", whitespace = "minimize")]
struct Comparison<'a> {
    servers: Vec<Server<'a>>,
    sections: Vec<Section<'a>>,
    number: usize,
}

struct Server<'a> {
    run: &'a Run,
    name: String,
    /// Its name in addresses; no two are the same.
    slug: String,
    command: String,
    score: Score,
}

struct Section<'a> {
    title: &'a str,
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    /// Of the first run that has it: its words are the same in all.
    case: &'a Case,
    cells: Vec<Option<Cell<'a>>>,
}

struct Cell<'a> {
    case: &'a Case,
    name: String,
    slug: String,
}

impl<'a> Comparison<'a> {
    fn of(runs: &'a [Run]) -> Self {
        let mut servers: Vec<Server<'a>> = Vec::new();
        for run in runs {
            let mut slug = slug(&run.target.name);
            while servers.iter().any(|server| server.slug == slug) {
                slug.push_str("-again");
            }
            servers.push(Server {
                run,
                name: plain(&run.target.name).into_owned(),
                slug,
                command: plain(&run.target.command.join(" ")).into_owned(),
                score: Score::of(&run.cases),
            });
        }
        let mut cases: Vec<&Case> = Vec::new();
        for case in runs.iter().flat_map(|run| &run.cases) {
            if cases.iter().all(|known| known.id != case.id) {
                cases.push(case);
            }
        }
        Self {
            number: cases.len(),
            sections: super::sections(cases.into_iter())
                .into_iter()
                .map(|(title, cases)| Section {
                    title,
                    rows: cases.into_iter().map(|case| Row::of(case, &servers)).collect(),
                })
                .collect(),
            servers,
        }
    }
}

impl<'a> Row<'a> {
    fn of(case: &'a Case, servers: &[Server<'a>]) -> Self {
        let cell = |server: &Server<'a>| {
            let case = server.run.cases.iter().find(|other| other.id == case.id)?;
            Some(Cell { case, name: server.name.clone(), slug: server.slug.clone() })
        };
        Self { case, cells: servers.iter().map(cell).collect() }
    }
}

impl Server<'_> {
    fn levels(&self) -> [Tally; 2] {
        [self.score.must, self.score.should]
    }

    /// The cases that did not pass, in the order of the table's columns.
    fn others(&self) -> [u32; 3] {
        let all = self.score.all();
        [all.fail, all.invalid, all.skipped]
    }
}

impl Cell<'_> {
    /// What came, or why there is nothing to say of it.
    fn came(&self) -> String {
        let said = [self.case.reason.as_deref().unwrap_or_default(), &self.case.got];
        let said: Vec<_> = said.into_iter().filter(|said| !said.is_empty()).map(plain).collect();
        said.join(" ")
    }
}
