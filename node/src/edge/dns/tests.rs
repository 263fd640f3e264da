//! Host DNS over real sockets on loopback, against an upstream and a client made with another DNS implementation.

use hickory_proto::op::{Message, MessageType, OpCode, Query as HickoryQuery, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// An upstream that answers `a.example` with 192.0.2.7, `big.example` with 100 records (over UDP only the truncation bit),
/// `broken.example` with SERVFAIL, and counts what it was asked.
async fn upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let reply = upstream_reply(&buffer[..length], true);
            socket.send_to(&reply, client).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let query = read_message(&mut stream).await.unwrap();
            write_message(&mut stream, &upstream_reply(&query, false)).await.unwrap();
        }
    });
    (address, count)
}

fn upstream_reply(query: &[u8], udp: bool) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    let question = query.queries[0].clone();
    let record = |last| Record::from_rdata(question.name().clone(), 60, RData::A(A::new(192, 0, 2, last)));
    match question.name().to_ascii().as_str() {
        "a.example." if question.query_type() == RecordType::A => drop(reply.add_answer(record(7))),
        "big.example." if udp => reply.metadata.truncation = true,
        "big.example." => drop(reply.add_answers((0..100).map(record))),
        "broken.example." => reply.metadata.response_code = ResponseCode::ServFail,
        _ => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    reply.add_query(question);
    reply.to_vec().unwrap()
}

/// A socket that takes datagrams and never answers.
async fn silent() -> (SocketAddr, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    (socket.local_addr().unwrap(), socket)
}

async fn started(upstreams: Vec<SocketAddr>, names: &[(&str, &[&str])]) -> (Arc<Dns>, SocketAddr) {
    let dns = Dns::new();
    let names =
        names.iter().map(|(name, addresses)| ((*name).to_owned(), addresses.iter().map(|a| a.parse().unwrap()).collect())).collect();
    dns.set(Settings { upstreams, names });
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(dns.clone().serve_udp(socket));
    tokio::spawn(dns.clone().serve_tcp(listener));
    (dns, address)
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(HickoryQuery::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question(name, kind), server).await.unwrap();
    let mut buffer = [0; 4096];
    let length = timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await.unwrap().unwrap();
    let message = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(message.metadata.id, 77);
    message
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn answers_are_forwarded_and_then_kept() {
    let (up, count) = upstream().await;
    let (_dns, server) = started(vec![up], &[]).await;
    assert_eq!(addresses(&ask(server, "a.example.", RecordType::A).await), ["192.0.2.7"]);
    assert_eq!(addresses(&ask(server, "A.EXAMPLE.", RecordType::A).await), ["192.0.2.7"]);
    assert_eq!(count.load(Ordering::SeqCst), 1, "the second came from the cache");
    assert_eq!(ask(server, "nowhere.example.", RecordType::A).await.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_long_answer_comes_over_tcp() {
    let (up, _) = upstream().await;
    let (_dns, server) = started(vec![up], &[]).await;
    let short = ask(server, "big.example.", RecordType::A).await;
    assert!(short.metadata.truncation);
    let mut stream = TcpStream::connect(server).await.unwrap();
    for _ in 0..2 {
        write_message(&mut stream, &question("big.example.", RecordType::A)).await.unwrap();
        let long = Message::from_vec(&read_message(&mut stream).await.unwrap()).unwrap();
        assert_eq!(long.answers.len(), 100);
    }
}

#[tokio::test]
async fn names_of_the_node_need_no_upstream() {
    let (_dns, server) = started(vec![], &[("node-1", &["10.5.0.2", "fd00::2"]), ("node-1.example.org", &["10.5.0.2"])]).await;
    assert_eq!(addresses(&ask(server, "Node-1.", RecordType::A).await), ["10.5.0.2"]);
    assert_eq!(addresses(&ask(server, "node-1.", RecordType::AAAA).await), ["fd00::2"]);
    let none = ask(server, "node-1.example.org.", RecordType::AAAA).await;
    assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0), "the name exists, the type does not");
    assert_eq!(addresses(&ask(server, "localhost.", RecordType::A).await), ["127.0.0.1"]);
}

#[tokio::test]
async fn without_an_upstream_the_failure_comes_at_once() {
    let (_dns, server) = started(vec![], &[]).await;
    let start = Instant::now();
    assert_eq!(ask(server, "a.example.", RecordType::A).await.metadata.response_code, ResponseCode::ServFail);
    assert!(start.elapsed() < Duration::from_millis(500));
}

#[tokio::test]
async fn a_silent_or_broken_upstream_is_covered_by_the_next() {
    let (quiet, _socket) = silent().await;
    let (up, _) = upstream().await;
    let (_dns, server) = started(vec![quiet, up], &[]).await;
    let start = Instant::now();
    assert_eq!(addresses(&ask(server, "a.example.", RecordType::A).await), ["192.0.2.7"]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let again = Instant::now();
    ask(server, "other.example.", RecordType::A).await;
    assert!(again.elapsed() < Duration::from_millis(500), "the silent one is asked last now: {:?}", again.elapsed());
    assert_eq!(ask(server, "broken.example.", RecordType::A).await.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn only_silence_ends_in_a_failure_in_time_and_then_faster() {
    let (quiet, _socket) = silent().await;
    let (_dns, server) = started(vec![quiet], &[]).await;
    let start = Instant::now();
    assert_eq!(ask(server, "a.example.", RecordType::A).await.metadata.response_code, ResponseCode::ServFail);
    assert!(start.elapsed() < DEADLINE + Duration::from_secs(1), "{:?}", start.elapsed());
    let again = Instant::now();
    ask(server, "b.example.", RecordType::A).await;
    assert!(again.elapsed() < DEADLINE_FAILING + Duration::from_secs(1), "{:?}", again.elapsed());
}

#[tokio::test]
async fn lookups_inside_the_process() {
    let (up, _) = upstream().await;
    let (dns, _) = started(vec![up], &[("cp", &["10.5.0.2"])]).await;
    assert_eq!(dns.lookup("cp").await.unwrap(), ["10.5.0.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(dns.lookup("a.example").await.unwrap(), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    assert!(dns.lookup("nowhere.example").await.unwrap_err().to_string().contains("nowhere.example"));
    assert!(dns.lookup(&"x".repeat(64)).await.is_err());
}
