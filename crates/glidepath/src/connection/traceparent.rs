//! Whose request this one is part of, as its client says it: W3C Trace Context, "traceparent Header Field Values".

use http::HeaderMap;

/// What a well-formed header says, in its own digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceParent<'a> {
    pub(crate) trace_id: &'a str,
    pub(crate) parent_id: &'a str,
    pub(crate) flags: &'a str,
}

/// `None`: there is none, it is not well formed, or there are two, of which nobody knows the right one.
pub(super) fn of(headers: &HeaderMap) -> Option<TraceParent<'_>> {
    let mut all = headers.get_all("traceparent").iter();
    let only = all.next()?;
    if all.next().is_some() {
        return None;
    }
    parse(only.as_bytes())
}

/// A later version may say more at its end, behind a dash; what this one says stays where it is.
pub(crate) fn parse(value: &[u8]) -> Option<TraceParent<'_>> {
    let text = std::str::from_utf8(value).ok()?;
    let version = text.get(..2).filter(|version| is_hex(version) && *version != "ff")?;
    let trace_id = text.get(3..35).filter(|id| is_id(id))?;
    let parent_id = text.get(36..52).filter(|id| is_id(id))?;
    let flags = text.get(53..55).filter(|flags| is_hex(flags))?;
    let dashes = [2, 35, 52].iter().all(|at| value[*at] == b'-');
    let ends = match value.get(55) {
        None => true,
        Some(next) => version != "00" && *next == b'-',
    };
    (dashes && ends).then_some(TraceParent { trace_id, parent_id, flags })
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_id(text: &str) -> bool {
    is_hex(text) && text.bytes().any(|byte| byte != b'0')
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn see_3_what_the_recommendation_says_is_read() {
        let parent = parse(GOOD.as_bytes()).expect("its own example");
        assert_eq!(parent.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((parent.parent_id, parent.flags), ("00f067aa0ba902b7", "01"));
        // A later version, as it is and with more at its end.
        for later in [GOOD.replacen("00", "cc", 1), GOOD.replacen("00", "cc", 1) + "-what-comes-then"] {
            assert_eq!(parse(later.as_bytes()), Some(parent), "{later}");
        }
    }

    #[test]
    fn see_3_what_is_not_well_formed_is_not_read() {
        let longer = |end: &str| GOOD.to_owned() + end;
        for bad in [
            String::new(),
            GOOD[..54].to_owned(),
            GOOD.to_uppercase(),
            GOOD.replacen("00", "ff", 1),
            GOOD.replacen("00", "0", 1),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            longer("-"),
            longer("0"),
            longer("-00"),
            longer("0").replacen("00", "cc", 1),
            // As many bytes, and fewer characters.
            GOOD.replace("4b", "é"),
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        for (dash, _) in GOOD.match_indices('-') {
            let mut bad = GOOD.to_owned();
            bad.replace_range(dash..=dash, "_");
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn see_3_of_two_headers_none_is_believed() {
        let mut headers = HeaderMap::new();
        headers.append("traceparent", HeaderValue::from_static(GOOD));
        assert!(of(&headers).is_some());
        headers.append("traceparent", HeaderValue::from_static(GOOD));
        assert_eq!(of(&headers), None);
    }

    proptest! {
        /// Compared with a plain reading, in `fuzzing.rs`.
        #[test]
        fn see_3_almost_well_formed_headers_are_judged_as_a_plain_reading_judges_them(
            version in "(00|01|cc|ff|[0-9a-f]{2})",
            trace in "(0{32}|[0-9a-f]{32})",
            parent in "(0{16}|[0-9a-f]{16})",
            rest in "[0-9a-f]{2}(-?[ -~]{0,6})?",
            mistake in proptest::option::of((0_usize..64, any::<u8>())),
        ) {
            let mut header = format!("{version}-{trace}-{parent}-{rest}").into_bytes();
            if let Some((at, byte)) = mistake {
                let at = at.min(header.len() - 1);
                header[at] = byte;
            }
            crate::fuzzing::traceparent(&header);
        }
    }
}
