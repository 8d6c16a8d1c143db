//! Follows an event stream (HTML, section 9.2) without looking at its fields: where an event ends. Pure, and indifferent
//! to how the bytes are cut into pieces.

/// Follows the body of one response.
#[derive(Debug, Clone, Default)]
pub(crate) struct Follower {
    place: Place,
    /// The last byte was a CR: it has ended its line, and a LF that follows belongs to it.
    after_cr: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// Before the first event, or behind the empty line that ends one.
    #[default]
    Between,
    InLine,
    /// Behind a line that was not empty.
    BehindLine,
}

impl Follower {
    /// True where no event has begun.
    pub(crate) fn is_between(&self) -> bool {
        self.place == Place::Between
    }

    /// Takes the next bytes of the body. What stands in their lines makes no difference: only what stands behind the last of
    /// them that ends no line is looked at.
    pub(crate) fn follow(&mut self, bytes: &[u8]) {
        let last = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r'));
        if last.is_some() {
            (self.place, self.after_cr) = (Place::InLine, false);
        }
        for &byte in &bytes[last.map_or(0, |last| last + 1)..] {
            let of_last_end = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            self.place = match self.place {
                place if of_last_end => place,
                Place::InLine => Place::BehindLine,
                Place::BehindLine | Place::Between => Place::Between,
            };
        }
    }

    /// Bytes go by that cannot be looked at: an event ends with the next empty line.
    pub(crate) fn skip(&mut self) {
        self.follow(b"?");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sse_1_an_event_ends_with_an_empty_line_whatever_ends_a_line() {
        for event in ["data: x\n\n", "data: x\r\n\r\n", "data: x\r\r", "data: x\n\r\n", "data: x\r\n\n", "data: x\n\r"]
        {
            let mut follower = Follower::default();
            assert!(follower.is_between());
            let (last, rest) = event.as_bytes().split_last().unwrap();
            for byte in rest {
                follower.follow(&[*byte]);
                // A CR ends the empty line already, and LF after it is none of its own.
                assert!(!follower.is_between() || event.ends_with("\r\n"), "{event:?}");
            }
            follower.follow(&[*last]);
            assert!(follower.is_between(), "{event:?}");
        }
    }

    #[test]
    fn one_line_end_is_no_empty_line() {
        for line in ["data: x", "data: x\n", "data: x\r\n", "data: x\r", "data: x\n\ndata: y\r\n"] {
            let mut follower = Follower::default();
            follower.follow(line.as_bytes());
            assert!(!follower.is_between(), "{line:?}");
        }
    }

    /// All there are of so many bytes, one that ends no line among them.
    fn pieces(length: u32) -> impl Iterator<Item = Vec<u8>> {
        let byte = |number: usize, place: u32| b"x\n\r"[number / 3_usize.pow(place) % 3];
        (0..3_usize.pow(length)).map(move |number| (0..length).map(|place| byte(number, place)).collect())
    }

    #[test]
    fn a_piece_is_followed_as_its_bytes_are_one_by_one() {
        for before in (0..=3).flat_map(pieces) {
            for piece in (0..=5).flat_map(pieces) {
                let (mut whole, mut single) = (Follower::default(), Follower::default());
                whole.follow(&before);
                whole.follow(&piece);
                before.iter().chain(&piece).for_each(|byte| single.follow(&[*byte]));
                assert_eq!((whole.place, whole.after_cr), (single.place, single.after_cr), "{before:?}, {piece:?}");
            }
        }
    }

    #[test]
    fn what_was_not_seen_is_no_end() {
        let mut follower = Follower::default();
        follower.follow(b"data: x\n\n");
        follower.skip();
        assert!(!follower.is_between());
        follower.follow(b"\n\n");
        assert!(follower.is_between());
    }
}
