//! Which protocol the first bytes of a connection speak (RFC 9113, section 3.4).

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    /// So far it could be either.
    Undecided,
}

pub(crate) fn detect(first: &[u8]) -> Protocol {
    let n = first.len().min(PREFACE.len());
    if first[..n] != PREFACE[..n] {
        Protocol::Http1
    } else if n == PREFACE.len() {
        Protocol::Http2
    } else {
        Protocol::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_at_the_first_byte_that_differs() {
        assert_eq!(detect(b""), Protocol::Undecided);
        assert_eq!(detect(b"GET / HTTP/1.1\r\n"), Protocol::Http1);
        assert_eq!(detect(b"P"), Protocol::Undecided);
        assert_eq!(detect(b"POST"), Protocol::Http1);
        assert_eq!(detect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), Protocol::Undecided);
        assert_eq!(detect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Protocol::Http2);
        assert_eq!(detect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12"), Protocol::Http2);
        assert_eq!(detect(b"PRI * HTTP/2.0\r\n\r\nXX"), Protocol::Http1);
    }
}
