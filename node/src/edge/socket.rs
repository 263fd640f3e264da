//! Sockets with the options the node's data plane needs: address reuse, binding before an address exists, limits on dead peers.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

/// Pending connections a listener keeps.
const BACKLOG: i32 = 512;

/// A TCP listener that may bind an address no link carries yet (IP_FREEBIND), since host DNS starts before its address on `lo`.
pub(crate) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    prepare(&socket, address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A UDP socket, bound like [`listen`].
pub(crate) fn datagram(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    prepare(&socket, address)?;
    // Room for a burst while this process waits for a core.
    let _ = socket.set_recv_buffer_size(1 << 20);
    Ok(socket.into())
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(v6) => {
            socket.set_freebind_v6(true)?;
            if v6.ip().is_unspecified() {
                socket.set_only_v6(false)?;
            }
        }
    }
    socket.bind(&address.into())
}

/// The next connection. Running out of descriptors passes: it is waited out, never an end of service.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Drops a peer that takes or acknowledges nothing for `limit` (TCP_USER_TIMEOUT, which counts zero windows too).
pub(crate) fn limit_stall(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(limit))
}

/// Keepalive: first probe after `idle`, then every `interval`; with [`limit_stall`] the user timeout decides when to give up.
pub(crate) fn keepalive(stream: &TcpStream, idle: Duration, interval: Duration) -> io::Result<()> {
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(3))
}
