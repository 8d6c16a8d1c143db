//! Follows the frames of a WebSocket (RFC 6455, section 5.2) without looking at their payload: where one ends, and
//! whether a Close went by. Pure, and indifferent to how the bytes are cut into pieces.

/// The opcode of a Close frame (RFC 6455, section 5.5.1).
const CLOSE: u8 = 0x8;

/// Follows one direction of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Follower {
    /// The head of the frame that is going by, as far as it has come.
    head: [u8; 14],
    head_len: usize,
    /// What is still to come of its payload.
    payload: u64,
    closed: bool,
}

impl Follower {
    /// True between two frames. A Close may stand there, also inside a fragmented message (section 5.4).
    pub(crate) fn is_between(&self) -> bool {
        self.head_len == 0 && self.payload == 0
    }

    /// True when a whole Close frame has gone by.
    pub(crate) fn saw_close(&self) -> bool {
        self.closed && self.is_between()
    }

    /// Takes the next bytes of the direction.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.follow_frame(bytes);
            bytes = &bytes[taken..];
        }
    }

    /// Takes the next bytes, up to the end of the frame. Gives how many those are.
    pub(crate) fn follow_frame(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            if self.payload > 0 {
                let n = self.payload.min((bytes.len() - taken) as u64);
                self.payload -= n;
                // No more than `bytes` has.
                taken += n as usize;
            } else if let (0, Some(head)) = (self.head_len, bytes[taken..].first_chunk()) {
                // As long as a head can be: it is taken at once.
                self.head = *head;
                taken += self.head_size();
                self.begin_payload();
            } else {
                self.head[self.head_len] = bytes[taken];
                self.head_len += 1;
                taken += 1;
                if self.head_len >= 2 && self.head_len == self.head_size() {
                    self.begin_payload();
                }
            }
            if self.is_between() {
                break;
            }
        }
        taken
    }

    /// The head is whole.
    fn begin_payload(&mut self) {
        self.payload = self.payload_size();
        self.closed |= self.head[0] & 0x0f == CLOSE;
        self.head_len = 0;
    }

    /// Two bytes, a longer length where they say so, and the mask of a client.
    fn head_size(&self) -> usize {
        let length = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    fn payload_size(&self) -> u64 {
        match self.head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            127 => self.head[2..10].iter().fold(0, |size, byte| size << 8 | u64::from(*byte)),
            small => u64::from(small),
        }
    }
}

/// A server's Close frame with `code` (section 7.4.1) and nothing else.
pub(crate) fn close_frame(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [0x80 | CLOSE, 2, high, low]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, masked: bool, payload: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match payload {
            0..126 => frame.push(mask | payload as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        // Payload that looks like Close frames.
        frame.extend(std::iter::repeat_n(0x88, payload));
        frame
    }

    proptest! {
        #[test]
        fn frames_end_where_they_end_however_they_are_cut(
            frames in prop::collection::vec((0u8..3, any::<bool>(), prop_oneof![0usize..300, 65530usize..65540]), 1..6),
            cut in 1usize..5000,
        ) {
            let mut follower = Follower::default();
            for (opcode, masked, payload) in frames {
                let bytes = frame(opcode, masked, payload);
                let (last, rest) = bytes.split_last().unwrap();
                for piece in rest.chunks(cut) {
                    follower.follow(piece);
                    prop_assert!(!follower.is_between());
                }
                follower.follow(&[*last]);
                prop_assert!(follower.is_between());
                prop_assert!(!follower.saw_close());
            }
            follower.follow(&frame(CLOSE, true, 2));
            prop_assert!(follower.saw_close());
        }

        #[test]
        fn nonsense_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            Follower::default().follow(&bytes);
        }
    }

    #[test]
    fn its_own_close_frame_is_one() {
        let mut follower = Follower::default();
        follower.follow(&close_frame(1001));
        assert!(follower.saw_close());
        assert_eq!(close_frame(1001), [0x88, 0x02, 0x03, 0xe9]);
    }
}
