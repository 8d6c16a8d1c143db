//! The README's example is the one that the compiler sees.

use super::{Finding, Tree, markdown};

const PAGE: &str = "README.md";
const EXAMPLE: &str = "crates/glidepath/examples/hello.rs";
const LONGEST: usize = 25;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.text(PAGE) else {
        return vec![Finding::new(PAGE, 1, "it is missing; a stranger begins there")];
    };
    let Some(example) = tree.text(EXAMPLE) else {
        return vec![Finding::new(EXAMPLE, 1, format!("it is missing; the example of {PAGE} is compiled there"))];
    };
    let mut shown = markdown::blocks(page);
    shown.retain(|block| block.language.starts_with("rust"));
    let [block] = shown.as_slice() else {
        let what = format!("it shows {} blocks of Rust; show one, the text of {EXAMPLE}", shown.len());
        return vec![Finding::new(PAGE, 1, what)];
    };
    let mut findings = Vec::new();
    let differing = block.text.lines().zip(example.lines()).position(|(shown, tested)| shown != tested);
    if block.text != example {
        let at = differing.unwrap_or(block.text.lines().count().min(example.lines().count()));
        let what = format!("this differs from {EXAMPLE}:{}; make them the same", at + 1);
        findings.push(Finding::new(PAGE, block.line + 1 + at, what));
    }
    if block.text.lines().count() > LONGEST {
        findings.push(Finding::new(PAGE, block.line, format!("the example is longer than {LONGEST} lines")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lines, tree};
    use super::*;

    fn findings(page: &str, example: &str) -> Vec<String> {
        lines(&check(&tree(&[(PAGE, page), (EXAMPLE, example)])))
    }

    #[test]
    fn the_same_bytes_pass() {
        assert_eq!(findings("# x\n\n```rust,no_run\nfn main() {}\n```\n\n```sh\nls\n```\n", "fn main() {}\n"), [""; 0]);
    }

    #[test]
    fn a_difference_is_shown_by_line() {
        let found = findings("```rust\nfn main() {\n    a()\n}\n```\n", "fn main() {\n    b()\n}\n");
        assert_eq!(found, ["README.md:3: this differs from crates/glidepath/examples/hello.rs:2; make them the same"]);
    }

    #[test]
    fn no_example_and_a_long_one_fail() {
        assert!(findings("# x\n", "fn main() {}\n")[0].contains("it shows 0 blocks of Rust"));
        let long = "fn f() {}\n".repeat(26);
        assert!(findings(&format!("```rust\n{long}```\n"), &long)[0].contains("longer than 25 lines"));
    }
}
