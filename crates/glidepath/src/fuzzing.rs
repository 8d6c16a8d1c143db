//! What must hold for everything here that parses bytes, whatever the bytes are. Not part of the API: it is there for the
//! fuzz targets in `fuzz/` (which compile with `--cfg fuzzing`) and for the tests, which replay the corpora.
//!
//! Each property takes the bytes of a peer and a way to cut them into pieces. After each piece the parser is asked, and
//! its answer compared with a plain one that sees all bytes so far at once. It panics where they differ.

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};

use crate::connection::detect::{Protocol, detect};
use crate::connection::service::is_of;
use crate::connection::{events, frames};
#[cfg(feature = "tls")]
use crate::tls::Records;

/// The most bytes that are made up to end a frame.
const MADE_UP: u128 = 1 << 20;

/// How the bytes are cut, and the bytes: a count, as many lengths of pieces, which are used again and again, and the rest.
/// Without lengths all is one piece.
fn cut(input: &[u8]) -> (Vec<usize>, &[u8]) {
    let Some((count, rest)) = input.split_first() else { return (Vec::new(), input) };
    let (lengths, bytes) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let mut lengths = lengths.iter().map(|length| usize::from(*length) + 1).cycle();
    let (mut ends, mut end) = (Vec::new(), 0);
    while end < bytes.len() {
        end = bytes.len().min(end + lengths.next().unwrap_or(bytes.len()));
        ends.push(end);
    }
    (ends, bytes)
}

/// The pieces, each with all that has come when it has.
fn pieces(input: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (ends, bytes) = cut(input);
    let mut begin = 0;
    ends.into_iter().map(move |end| (&bytes[std::mem::replace(&mut begin, end)..end], &bytes[..end]))
}

/// The protocol is told at the first byte that tells it, and the verdict stays.
pub fn detection(input: &[u8]) {
    // RFC 9113, section 3.4, in the digits that stand there.
    const PREFACE: u128 = 0x505249202a20485454502f322e300d0a;
    const REST: u64 = 0x0d0a534d0d0a0d0a;
    let preface = [&PREFACE.to_be_bytes()[..], &REST.to_be_bytes()].concat();
    let mut verdict = Protocol::Undecided;
    for (_, so_far) in pieces(input) {
        let now = detect(so_far);
        let expected = if so_far.starts_with(&preface) {
            Protocol::Http2
        } else if preface.starts_with(so_far) {
            Protocol::Undecided
        } else {
            Protocol::Http1
        };
        assert_eq!(now, expected, "{so_far:x?}");
        assert!(verdict == Protocol::Undecided || verdict == now, "{verdict:?} became {now:?}: {so_far:x?}");
        verdict = now;
    }
}

/// Frames end where they end, and a Close is seen when it is whole, however the bytes are cut.
pub fn web_socket_frames(input: &[u8]) {
    let mut follower = frames::Follower::default();
    let mut so_far = &input[..0];
    for (piece, all) in pieces(input) {
        follower.follow(piece);
        so_far = all;
        let expected = Frames::parse(so_far);
        assert_eq!(follower.is_between(), expected.missing == Some(0), "{so_far:x?}");
        assert_eq!(follower.saw_close(), expected.missing == Some(0) && expected.closed, "{so_far:x?}");
    }
    // What is still to come of the frame is known, too.
    let expected = Frames::parse(so_far);
    if let Some(missing @ 1..=MADE_UP) = expected.missing {
        follower.follow(&vec![0x88; missing as usize - 1]);
        assert!(!follower.is_between(), "{so_far:x?}");
        follower.follow(&[0x88]);
        assert!(follower.is_between(), "{so_far:x?}");
        assert_eq!(follower.saw_close(), expected.closed, "{so_far:x?}");
    }
}

/// What the frames in some bytes come to, read as RFC 6455, section 5.2, has it.
struct Frames {
    /// What the last frame lacks; `None` where its head is not whole.
    missing: Option<u128>,
    /// The head of a Close was there.
    closed: bool,
}

impl Frames {
    fn parse(bytes: &[u8]) -> Self {
        let (mut at, mut closed) = (0, false);
        loop {
            let Some(rest) = usize::try_from(at).ok().and_then(|at| bytes.get(at..)) else {
                return Self { missing: Some(at - bytes.len() as u128), closed };
            };
            if rest.is_empty() {
                return Self { missing: Some(0), closed };
            }
            let Some((head, payload)) = Self::head(rest) else { return Self { missing: None, closed } };
            closed |= rest[0] % 16 == 8;
            at += head + payload;
        }
    }

    /// The sizes of a frame's head and of its payload.
    fn head(bytes: &[u8]) -> Option<(u128, u128)> {
        let second = *bytes.get(1)?;
        let mask = u128::from(second / 128) * 4;
        let extended =
            |size: usize| bytes.get(2..2 + size).map(|long| long.iter().fold(0, |n, b| n * 256 + u128::from(*b)));
        let (head, payload) = match second % 128 {
            126 => (4, extended(2)?),
            127 => (10, extended(8)?),
            short => (2, short.into()),
        };
        bytes.get((head + mask) as usize - 1).map(|_| (head + mask, payload))
    }
}

/// Records end where they end, however the bytes are cut.
#[cfg(feature = "tls")]
pub fn tls_records(input: &[u8]) {
    /// What the last record lacks; `None` where its header is not whole (RFC 8446, section 5.1).
    fn missing(bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            let length = bytes.get(at + 3..at + 5)?;
            at += 5 + usize::from(length[0]) * 256 + usize::from(length[1]);
        }
        Some(at - bytes.len())
    }
    let mut records = Records::default();
    let mut so_far = &input[..0];
    for (piece, all) in pieces(input) {
        records.follow(piece);
        so_far = all;
        assert_eq!(records.is_inside(), missing(so_far) != Some(0), "{so_far:x?}");
    }
    if let Some(missing @ 1..) = missing(so_far) {
        records.follow(&vec![23; missing - 1]);
        assert!(records.is_inside(), "{so_far:x?}");
        records.follow(&[23]);
        assert!(!records.is_inside(), "{so_far:x?}");
    }
}

/// Events end with an empty line, whatever ends a line (HTML, section 9.2.5), and however the bytes are cut.
pub fn event_stream(input: &[u8]) {
    let mut follower = events::Follower::default();
    for (piece, so_far) in pieces(input) {
        follower.follow(piece);
        // Latin-1, so that a byte is a character.
        let text: String = so_far.iter().map(|byte| char::from(*byte)).collect();
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let between = text.is_empty() || text == "\n" || text.ends_with("\n\n");
        assert_eq!(follower.is_between(), between, "{so_far:x?}");
    }
}

/// A content type is of a kind whatever its case, suffix and parameters, and of no other that begins alike.
pub fn content_type(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
    let text: String = input.iter().map(|byte| char::from(*byte)).collect();
    let essence = text.split([';', '+', ' ', '\t']).next().unwrap_or_default().to_ascii_lowercase();
    for kind in ["application/grpc", "text/event-stream"] {
        assert_eq!(is_of(&headers, kind.as_bytes()), essence == kind, "{text:?}");
    }
}

/// What the variables of an inherited listener say is what a plain reading of them says: six lines are the six variables,
/// of which an empty one is not set; the process is 7.
#[cfg(unix)]
pub fn inherited_listeners(input: &[u8]) {
    use std::os::unix::ffi::OsStringExt;

    use crate::inherited::Variables;
    const OWN: u32 = 7;
    let mut lines = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).chain(std::iter::repeat(Vec::new()));
    let mut next = || lines.next().filter(|line| !line.is_empty());
    let [pid, fds, names, restart, kept, guard] = [next(), next(), next(), next(), next(), next()];
    let os = |value: &Option<Vec<u8>>| value.clone().map(std::ffi::OsString::from_vec);
    let variables = Variables {
        pid: os(&pid),
        fds: os(&fds),
        names: os(&names),
        restart: os(&restart),
        kept: os(&kept),
        guard: os(&guard),
    };
    let parsed = variables.parse(OWN);

    let digits =
        |value: &[u8]| value.iter().all(u8::is_ascii_digit).then(|| String::from_utf8_lossy(value).into_owned());
    let small = |value: &[u8]| digits(value)?.parse::<u32>().ok();
    let (Some(pid), Some(fds)) = (pid, fds) else { return assert_eq!(parsed, Ok(None)) };
    match small(&pid) {
        None => assert!(parsed.is_err(), "{variables:?}"),
        Some(pid) if pid != OWN => assert_eq!(parsed, Ok(None)),
        Some(_) => {
            let count = small(&fds).filter(|count| *count <= 4096);
            let named = names
                .as_ref()
                .map(|names| (std::str::from_utf8(names).is_ok(), names.split(|byte| *byte == b':').count()));
            let names_fit = count.is_some_and(|count| {
                named.is_none_or(|(is_text, found)| is_text && (count == 0 || found == count as usize))
            });
            let channel = restart.as_deref().map(small);
            let channel_fits = count.is_some_and(|count| channel.is_none_or(|channel| channel == Some(3 + count)));
            // Without a restart nobody guards, and a manager keeps all, whatever is said.
            let guard = guard.as_deref().filter(|_| restart.is_some()).map(small);
            let guard_fits = count.is_some_and(|count| guard.is_none_or(|guard| guard == Some(4 + count)));
            let places = match (count, kept.as_deref().filter(|_| restart.is_some())) {
                (Some(count), Some(kept)) => {
                    let words = kept.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
                    words.map(|word| small(word).filter(|place| *place < count)).collect::<Option<Vec<_>>>()
                }
                (Some(count), None) if restart.is_none() => Some((0..count).collect()),
                _ => Some(Vec::new()),
            };
            let fits = names_fit && channel_fits && guard_fits && places.is_some();
            assert_eq!(parsed.is_ok(), fits, "{variables:?}: {parsed:?}");
            if let Ok(passed) = parsed {
                let passed = passed.expect("it is for this process");
                assert_eq!(Some(passed.names.len()), count.map(|count| count as usize));
                assert_eq!((passed.is_restart, passed.is_guarded), (restart.is_some(), guard.is_some()));
                let kept: Vec<_> = passed.kept.iter().filter_map(|place| u32::try_from(*place).ok()).collect();
                assert_eq!(Some(kept), places);
                if let Some(names) = names.filter(|_| count != Some(0)) {
                    assert_eq!(passed.names.join(":").as_bytes(), names);
                }
            }
        }
    }
}

/// What two processes of a restart say to each other is understood as it was said, and nothing else is.
pub fn restart_words(input: &[u8]) {
    use crate::handover::Said;
    let Ok(line) = std::str::from_utf8(input) else { return };
    if let Some(said) = Said::parse(line) {
        let again = said.to_string();
        assert_eq!(Said::parse(&again).as_ref(), Some(&said), "{line:?}");
        let places =
            |line: &str| line.split(' ').skip(1).map(|place| place.parse().ok()).collect::<Option<Vec<usize>>>();
        assert_eq!(places(&again), if said.took.is_some() { places(line) } else { Some(Vec::new()) }, "{line:?}");
        assert!(line.starts_with(again.split(' ').next().unwrap_or_default()), "{line:?}");
    }
}

/// A `traceparent` is read as a plain reading of its parts reads it, or not at all.
pub fn traceparent(input: &[u8]) {
    use crate::connection::traceparent::parse;
    let plain = || {
        let parts: Vec<_> = std::str::from_utf8(input).ok()?.split('-').collect();
        let digits = |part: &str, count| part.len() == count && part.chars().all(|c| "0123456789abcdef".contains(c));
        let id = |part: &str, count| digits(part, count) && part.chars().any(|c| c != '0');
        let [version, trace_id, parent_id, flags, ref more @ ..] = parts[..] else { return None };
        let fits = digits(version, 2) && id(trace_id, 32) && id(parent_id, 16) && digits(flags, 2);
        (fits && version != "ff" && (more.is_empty() || version != "00")).then_some((trace_id, parent_id, flags))
    };
    let parsed = parse(input).map(|parent| (parent.trace_id, parent.parent_id, parent.flags));
    assert_eq!(parsed, plain(), "{input:x?}");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// The inputs that fuzzing found to reach all there is to reach.
    fn replay(target: &str, property: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
        let mut count = 0;
        for file in files {
            let path = file.unwrap().path();
            let input = fs::read(&path).unwrap();
            // Said when it fails: which file, beside what is wrong.
            let replayed = std::panic::catch_unwind(|| property(&input));
            assert!(replayed.is_ok(), "{}", path.display());
            count += 1;
        }
        assert!(count >= 5, "{} holds {count} inputs", corpus.display());
    }

    #[test]
    fn the_corpus_of_detection_holds() {
        replay("detection", super::detection);
    }

    #[test]
    fn the_corpus_of_web_socket_frames_holds() {
        replay("web_socket_frames", super::web_socket_frames);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_corpus_of_tls_records_holds() {
        replay("tls_records", super::tls_records);
    }

    #[test]
    fn the_corpus_of_event_stream_holds() {
        replay("event_stream", super::event_stream);
    }

    #[cfg(unix)]
    #[test]
    fn the_corpus_of_inherited_listeners_holds() {
        replay("inherited_listeners", super::inherited_listeners);
    }

    #[test]
    fn the_corpus_of_restart_words_holds() {
        replay("restart_words", super::restart_words);
    }

    #[test]
    fn the_corpus_of_traceparent_holds() {
        replay("traceparent", super::traceparent);
    }

    #[test]
    fn the_corpus_of_content_type_holds() {
        replay("content_type", super::content_type);
    }
}
