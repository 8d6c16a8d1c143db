//! Cuts a stream of chunks into numbered lines. Pure: chunks in, lines out, never more than one line and one chunk in memory.

use std::collections::VecDeque;

/// A line that is not empty, with its number in the stream (the first is 1).
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub number: u64,
    pub text: Result<Vec<u8>, TooLong>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("has more than {limit} bytes; that is the most a message may have")]
pub struct TooLong {
    limit: usize,
}

pub struct Lines {
    limit: usize,
    number: u64,
    /// The line that has not ended yet; of one that is too long, nothing.
    open: Vec<u8>,
    too_long: bool,
    ready: VecDeque<Line>,
}

impl Lines {
    pub fn new(limit: usize) -> Self {
        Self { limit, number: 1, open: Vec::new(), too_long: false, ready: VecDeque::new() }
    }

    /// Takes the next chunk. Its lines are then had from `next`.
    pub fn push(&mut self, chunk: &[u8]) {
        let mut pieces = chunk.split(|byte| *byte == b'\n');
        self.extend(pieces.next().unwrap_or_default());
        for piece in pieces {
            self.end_line();
            self.extend(piece);
        }
    }

    pub fn next(&mut self) -> Option<Line> {
        self.ready.pop_front()
    }

    /// The last line, when it did not end with a line feed.
    pub fn finish(&mut self) -> Option<Line> {
        self.end_line();
        self.next()
    }

    fn extend(&mut self, piece: &[u8]) {
        self.too_long |= self.open.len() + piece.len() > self.limit;
        if self.too_long {
            self.open = Vec::new();
        } else {
            self.open.extend_from_slice(piece);
        }
    }

    fn end_line(&mut self) {
        let text = std::mem::take(&mut self.open);
        let text = if std::mem::take(&mut self.too_long) { Err(TooLong { limit: self.limit }) } else { Ok(text) };
        let blank = text.as_ref().is_ok_and(|text| text.iter().all(u8::is_ascii_whitespace));
        if !blank {
            self.ready.push_back(Line { number: self.number, text });
        }
        self.number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&str], limit: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::new(limit);
        let mut all = Vec::new();
        for chunk in chunks {
            lines.push(chunk.as_bytes());
            all.extend(std::iter::from_fn(|| lines.next()));
        }
        all.extend(lines.finish());
        all.into_iter().map(|line| (line.number, line.text.ok().map(|text| String::from_utf8(text).unwrap()))).collect()
    }

    fn line(number: u64, text: &str) -> (u64, Option<String>) {
        (number, Some(text.into()))
    }

    #[test]
    fn lines_are_the_same_however_the_chunks_fall() {
        let text = "one\ntwo\n\n four \r\nlast";
        let want = [line(1, "one"), line(2, "two"), line(4, " four \r"), line(5, "last")];
        for at in 0..text.len() {
            assert_eq!(cut(&[&text[..at], &text[at..]], 99), want, "cut at {at}");
        }
        let bytes: Vec<&str> = (0..text.len()).map(|at| &text[at..=at]).collect();
        assert_eq!(cut(&bytes, 99), want);
    }

    #[test]
    fn a_line_that_is_too_long_is_named_and_the_next_one_is_read() {
        assert_eq!(cut(&["123\n12", "34", "56\n12\n"], 3), [line(1, "123"), (2, None), line(3, "12")]);
    }

    #[test]
    fn nothing_is_no_line() {
        assert_eq!(cut(&[], 3), []);
        assert_eq!(cut(&["\n\n"], 3), []);
    }
}
