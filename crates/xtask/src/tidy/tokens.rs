//! What a Rust file names, read from its tokens.
//!
//! Tokens and not a syntax tree, because the paths inside macro calls count as well.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

/// What a file says about itself.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) names: Vec<Name>,
    pub(crate) tests: Vec<Test>,
    /// Lines of `allow` attributes that give no reason.
    pub(crate) bare_allows: Vec<usize>,
}

/// A path as written: `crate::phase::Phase`, `unsafe`, `.elapsed` for a method, `todo!` for a macro call.
/// A use tree stands here once for each of its leaves.
pub(crate) struct Name {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
    /// The inline modules around it.
    pub(crate) inside: Vec<String>,
    /// Whether only tests compile it.
    pub(crate) in_test: bool,
}

/// A function with a test attribute.
#[derive(Debug, PartialEq)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// It stands there, but does not run by itself.
    pub(crate) ignored: bool,
}

/// Reads a file; the error is the line at which it stops being Rust.
pub(crate) fn scan(text: &str) -> Result<Source, usize> {
    let stream: TokenStream = text.parse().map_err(|error: proc_macro2::LexError| error.span().start().line)?;
    let mut source = Source::default();
    Scanner { source: &mut source, inside: Vec::new(), in_test: false }.items(stream);
    Ok(source)
}

struct Scanner<'a> {
    source: &'a mut Source,
    inside: Vec<String>,
    in_test: bool,
}

/// What the attributes before an item said about it.
#[derive(Clone, Copy, Default)]
struct Attributes {
    is_test: bool,
    ignored: bool,
    only_in_tests: bool,
}

impl Scanner<'_> {
    fn items(&mut self, stream: TokenStream) {
        let tokens: Vec<_> = stream.into_iter().collect();
        let mut attributes = Attributes::default();
        let mut module = None;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let after = if is_punct(tokens.get(at + 1), '!') { at + 2 } else { at + 1 };
                    if let Some(group) = group(tokens.get(after), Delimiter::Bracket) {
                        self.attribute(group, &mut attributes);
                        at = after;
                    }
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => attributes = Attributes::default(),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                TokenTree::Group(group) => {
                    self.group(group, attributes, module.take());
                    if group.delimiter() == Delimiter::Brace {
                        attributes = Attributes::default();
                    }
                }
                TokenTree::Ident(ident) => {
                    let next = tokens.get(at + 1);
                    match (ident.to_string().as_str(), next) {
                        ("mod", Some(TokenTree::Ident(name))) => module = Some(name.to_string()),
                        ("fn", Some(TokenTree::Ident(name))) if attributes.is_test => {
                            let (line, ignored) = (name.span().start().line, attributes.ignored);
                            self.source.tests.push(Test { name: name.to_string(), line, ignored });
                        }
                        _ => {}
                    }
                    let was = self.in_test;
                    self.in_test |= attributes.only_in_tests;
                    at = self.path(Vec::new(), &tokens, at);
                    self.in_test = was;
                    continue;
                }
            }
            at += 1;
        }
    }

    fn group(&mut self, group: &Group, attributes: Attributes, module: Option<String>) {
        let only_in_tests = attributes.is_test || attributes.only_in_tests;
        let was = self.in_test;
        self.in_test |= only_in_tests;
        let depth = self.inside.len();
        self.inside.extend(module);
        self.items(group.stream());
        self.inside.truncate(depth);
        self.in_test = was;
    }

    /// Notes the path that begins at this ident; returns where to go on.
    fn path(&mut self, mut prefix: Vec<String>, tokens: &[TokenTree], start: usize) -> usize {
        let line = tokens[start].span().start().line;
        let mut at = start;
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(ident)) => prefix.push(word(ident)),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' && at > start => prefix.push("*".to_owned()),
                Some(TokenTree::Group(tree)) if tree.delimiter() == Delimiter::Brace && at > start => {
                    self.use_tree(&prefix, tree);
                    return at + 1;
                }
                // `::<T>` or `::` at the end of what was given: the path ended before.
                _ => break,
            }
            at += 1;
            if !is_path_separator(tokens, at) {
                break;
            }
            at += 2;
        }
        let before = |back: usize| start.checked_sub(back).and_then(|at| tokens.get(at));
        if is_punct(before(1), '\'') {
            return at; // a lifetime
        }
        if is_punct(before(1), '.') && !is_punct(before(2), '.') {
            prefix[0].insert(0, '.');
        }
        if is_punct(tokens.get(at), '!') && matches!(tokens.get(at + 1), Some(TokenTree::Group(_))) {
            if let Some(last) = prefix.last_mut() {
                last.push('!');
            }
        }
        self.note(prefix, line);
        at
    }

    /// `{a, b::{c, d as e}}` behind a prefix: a path for each leaf.
    fn use_tree(&mut self, prefix: &[String], tree: &Group) {
        let tokens: Vec<_> = tree.stream().into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at = match token {
                TokenTree::Ident(ident) if ident == "as" => at + 2,
                TokenTree::Ident(_) => self.path(prefix.to_vec(), &tokens, at),
                TokenTree::Punct(punct) if punct.as_char() == '*' => {
                    let mut path = prefix.to_vec();
                    path.push("*".to_owned());
                    self.note(path, punct.span().start().line);
                    at + 1
                }
                _ => at + 1,
            };
        }
    }

    fn note(&mut self, path: Vec<String>, line: usize) {
        let (inside, in_test) = (self.inside.clone(), self.in_test);
        self.source.names.push(Name { path, line, inside, in_test });
    }

    fn attribute(&mut self, attribute: &Group, to: &mut Attributes) {
        let mut words = Vec::new();
        flatten(attribute.stream(), &mut words);
        let line = attribute.span_open().start().line;
        let has = |wanted: &str| words.iter().any(|word| word == wanted);
        let path_ends_in_test = words.first().is_some_and(|first| first == "test")
            || (words.len() >= 2 && words[1] == "test" && words[0] != "cfg");
        to.is_test |= path_ends_in_test;
        to.ignored |= has("ignore");
        to.only_in_tests |= words.first().is_some_and(|first| first == "cfg") && has("test") && !has("not");
        if has("allow") && !has("reason") {
            self.source.bare_allows.push(line);
        }
        self.items(attribute.stream());
    }
}

/// The idents of an attribute, in order, of its groups too.
fn flatten(stream: TokenStream, words: &mut Vec<String>) {
    for token in stream {
        match token {
            TokenTree::Ident(ident) => words.push(word(&ident)),
            TokenTree::Group(group) => flatten(group.stream(), words),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn word(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map_or(text.clone(), str::to_owned)
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<&Group> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group),
        _ => None,
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let source = scan(text).expect("it is Rust");
        source.names.iter().map(|name| name.path.join("::")).collect()
    }

    #[test]
    fn a_use_tree_has_a_path_for_each_leaf() {
        let found = names("use crate::{phase::{Phase, step as go}, report::*};");
        assert_eq!(found, ["use", "crate::phase::Phase", "crate::phase::step", "crate::report::*"]);
    }

    #[test]
    fn paths_in_macro_calls_count() {
        let found = names("fn f() { select! { x = crate::os::wait() => todo!() } }");
        assert!(found.contains(&"crate::os::wait".to_owned()), "{found:?}");
        assert!(found.contains(&"select!".to_owned()) && found.contains(&"todo!".to_owned()), "{found:?}");
    }

    #[test]
    fn methods_are_told_from_paths_and_ranges() {
        let found = names("fn f() { start.elapsed(); for _ in 0..crate::MAX {} }");
        assert!(found.contains(&".elapsed".to_owned()) && found.contains(&"crate::MAX".to_owned()), "{found:?}");
    }

    fn tests(text: &str) -> Vec<(String, usize, bool)> {
        let source = scan(text).expect("it is Rust");
        source.tests.into_iter().map(|test| (test.name, test.line, test.ignored)).collect()
    }

    #[test]
    fn tests_are_found_with_their_attributes_between() {
        let text = "#[tokio::test(start_paused = true)]\n#[cfg(unix)]\nasync fn sig_1_drains() {}\nfn helper() {}";
        assert_eq!(tests(text), [("sig_1_drains".to_owned(), 3, false)]);
    }

    #[test]
    fn tests_in_proptest_are_found() {
        let text = "proptest! { #[test] fn ends(x in 0..9) { } }";
        assert_eq!(tests(text), [("ends".to_owned(), 1, false)]);
    }

    #[test]
    fn an_ignored_test_is_told() {
        assert_eq!(tests("#[test] #[ignore = \"slow\"] fn slow() {}"), [("slow".to_owned(), 1, true)]);
    }

    #[test]
    fn what_only_tests_compile_is_marked_and_ends_there() {
        let text = "#[cfg(test)] use a::b; use c::d; #[cfg(test)] mod tests { use e::f; } mod m { use g::h; }";
        let source = scan(text).expect("it is Rust");
        let marked = |path: &str| {
            let name = source.names.iter().find(|name| name.path.join("::") == path);
            let name = name.expect("it is named");
            (name.in_test, name.inside.join("::"))
        };
        assert_eq!(marked("a::b"), (true, String::new()));
        assert_eq!(marked("c::d"), (false, String::new()));
        assert_eq!(marked("e::f"), (true, "tests".to_owned()));
        assert_eq!(marked("g::h"), (false, "m".to_owned()));
    }

    #[test]
    fn an_allow_needs_a_reason() {
        let text = "#[allow(dead_code)]\nfn f() {}\n#[allow(dead_code, reason = \"why\")]\nfn g() {}";
        assert_eq!(scan(text).expect("it is Rust").bare_allows, [1]);
    }

    #[test]
    fn comments_and_strings_name_nothing() {
        assert_eq!(names("// crate::a::b\nconst X: &str = \"crate::c\";"), ["const", "X", "str"]);
    }

    #[test]
    fn broken_text_says_where() {
        assert!(scan("fn f() {}\nfn g( {}").is_err());
    }
}
