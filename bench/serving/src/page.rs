//! All that is kept, as one page that needs nothing but itself.

use crate::picture::{draw, escaped};
use crate::question::Question;
use crate::show;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
svg{max-width:100%;height:auto}pre{overflow-x:auto;font-size:13px}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}}";

pub(crate) fn page(questions: &[Question]) -> String {
    let sections: String = questions
        .iter()
        .map(|question| {
            format!(
                "<section id=\"{0}\"><h2>{0}</h2><p>{1}</p>{2}<pre>{3}</pre><p><code>{4}</code>. {5}.</p></section>\n",
                escaped(&question.part),
                escaped(&question.how),
                draw(question),
                escaped(&show::table(question)),
                escaped(&question.command),
                escaped(&question.of),
            )
        })
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>What serving costs</title><style>{STYLE}</style>\
         <h1>What serving costs</h1>\n{sections}</html>\n"
    )
}
