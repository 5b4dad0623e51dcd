//! [`Protocol`]: what a server of MySQL's protocol may say next.
//!
//! Follows an exchange packet by packet, as far as is needed to tell where an answer announces columns, and says when a server
//! announces more than there can be, describes them without end, or says what nobody asked for. The bytes themselves go on as
//! they come: packets of rows are not held.
//!
//! Expects what [`super::relay`] sees to: no compression, no `CLIENT_DEPRECATE_EOF`, no metadata left out.

/// How many columns an answer has at most: as many as a table (MySQL's and MariaDB's own limit).
const COLUMNS: u64 = 4096;
/// How many bytes an answer may have before its rows: more than the longest names of the most columns.
const PREAMBLE: usize = 16 << 20;
/// How many bytes a server may say until it has let the client in: more than the longest key that is in use. With another the
/// client would be busy for hours.
const LOGIN: usize = 4 << 10;
/// How much of a packet is looked at: as much as an `OK` has before its text.
const HEAD: usize = 24;
/// A piece of this size is followed by another one of the same packet.
const FULL_PIECE: usize = 0xff_ffff;
/// A packet that begins as the end of a list is one only below this size; else it is a very long value.
const END_BELOW: usize = 9;
/// Flag of a status: another answer follows.
const MORE_RESULTS: u16 = 0x0008;

/// The commands whose answers are more than one packet, or none.
mod command {
    pub(super) const QUIT: u8 = 0x01;
    pub(super) const QUERY: u8 = 0x03;
    pub(super) const PREPARE: u8 = 0x16;
    pub(super) const EXECUTE: u8 = 0x17;
    pub(super) const LONG_DATA: u8 = 0x18;
    pub(super) const CLOSE: u8 = 0x19;
}

/// How packets begin.
mod first {
    pub(super) const OK: u8 = 0x00;
    pub(super) const LOCAL_FILE: u8 = 0xfb;
    pub(super) const END: u8 = 0xfe;
    pub(super) const ERROR: u8 = 0xff;
}

/// An answer that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    /// More columns than there can be.
    #[error("its answer announces {0} columns, of which there are {COLUMNS} at most")]
    Columns(u64),
    /// The description of columns has no end.
    #[error("its answer describes its columns with more than {PREAMBLE} bytes")]
    Preamble,
    /// A packet has no place where it comes.
    #[error("its answer is not what MySQL's protocol has there")]
    Unexpected,
    /// Nothing was asked.
    #[error("it answers though nothing is asked")]
    Unasked,
    /// Files of this machine are nobody's business.
    #[error("it asks for a file")]
    File,
}

/// An exchange between a client and a server after the server's greeting.
#[derive(Debug)]
pub(super) struct Protocol {
    phase: Phase,
    asked: Packets,
    answered: Packets,
    /// Bytes of the answer that were no rows.
    preamble: usize,
    /// How many packets of the login the server has seen that the client does not know of.
    ahead: u8,
}

/// What a server may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Until it lets the client in, or not.
    Login,
    /// Nothing but that it ends.
    Idle,
    /// One packet.
    Single,
    /// What a statement has: its parameters and columns.
    Statement,
    /// How many columns the answer has, or that it has none.
    Answer,
    /// So many columns; then `more` others, or rows.
    Columns { left: u64, more: u64, rows: bool },
    /// Rows and their end.
    Rows,
}

impl Protocol {
    /// The login begins. On the server's side it is `ahead` packets further than on the client's.
    pub(super) fn new(ahead: u8) -> Self {
        Self { phase: Phase::Login, asked: Packets::default(), answered: Packets::default(), preamble: 0, ahead }
    }

    /// The client says this. Numbers of packets become those that the server expects.
    pub(super) fn asked(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while let Some(packet) = self.asked.next(bytes, &mut at, self.shift()) {
            if self.phase != Phase::Login && packet.number == 0 {
                self.preamble = 0;
                self.phase = match packet.head().first() {
                    Some(&(command::QUERY | command::EXECUTE)) => Phase::Answer,
                    Some(&command::PREPARE) => Phase::Statement,
                    Some(&(command::QUIT | command::LONG_DATA | command::CLOSE)) | None => Phase::Idle,
                    Some(_) => Phase::Single,
                };
            }
        }
    }

    /// The server says this. Numbers of packets become those that the client expects.
    ///
    /// # Errors
    /// When the client must not hear it.
    pub(super) fn answered(&mut self, bytes: &mut [u8]) -> Result<(), Violation> {
        let mut at = 0;
        while at < bytes.len() {
            let (before, shift) = (at, self.shift().wrapping_neg());
            let packet = self.answered.next(bytes, &mut at, shift);
            if self.phase != Phase::Rows {
                self.preamble = self.preamble.saturating_add(at - before);
                if self.phase == Phase::Login && self.preamble > LOGIN {
                    return Err(Violation::Unexpected);
                }
                if self.preamble > PREAMBLE {
                    return Err(Violation::Preamble);
                }
            }
            if let Some(packet) = packet {
                self.phase = self.phase.after(&packet)?;
            }
        }
        Ok(())
    }

    const fn shift(&self) -> u8 {
        match self.phase {
            Phase::Login => self.ahead,
            _ => 0,
        }
    }
}

impl Phase {
    /// What may come after `packet`.
    fn after(self, packet: &Packet) -> Result<Self, Violation> {
        let head = packet.head();
        let Some(&begins) = head.first() else { return Err(Violation::Unexpected) };
        let ends = begins == first::END && packet.size < END_BELOW;
        match (self, begins) {
            (_, first::ERROR) => Ok(Self::Idle),
            (Self::Login, first::OK) | (Self::Single, _) => Ok(Self::Idle),
            (Self::Login, _) => Ok(Self::Login),
            (Self::Idle, _) => Err(Violation::Unasked),
            (Self::Statement, first::OK) => {
                let count = |at| number(head, at, 2).ok_or(Violation::Unexpected);
                let (columns, parameters) = (count(5)?, count(7)?);
                Ok(Self::columns(parameters, columns, false))
            }
            (Self::Answer, first::OK) => after_ok(head).ok_or(Violation::Unexpected),
            (Self::Answer, first::LOCAL_FILE) => Err(Violation::File),
            (Self::Answer, _) => {
                let (count, size) = length_encoded(head, 0).ok_or(Violation::Unexpected)?;
                match count {
                    0 => Err(Violation::Unexpected),
                    1..=COLUMNS if packet.size == size => Ok(Self::columns(count, 0, true)),
                    1..=COLUMNS => Err(Violation::Unexpected),
                    more => Err(Violation::Columns(more)),
                }
            }
            (Self::Columns { left: 0, more, rows }, _) if ends => Ok(Self::columns(more, 0, rows)),
            (Self::Columns { left: 1.., .. }, first::END) | (Self::Columns { left: 0, .. } | Self::Statement, _) => {
                Err(Violation::Unexpected)
            }
            (Self::Columns { left, more, rows }, _) => Ok(Self::Columns { left: left.saturating_sub(1), more, rows }),
            (Self::Rows, _) if ends => number(head, 3, 2).map(Self::after_status).ok_or(Violation::Unexpected),
            (Self::Rows, _) => Ok(Self::Rows),
        }
    }

    /// `left` columns and then `more` are described, as far as there are any.
    const fn columns(left: u64, more: u64, rows: bool) -> Self {
        match (left, more, rows) {
            (0, 0, false) => Self::Idle,
            (0, 0, true) => Self::Rows,
            (0, left, rows) => Self::Columns { left, more: 0, rows },
            (left, more, rows) => Self::Columns { left, more, rows },
        }
    }

    fn after_status(status: u64) -> Self {
        if status & u64::from(MORE_RESULTS) == 0 { Self::Idle } else { Self::Answer }
    }
}

/// What may come after an answer without rows.
fn after_ok(head: &[u8]) -> Option<Phase> {
    let (_changed, size) = length_encoded(head, 1)?;
    let (_last, more) = length_encoded(head, 1 + size)?;
    number(head, 1 + size + more, 2).map(Phase::after_status)
}

/// A number of a length that its first byte tells, and how many bytes it has.
fn length_encoded(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let follow = |size: usize| Some((number(bytes, at + 1, size)?, 1 + size));
    match *bytes.get(at)? {
        short @ 0..=0xfa => Some((u64::from(short), 1)),
        0xfc => follow(2),
        0xfd => follow(3),
        0xfe => follow(8),
        0xfb | 0xff => None,
    }
}

/// A number of `size` bytes, the lowest first.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Finds the packets in a stream of bytes.
#[derive(Debug, Default)]
struct Packets {
    packet: Packet,
    /// How much of the header of a piece was read.
    header: u32,
    /// The size of the piece.
    piece: usize,
    /// What is left of it.
    left: usize,
    /// Whether the piece goes on with a packet.
    continues: bool,
}

/// What is known of a packet.
#[derive(Debug, Default, Clone, Copy)]
struct Packet {
    /// Of its first piece.
    number: u8,
    size: usize,
    head: [u8; HEAD],
}

impl Packet {
    fn head(&self) -> &[u8] {
        self.head.get(..self.size.min(HEAD)).unwrap_or(&self.head)
    }

    fn push(&mut self, bytes: &[u8]) {
        for (place, byte) in self.head.iter_mut().skip(self.size).zip(bytes) {
            *place = *byte;
        }
        self.size = self.size.saturating_add(bytes.len());
    }
}

impl Packets {
    /// The size of a piece's header: three bytes of size, and one of the piece's number.
    const HEADER: u32 = 4;

    /// The next packet that ends in `bytes`, of which those before `at` are done with. Adds `shift` to the numbers of pieces.
    fn next(&mut self, bytes: &mut [u8], at: &mut usize, shift: u8) -> Option<Packet> {
        while let Some(byte) = bytes.get_mut(*at) {
            if self.header < Self::HEADER {
                *at += 1;
                self.begin(byte, shift);
            } else {
                let rest = bytes.get(*at..).unwrap_or_default();
                let rest = rest.get(..self.left).unwrap_or(rest);
                self.packet.push(rest);
                self.left -= rest.len();
                *at += rest.len();
            }
            if self.header == Self::HEADER && self.left == 0 {
                self.header = 0;
                self.continues = self.piece == FULL_PIECE;
                if !self.continues {
                    return Some(self.packet);
                }
            }
        }
        None
    }

    /// Reads a byte of a header.
    fn begin(&mut self, byte: &mut u8, shift: u8) {
        match self.header {
            0 => self.piece = usize::from(*byte),
            3 => {
                if !self.continues {
                    self.packet = Packet { number: *byte, ..Packet::default() };
                }
                *byte = byte.wrapping_add(shift);
                self.left = self.piece;
            }
            place => self.piece |= usize::from(*byte) << (8 * place),
        }
        self.header += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_le_bytes();
        [&size[..3], &[number], payload].concat()
    }

    /// A server that was logged in to and asked `command`.
    fn asked(command: u8) -> Protocol {
        let mut protocol = Protocol::new(0);
        protocol.answered(&mut packet(2, &[first::OK, 0, 0, 2, 0, 0, 0])).unwrap();
        protocol.asked(&mut packet(0, &[command, b'x']));
        protocol
    }

    /// What becomes of `payloads`, told at once and byte by byte.
    fn told(command: u8, payloads: &[&[u8]]) -> Result<Phase, Violation> {
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| packet(1, payload)).collect();
        let (mut at_once, mut in_bytes) = (asked(command), asked(command));
        let outcome = at_once.answered(&mut bytes.clone()).map(|()| at_once.phase);
        let bytewise = bytes.iter().try_for_each(|byte| in_bytes.answered(&mut [*byte])).map(|()| in_bytes.phase);
        assert_eq!(outcome, bytewise);
        outcome
    }

    const END: &[u8] = &[first::END, 0, 0, 2, 0];
    const MORE: &[u8] = &[first::END, 0, 0, 0x0a, 0];

    #[test]
    fn what_servers_answer_is_let_through() {
        let query = command::QUERY;
        let rows: &[&[u8]] = &[&[2], b"\x03def..", b"\x03def..", END, b"\x011\xfb", b"\x012\x013"];
        assert_eq!(told(query, rows), Ok(Phase::Rows));
        assert_eq!(told(query, &[rows, &[END]].concat()), Ok(Phase::Idle));
        assert_eq!(told(query, &[rows, &[MORE]].concat()), Ok(Phase::Answer));
        assert_eq!(told(query, &[rows, &[MORE, &[0, 0, 0, 2, 0, 0, 0]]].concat()), Ok(Phase::Idle));
        assert_eq!(told(query, &[&[0, 0xfc, 1, 1, 5, 0x0a, 0, 0, 0], &[1]]), Ok(Phase::columns(1, 0, true)));
        assert_eq!(told(query, &[b"\xff\x7a\x04#42S02no such table"]), Ok(Phase::Idle));
        assert_eq!(told(query, &[rows, &[b"\xff\x7a\x04lost"]].concat()), Ok(Phase::Idle));
        assert_eq!(told(command::EXECUTE, &[&[0xfc, 0, 16]]), Ok(Phase::columns(4096, 0, true)));
        let statement: &[&[u8]] = &[&[0, 7, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0], b"\x03def?", b"\x03def?", END];
        assert_eq!(told(command::PREPARE, statement), Ok(Phase::columns(1, 0, false)));
        assert_eq!(told(command::PREPARE, &[statement, &[b"\x03def", END]].concat()), Ok(Phase::Idle));
        assert_eq!(told(command::PREPARE, &[&[0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]), Ok(Phase::Idle));
        // COM_RESET_CONNECTION
        assert_eq!(told(0x1f, &[&[0, 0, 0, 2, 0, 0, 0]]), Ok(Phase::Idle));
    }

    #[test]
    fn more_columns_than_there_can_be_are_never_announced() {
        let most = u64::MAX.to_le_bytes();
        let announced = [&[first::END][..], &most].concat();
        for command in [command::QUERY, command::EXECUTE] {
            assert_eq!(told(command, &[&announced]), Err(Violation::Columns(u64::MAX)));
            assert_eq!(
                told(command, &[&[announced.as_slice(), &[0; 100]].concat()]),
                Err(Violation::Columns(u64::MAX))
            );
            assert_eq!(told(command, &[&[0xfc, 1, 16]]), Err(Violation::Columns(4097)));
            assert_eq!(told(command, &[&[0xfd, 0xff, 0xff, 0xff]]), Err(Violation::Columns(0xff_ffff)));
            assert_eq!(told(command, &[&[1], b"def", END, MORE, &announced]), Err(Violation::Columns(u64::MAX)));
            assert_eq!(told(command, &[&[0, 0, 0, 0x0a, 0, 0, 0], &announced]), Err(Violation::Columns(u64::MAX)));
        }
    }

    #[test]
    fn what_has_no_place_where_it_comes_is_not_let_through() {
        let query = command::QUERY;
        for odd in [
            &[b"".as_slice()][..],
            &[&[0xfe, 0, 0]],
            &[&[1, 0]],
            &[&[0, 0xff]],
            &[&[1], END],
            &[&[1], b"def", b"def"],
            &[&[1], b"def", END, b""],
            &[&[1], b"def", END, &[first::END, 0]],
        ] {
            assert_eq!(told(query, odd), Err(Violation::Unexpected), "{odd:?}");
        }
        assert_eq!(told(query, &[b"\xfb/etc/passwd"]), Err(Violation::File));
        assert_eq!(told(query, &[&[0, 0, 0, 2, 0, 0, 0], &[1]]), Err(Violation::Unasked));
        assert_eq!(told(command::CLOSE, &[&[1]]), Err(Violation::Unasked));
        assert_eq!(told(command::PREPARE, &[&[1]]), Err(Violation::Unexpected));
    }

    #[test]
    fn columns_are_not_described_without_end_and_rows_have_no_end_here() {
        let mut protocol = asked(command::QUERY);
        protocol.answered(&mut packet(1, &[0xfc, 0, 16])).unwrap();
        let mut large = packet(2, &vec![b'x'; 1 << 20]);
        let described = (0..17).map(|_| protocol.answered(&mut large));
        assert_eq!(described.collect::<Result<Vec<()>, _>>(), Err(Violation::Preamble));
        let mut protocol = asked(command::QUERY);
        let begin = [packet(1, &[1]), packet(2, b"def"), packet(3, END)].concat();
        protocol.answered(&mut begin.clone()).unwrap();
        for _ in 0..40 {
            protocol.answered(&mut large).unwrap();
        }
    }

    #[test]
    fn a_login_has_an_end_and_no_large_keys() {
        let mut protocol = Protocol::new(0);
        let mut more = packet(2, &[1; 1000]);
        let said = (0..5).map(|_| protocol.answered(&mut more));
        assert_eq!(said.collect::<Result<Vec<()>, _>>(), Err(Violation::Unexpected));
        assert_eq!(Protocol::new(0).answered(&mut packet(2, &[1; LOGIN])), Err(Violation::Unexpected));
    }

    #[test]
    fn a_packet_of_several_pieces_is_one() {
        let mut protocol = asked(command::QUERY);
        protocol.answered(&mut [packet(1, &[1]), packet(2, b"def"), packet(3, END)].concat()).unwrap();
        // A value of 16 MiB and more begins as the end does.
        let mut value = vec![0; FULL_PIECE];
        value[0] = first::END;
        protocol.answered(&mut packet(4, &value)).unwrap();
        protocol.answered(&mut packet(5, END)).unwrap();
        assert_eq!(protocol.phase, Phase::Rows, "that was the rest of it");
        protocol.answered(&mut packet(6, END)).unwrap();
        assert_eq!(protocol.phase, Phase::Idle);
    }

    #[test]
    fn numbers_of_packets_differ_by_those_of_tls_until_the_login_is_over() {
        let mut protocol = Protocol::new(1);
        let mut switch = packet(3, b"\xfeplugin\0nonce");
        protocol.answered(&mut switch).unwrap();
        let mut response = packet(3, b"hashed");
        protocol.asked(&mut response);
        let mut fine = packet(5, &[first::OK, 0, 0, 2, 0, 0, 0]);
        protocol.answered(&mut fine).unwrap();
        let mut query = packet(0, b"\x03select 1");
        protocol.asked(&mut query);
        assert_eq!([switch[3], response[3], fine[3], query[3]], [2, 4, 4, 0]);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_followed_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            command in any::<u8>(),
            small in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..12),
        ) {
            let _followed = asked(command).answered(&mut bytes.clone());
            let payloads: Vec<&[u8]> = small.iter().map(Vec::as_slice).collect();
            let _told = told(command, &payloads);
        }
    }
}
