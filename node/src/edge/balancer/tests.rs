//! The balancer over real sockets on loopback.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn no_lookup() -> Lookup {
    Arc::new(|_| Box::pin(async { Err(io::Error::from(io::ErrorKind::NotFound)) }))
}

/// A server that greets with its name and then echoes.
async fn server(name: &'static str) -> (Target, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let _ = stream.write_all(name.as_bytes()).await;
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    (Target { host: "127.0.0.1".into(), port }, task)
}

/// A target whose listen queue is full, so that a dial gets no answer at all, like a host that vanished.
async fn silent() -> (Target, Vec<std::net::TcpStream>, std::net::TcpListener) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let listener: std::net::TcpListener = socket.into();
    let address = listener.local_addr().unwrap();
    let mut fillers = Vec::new();
    for _ in 0..8 {
        match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            Ok(stream) => fillers.push(stream),
            Err(_) => break,
        }
    }
    (Target { host: "127.0.0.1".into(), port: address.port() }, fillers, listener)
}

async fn started(targets: &[Target]) -> (Arc<Balancer>, SocketAddr) {
    let balancer = Balancer::new(no_lookup());
    balancer.set_targets(targets);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(balancer.clone().serve(listener));
    (balancer, address)
}

async fn greeting(address: SocketAddr) -> io::Result<(String, TcpStream)> {
    let mut stream = TcpStream::connect(address).await?;
    let mut buffer = [0; 1];
    stream.read_exact(&mut buffer).await?;
    Ok((String::from_utf8_lossy(&buffer).into_owned(), stream))
}

#[tokio::test]
async fn a_refused_target_costs_no_time_and_is_tried_last_afterwards() {
    let (alive, _task) = server("a").await;
    let (gone, task) = server("b").await;
    task.abort();
    let _ = task.await;
    let (_balancer, address) = started(&[gone, alive]).await;
    let start = Instant::now();
    for _ in 0..10 {
        assert_eq!(greeting(address).await.unwrap().0, "a");
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_silent_target_costs_at_most_a_second() {
    let (quiet, _fillers, _listener) = silent().await;
    let (alive, _task) = server("a").await;
    let (balancer, address) = started(&[quiet.clone(), alive]).await;
    // Make the silent one the first choice, as a control plane that vanished was a moment ago.
    balancer.report(&quiet, true);
    let start = Instant::now();
    for _ in 0..4 {
        assert_eq!(greeting(address).await.unwrap().0, "a");
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn bytes_and_half_closes_pass_both_ways() {
    let (alive, _task) = server("a").await;
    let (_balancer, address) = started(&[alive]).await;
    let (_, mut stream) = greeting(address).await.unwrap();
    let sent: Vec<u8> = (0..200_000u32).map(|i| u8::try_from(i % 253).unwrap()).collect();
    let (mut read, mut write) = stream.split();
    let writing = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(writing, read.read_to_end(&mut got));
    read.unwrap();
    assert!(got == sent);
}

#[tokio::test]
async fn with_nobody_there_a_client_learns_it_at_once() {
    let (gone, task) = server("b").await;
    task.abort();
    let _ = task.await;
    let (balancer, address) = started(&[gone]).await;
    let start = Instant::now();
    assert!(greeting(address).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(!*balancer.health().borrow());
}

#[tokio::test]
async fn clients_that_give_up_cut_nobody_off() {
    // One that answers nobody but the first, which stays connected.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let _ = first.write_all(b"a").await;
        loop {
            let (mut quiet, _) = listener.accept().await.unwrap();
            let _ = quiet.read(&mut [0]).await;
        }
    });
    let (other, _task) = server("b").await;
    let (balancer, address) = started(std::slice::from_ref(&target)).await;
    let (_, mut held) = greeting(address).await.unwrap();
    balancer.set_targets(&[target, other.clone()]);
    balancer.report(&other, true);
    for _ in 0..8 {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"x").await.unwrap();
        client.shutdown().await.unwrap();
        let _ = timeout(Duration::from_millis(200), client.read(&mut [0])).await;
    }
    let broken = timeout(Duration::from_millis(300), held.read(&mut [0])).await;
    assert!(broken.is_err(), "the held connection ended: {broken:?}");
}

#[tokio::test]
async fn what_accepts_and_closes_at_once_is_not_healthy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (accepted, mut seen) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
            let _ = accepted.send(()).await;
        }
    });
    let (balancer, _address) = started(&[Target { host: "127.0.0.1".into(), port }]).await;
    tokio::spawn(balancer.clone().check());
    // The second check begins when the first was judged.
    for _ in 0..2 {
        timeout(Duration::from_secs(5), seen.recv()).await.unwrap().unwrap();
    }
    assert!(!*balancer.health().borrow());
}

#[tokio::test]
async fn a_connection_to_a_target_that_fails_its_checks_is_cut_when_another_is_up() {
    let (first, _one) = server("a").await;
    let (second, _two) = server("b").await;
    let (balancer, address) = started(std::slice::from_ref(&first)).await;
    let (_, mut stream) = greeting(address).await.unwrap();
    balancer.set_targets(&[first.clone(), second.clone()]);
    balancer.report(&second, true);
    for _ in 0..3 {
        balancer.report(&first, false);
    }
    let ended = timeout(Duration::from_secs(2), stream.read(&mut [0; 8])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "the connection must end: {ended:?}");
    assert_eq!(greeting(address).await.unwrap().0, "b");
}

#[tokio::test]
async fn checks_find_targets_that_come_back() {
    let (target, task) = server("a").await;
    task.abort();
    let _ = task.await;
    let (balancer, _address) = started(std::slice::from_ref(&target)).await;
    let mut health = balancer.health();
    tokio::spawn(balancer.clone().check());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!*health.borrow());
    let _listener = TcpListener::bind(("127.0.0.1", target.port)).await.unwrap();
    timeout(Duration::from_secs(5), health.wait_for(|up| *up)).await.unwrap().unwrap();
}
