//! DNS messages (RFC 1035, 6891), just enough to forward and cache them: the question of a query; where the TTLs of a reply are;
//! short replies of our own. Everything else in a reply stays the bytes the upstream sent.
//!
//! Whatever the bytes are, parsing ends: each step moves forward, and lengths are checked before use.

use std::net::IpAddr;

/// Record types that are looked at.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const OPT: u16 = 41;
}

/// Response codes that are sent or looked at.
pub(crate) mod rcode {
    pub(crate) const OK: u8 = 0;
    pub(crate) const FORMAT_ERROR: u8 = 1;
    pub(crate) const SERVER_FAILURE: u8 = 2;
    pub(crate) const NO_SUCH_NAME: u8 = 3;
    pub(crate) const NOT_IMPLEMENTED: u8 = 4;
    pub(crate) const REFUSED: u8 = 5;
}

/// The class of the Internet.
const IN: u16 = 1;
/// UDP payload we announce to upstreams, and the most we send (DNS flag day 2020).
pub(crate) const PAYLOAD: u16 = 1232;
/// The UDP payload of a client that says nothing.
const PAYLOAD_PLAIN: usize = 512;
const HEADER: usize = 12;
/// Longest name in wire form (RFC 1035 §3.1).
const MAX_NAME: usize = 255;

/// What is asked, the name in lower case, so that it can be compared and cached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// Wire form: length-prefixed labels, ending with the root's zero.
    name: Vec<u8>,
    pub(crate) kind: u16,
    class: u16,
}

impl Question {
    /// A question of class IN for a textual name; `None` when it is no domain name.
    pub(crate) fn new(name: &str, kind: u16) -> Option<Self> {
        let mut wire = Vec::with_capacity(name.len() + 2);
        for label in name.trim_end_matches('.').split('.').filter(|_| !name.is_empty()) {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
            wire.push(length);
            wire.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
        }
        wire.push(0);
        (wire.len() <= MAX_NAME).then_some(Self { name: wire, kind, class: IN })
    }

    /// The name as text without the trailing dot; `None` when a label holds a dot or is not ASCII (no name of ours does).
    pub(crate) fn text(&self) -> Option<String> {
        let mut text = String::new();
        let mut rest = self.name.as_slice();
        while let Some((&length, tail)) = rest.split_first() {
            if length == 0 {
                break;
            }
            let (label, tail) = tail.split_at_checked(usize::from(length))?;
            if !text.is_empty() {
                text.push('.');
            }
            for &byte in label {
                if byte == b'.' || !byte.is_ascii_graphic() {
                    return None;
                }
                text.push(char::from(byte));
            }
            rest = tail;
        }
        Some(text)
    }

    /// Whether the class is IN.
    pub(crate) fn internet(&self) -> bool {
        self.class == IN
    }
}

/// What a query says beside its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flags {
    /// EDNS is spoken; the DNSSEC OK bit when it is.
    edns: Option<bool>,
    /// Checking disabled.
    cd: bool,
}

/// A query from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) id: u16,
    pub(crate) question: Question,
    pub(crate) flags: Flags,
    recursion: bool,
    /// Largest UDP reply the client takes, in bytes.
    payload: usize,
    /// The question section as sent, in the client's letter case.
    section: Vec<u8>,
}

/// A query that is answered with an error code, or with silence when not even its header could be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadQuery {
    /// No answer: too short, or itself a reply (answering replies makes loops).
    Silent,
    /// Answer with these bytes.
    Answer(Vec<u8>),
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The end of the name that starts at `at`; compression pointers are stepped over, not followed.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            0xc0..=0xff => return (at + 2 <= bytes.len()).then_some(at + 2),
            _ => return None,
        }
    }
}

/// One question at `at`, uncompressed as in every real query; returns it and its end.
fn question_at(bytes: &[u8], at: usize) -> Option<(Question, usize)> {
    let end = skip_name(bytes, at)?;
    let name: Vec<u8> = bytes.get(at..end)?.iter().map(u8::to_ascii_lowercase).collect();
    // A pointer cannot refer to anything before the first question, so one here is nonsense.
    if name.last() != Some(&0) || name.len() > MAX_NAME || ends_in_pointer(&name) {
        return None;
    }
    Some((Question { name, kind: u16_at(bytes, end)?, class: u16_at(bytes, end + 2)? }, end + 4))
}

fn ends_in_pointer(name: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&length) = name.get(at) {
        match length {
            0 => return false,
            1..=63 => at += 1 + usize::from(length),
            _ => return true,
        }
    }
    true
}

/// A record at `at`: its type, where its TTL and data are, and its end.
struct RecordAt {
    kind: u16,
    class: u16,
    ttl_at: usize,
    data: std::ops::Range<usize>,
}

fn record_at(bytes: &[u8], at: usize) -> Option<RecordAt> {
    let name_end = skip_name(bytes, at)?;
    let length = usize::from(u16_at(bytes, name_end + 8)?);
    let data = name_end + 10..name_end + 10 + length;
    (data.end <= bytes.len()).then_some(RecordAt {
        kind: u16_at(bytes, name_end)?,
        class: u16_at(bytes, name_end + 2)?,
        ttl_at: name_end + 4,
        data,
    })
}

impl Query {
    /// Reads a client's query.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BadQuery> {
        let (Some(id), Some(head)) = (u16_at(bytes, 0), u16_at(bytes, 2)) else { return Err(BadQuery::Silent) };
        if bytes.len() < HEADER || head & 0x8000 != 0 {
            return Err(BadQuery::Silent);
        }
        let refuse = |code| BadQuery::Answer(header(id, head & 0x7900, code, [0; 4]).to_vec());
        if head & 0x7800 != 0 {
            return Err(refuse(rcode::NOT_IMPLEMENTED));
        }
        let malformed = || refuse(rcode::FORMAT_ERROR);
        let count = |at| u16_at(bytes, at).ok_or_else(malformed);
        let (questions, answers, authorities, additionals) = (count(4)?, count(6)?, count(8)?, count(10)?);
        if questions != 1 || answers != 0 || authorities != 0 || additionals > 8 {
            return Err(malformed());
        }
        let (question, mut at) = question_at(bytes, HEADER).ok_or_else(malformed)?;
        let section = bytes[HEADER..at].to_vec();
        let (mut edns, mut payload) = (None, PAYLOAD_PLAIN);
        for _ in 0..additionals {
            let record = record_at(bytes, at).ok_or_else(malformed)?;
            if record.kind == kind::OPT {
                payload = usize::from(record.class).clamp(PAYLOAD_PLAIN, usize::from(PAYLOAD));
                edns = Some(bytes.get(record.ttl_at + 2).is_some_and(|flags| flags & 0x80 != 0));
            }
            at = record.data.end;
        }
        let flags = Flags { edns, cd: head & 0x0010 != 0 };
        Ok(Self { id, question, flags, recursion: head & 0x0100 != 0, payload, section })
    }

    /// A query of our own.
    pub(crate) fn own(question: Question) -> Self {
        let mut section = question.name.clone();
        section.extend(question.kind.to_be_bytes());
        section.extend(question.class.to_be_bytes());
        Self { id: 0, question, flags: Flags { edns: None, cd: false }, recursion: true, payload: usize::from(u16::MAX), section }
    }

    /// The query as it is sent to an upstream under another id.
    pub(crate) fn forward(&self, id: u16) -> Vec<u8> {
        let flags = 0x0100 | if self.flags.cd { 0x0010 } else { 0 };
        let mut bytes = header(id, flags, 0, [1, 0, 0, u16::from(self.flags.edns.is_some())]).to_vec();
        bytes.extend(&self.question.name);
        bytes.extend(self.question.kind.to_be_bytes());
        bytes.extend(self.question.class.to_be_bytes());
        if let Some(dnssec) = self.flags.edns {
            bytes.extend(opt(dnssec));
        }
        bytes
    }

    /// A reply with these addresses (those of the asked kind), or with only an error code.
    pub(crate) fn reply(&self, code: u8, addresses: &[IpAddr], ttl: u32) -> Vec<u8> {
        let mut answers: u16 = 0;
        let mut records = Vec::new();
        for address in addresses {
            let data = match (address, self.question.kind) {
                (IpAddr::V4(v4), kind::A) => v4.octets().to_vec(),
                (IpAddr::V6(v6), kind::AAAA) => v6.octets().to_vec(),
                _ => continue,
            };
            // The name is the question's: a pointer to it.
            records.extend([0xc0, 0x0c]);
            records.extend(self.question.kind.to_be_bytes());
            records.extend(IN.to_be_bytes());
            records.extend(ttl.to_be_bytes());
            records.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
            records.extend(data);
            answers += 1;
            if answers == 64 {
                break;
            }
        }
        let flags = 0x8080 | if self.recursion { 0x0100 } else { 0 } | if self.flags.cd { 0x0010 } else { 0 };
        let mut bytes = header(self.id, flags, code, [1, answers, 0, u16::from(self.flags.edns.is_some())]).to_vec();
        bytes.extend(&self.section);
        bytes.extend(records);
        if let Some(dnssec) = self.flags.edns {
            bytes.extend(opt(dnssec));
        }
        bytes
    }

    /// Makes an upstream's reply this client's: its id, its letter case.
    pub(crate) fn adopt(&self, reply: &mut [u8]) {
        reply[..2].copy_from_slice(&self.id.to_be_bytes());
        let end = HEADER + self.section.len();
        if reply.len() >= end {
            reply[HEADER..end].copy_from_slice(&self.section);
        }
    }

    /// The reply as it fits into this client's UDP datagram: whole, or only the question with the truncation bit, so that the client
    /// asks again over TCP.
    pub(crate) fn fit(&self, reply: Vec<u8>) -> Vec<u8> {
        if reply.len() <= self.payload {
            return reply;
        }
        let flags = u16_at(&reply, 2).unwrap_or_default() & 0xfbff | 0x0200;
        let mut bytes = header(self.id, flags & 0xfff0, rcode::OK, [1, 0, 0, u16::from(self.flags.edns.is_some())]).to_vec();
        bytes.extend(&self.section);
        if let Some(dnssec) = self.flags.edns {
            bytes.extend(opt(dnssec));
        }
        bytes
    }
}

fn header(id: u16, flags: u16, code: u8, counts: [u16; 4]) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    bytes[2..4].copy_from_slice(&(flags & 0xfff0 | u16::from(code & 0x0f)).to_be_bytes());
    for (i, count) in counts.iter().enumerate() {
        bytes[4 + 2 * i..6 + 2 * i].copy_from_slice(&count.to_be_bytes());
    }
    // A response without the QR bit would be a query.
    if code != 0 {
        bytes[2] |= 0x80;
    }
    bytes
}

fn opt(dnssec: bool) -> [u8; 11] {
    let [high, low] = PAYLOAD.to_be_bytes();
    [0, 0, 41, high, low, 0, 0, if dnssec { 0x80 } else { 0 }, 0, 0, 0]
}

/// A reply of an upstream, as far as forwarding needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) rcode: u8,
    pub(crate) truncated: bool,
    /// Where each record's TTL is.
    ttls: Vec<usize>,
    /// How long the reply may be kept, in seconds: the least TTL, or for a negative answer what its SOA says; `None`: not at all.
    pub(crate) keep: Option<u32>,
}

impl Reply {
    /// Reads a reply and checks that it answers `query` sent under `id`. `None`: it does not, or is malformed.
    pub(crate) fn parse(bytes: &[u8], query: &Query, id: u16) -> Option<Self> {
        let flags = u16_at(bytes, 2)?;
        if u16_at(bytes, 0)? != id || flags & 0x8000 == 0 || u16_at(bytes, 4)? != 1 {
            return None;
        }
        let (question, mut at) = question_at(bytes, HEADER)?;
        if question != query.question {
            return None;
        }
        let code = (flags & 0x000f).to_be_bytes()[1];
        let truncated = flags & 0x0200 != 0;
        let (answers, authorities, additionals) = (u16_at(bytes, 6)?, u16_at(bytes, 8)?, u16_at(bytes, 10)?);
        let (mut ttls, mut least, mut negative) = (Vec::new(), None::<u32>, None::<u32>);
        for index in 0..u32::from(answers) + u32::from(authorities) + u32::from(additionals) {
            let Some(record) = record_at(bytes, at) else {
                // A truncated reply may end anywhere; its records are not used.
                return truncated.then_some(Self { rcode: code, truncated, ttls: Vec::new(), keep: None });
            };
            at = record.data.end;
            if record.kind == kind::OPT {
                continue;
            }
            let ttl = u32_at(bytes, record.ttl_at)?;
            // A TTL with the top bit set means zero (RFC 2181 §8).
            let ttl = if ttl > u32::MAX / 2 { 0 } else { ttl };
            ttls.push(record.ttl_at);
            least = Some(least.map_or(ttl, |least| least.min(ttl)));
            let authority = index >= u32::from(answers) && index < u32::from(answers) + u32::from(authorities);
            if authority && record.kind == kind::SOA {
                let minimum = record.data.end.checked_sub(4).filter(|&at| at >= record.data.start).and_then(|at| u32_at(bytes, at))?;
                negative = Some(ttl.min(minimum));
            }
        }
        let keep = match (code, answers) {
            _ if truncated => None,
            (rcode::OK, 1..) => least,
            (rcode::OK | rcode::NO_SUCH_NAME, _) => negative,
            _ => None,
        };
        Some(Self { rcode: code, truncated, ttls, keep })
    }

    /// Lowers each TTL of the reply's bytes by `age` seconds, to one at least when `age` is past it (a stale answer).
    pub(crate) fn age(&self, bytes: &mut [u8], age: u32) {
        for &at in &self.ttls {
            if let (Some(ttl), Some(place)) = (u32_at(bytes, at), bytes.get_mut(at..at + 4)) {
                let left = if ttl > age { ttl - age } else { ttl.min(1) };
                place.copy_from_slice(&left.to_be_bytes());
            }
        }
    }

    /// The addresses in the answers of the asked kind.
    pub(crate) fn addresses(bytes: &[u8]) -> Vec<IpAddr> {
        let mut found = Vec::new();
        let (Some((_, mut at)), Some(answers)) = (question_at(bytes, HEADER), u16_at(bytes, 6)) else { return found };
        for _ in 0..answers {
            let Some(record) = record_at(bytes, at) else { break };
            at = record.data.end;
            let data = &bytes[record.data];
            match record.kind {
                kind::A => found.extend(<[u8; 4]>::try_from(data).map(IpAddr::from)),
                kind::AAAA => found.extend(<[u8; 16]>::try_from(data).map(IpAddr::from)),
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as HickoryQuery, ResponseCode};
    use hickory_proto::rr::rdata::{A, CNAME, SOA};
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn asked(text: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(HickoryQuery::query(name(text), kind));
        if let Some(payload) = edns {
            let mut opt = Edns::new();
            opt.set_max_payload(payload).set_dnssec_ok(true);
            message.set_edns(opt);
        }
        message.to_vec().unwrap()
    }

    fn replied(text: &str, kind: RecordType, code: ResponseCode, answers: Vec<Record>, authority: Vec<Record>) -> Vec<u8> {
        let mut message = Message::response(9, OpCode::Query);
        message.metadata.response_code = code;
        message.add_query(HickoryQuery::query(name(text), kind));
        message.add_answers(answers);
        message.add_authorities(authority);
        message.to_vec().unwrap()
    }

    fn a(text: &str, ttl: u32, last: u8) -> Record {
        Record::from_rdata(name(text), ttl, RData::A(A::new(192, 0, 2, last)))
    }

    #[test]
    fn a_query_of_another_implementation_is_read_and_forwarded() {
        let query = Query::parse(&asked("Node-1.Example.org.", RecordType::AAAA, Some(4096))).unwrap();
        assert_eq!((query.id, query.question.kind, query.payload), (7, kind::AAAA, 1232));
        assert_eq!(query.question.text().as_deref(), Some("node-1.example.org"));
        let sent = Message::from_vec(&query.forward(0x1234)).unwrap();
        assert_eq!(sent.metadata.id, 0x1234);
        assert!(sent.metadata.recursion_desired);
        assert_eq!(sent.queries[0].name().to_ascii(), "node-1.example.org.");
        let edns = sent.edns.as_ref().unwrap();
        assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1232, true));
        assert!(Message::from_vec(&Query::parse(&asked("x.", RecordType::A, None)).unwrap().forward(1)).unwrap().edns.is_none());
    }

    #[test]
    fn replies_of_our_own_are_understood_by_another_implementation() {
        let query = Query::parse(&asked("Node-1.", RecordType::A, Some(1400))).unwrap();
        let bytes =
            query.reply(rcode::OK, &["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap(), "192.0.2.2".parse().unwrap()], 10);
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!((message.metadata.id, message.metadata.response_code), (7, ResponseCode::NoError));
        assert_eq!(message.queries[0].name().to_ascii(), "Node-1.", "the letter case comes back as asked");
        let found: Vec<_> = message.answers.iter().map(|r| (r.name.to_string(), r.ttl, r.data.to_string())).collect();
        assert_eq!(found, [("Node-1.".into(), 10, "192.0.2.1".to_string()), ("Node-1.".into(), 10, "192.0.2.2".to_string())]);
        let failed = Message::from_vec(&query.reply(rcode::SERVER_FAILURE, &[], 0)).unwrap();
        assert_eq!((failed.metadata.response_code, failed.metadata.message_type), (ResponseCode::ServFail, MessageType::Response));
    }

    #[test]
    fn ttls_are_found_lowered_and_bound_the_cache() {
        let query = Query::parse(&asked("www.example.org.", RecordType::A, None)).unwrap();
        let cname = Record::from_rdata(name("www.example.org."), 300, RData::CNAME(CNAME(name("a.example.org."))));
        let mut bytes = replied("www.example.org.", RecordType::A, ResponseCode::NoError, vec![cname, a("a.example.org.", 60, 5)], vec![]);
        let reply = Reply::parse(&bytes, &query, 9).unwrap();
        assert_eq!(reply.keep, Some(60));
        assert_eq!(Reply::addresses(&bytes), [IpAddr::from_str("192.0.2.5").unwrap()]);
        reply.age(&mut bytes, 50);
        query.adopt(&mut bytes);
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.id, 7);
        assert_eq!(message.answers.iter().map(|r| r.ttl).collect::<Vec<_>>(), [250, 10]);
        reply.age(&mut bytes, 400);
        assert_eq!(Message::from_vec(&bytes).unwrap().answers.iter().map(|r| r.ttl).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn a_negative_answer_is_kept_as_long_as_its_soa_says() {
        let query = Query::parse(&asked("no.example.org.", RecordType::A, None)).unwrap();
        let soa = |ttl, minimum| {
            let data = SOA::new(name("ns.example.org."), name("root.example.org."), 1, 2, 3, 4, minimum);
            vec![Record::from_rdata(name("example.org."), ttl, RData::SOA(data))]
        };
        let keep =
            |code, authority| Reply::parse(&replied("no.example.org.", RecordType::A, code, vec![], authority), &query, 9).unwrap().keep;
        assert_eq!(keep(ResponseCode::NXDomain, soa(900, 30)), Some(30));
        assert_eq!(keep(ResponseCode::NoError, soa(20, 30)), Some(20));
        assert_eq!(keep(ResponseCode::NXDomain, vec![]), None);
        assert_eq!(keep(ResponseCode::ServFail, soa(900, 30)), None);
    }

    #[test]
    fn a_reply_to_something_else_is_no_reply() {
        let query = Query::parse(&asked("a.example.org.", RecordType::A, None)).unwrap();
        let right = replied("A.example.org.", RecordType::A, ResponseCode::NoError, vec![a("a.example.org.", 5, 1)], vec![]);
        assert!(Reply::parse(&right, &query, 9).is_some(), "letter case does not matter");
        assert!(Reply::parse(&right, &query, 10).is_none(), "another id");
        for (text, kind) in [("b.example.org.", RecordType::A), ("a.example.org.", RecordType::AAAA)] {
            assert!(Reply::parse(&replied(text, kind, ResponseCode::NoError, vec![], vec![]), &query, 9).is_none());
        }
        assert!(Reply::parse(&query.forward(9), &query, 9).is_none(), "a query is no reply");
    }

    #[test]
    fn a_long_reply_is_cut_for_udp() {
        let query = Query::parse(&asked("many.", RecordType::A, None)).unwrap();
        let many: Vec<_> = (0..60).map(|i| a("many.", 5, i)).collect();
        let long = replied("many.", RecordType::A, ResponseCode::NoError, many, vec![]);
        let short = query.fit(long.clone());
        assert!(long.len() > 512 && short.len() <= 512);
        let message = Message::from_vec(&short).unwrap();
        assert!(message.metadata.truncation && message.answers.is_empty());
        assert_eq!(message.metadata.message_type, MessageType::Response);
        let small = replied("many.", RecordType::A, ResponseCode::NoError, vec![a("many.", 5, 1)], vec![]);
        assert_eq!(query.fit(small.clone()), small);
    }

    #[test]
    fn malformed_queries() {
        assert_eq!(Query::parse(&[0; 11]), Err(BadQuery::Silent));
        let mut reply = asked("a.", RecordType::A, None);
        reply[2] |= 0x80;
        assert_eq!(Query::parse(&reply), Err(BadQuery::Silent), "a reply is never answered");
        let code = |bytes: &[u8]| match Query::parse(bytes) {
            Err(BadQuery::Answer(answer)) => Message::from_vec(&answer).unwrap().metadata.response_code,
            other => panic!("{other:?}"),
        };
        let mut status = asked("a.", RecordType::A, None);
        status[2] |= 0x10;
        assert_eq!(code(&status), ResponseCode::NotImp);
        let mut two = asked("a.", RecordType::A, None);
        two[5] = 2;
        assert_eq!(code(&two), ResponseCode::FormErr);
        let mut pointer = asked("a.", RecordType::A, None);
        pointer[12] = 0xc0;
        assert_eq!(code(&pointer), ResponseCode::FormErr);
        let whole = asked("abc.example.", RecordType::A, Some(1400));
        for length in 12..whole.len() {
            assert_eq!(code(&whole[..length]), ResponseCode::FormErr, "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let query = Query::own(Question::new("a.example", kind::A).unwrap());
            let _ = Query::parse(&bytes);
            let _ = Reply::addresses(&bytes);
            let _ = Reply::parse(&bytes, &query, 0);
            // The same with a right beginning, so that the records are reached.
            let mut started = query.forward(9);
            started[2] |= 0x80;
            started[7] = 3;
            started.append(&mut bytes);
            if let Some(reply) = Reply::parse(&started, &query, 9) {
                reply.age(&mut started, 5);
                query.adopt(&mut started);
            }
            let _ = Reply::addresses(&started);
        }

        #[test]
        fn names_come_back(labels in proptest::collection::vec("[a-z0-9-]{1,20}", 0..6)) {
            let text = labels.join(".");
            prop_assert_eq!(Question::new(&text, kind::A).unwrap().text().unwrap(), text);
        }
    }
}
