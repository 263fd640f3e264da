//! Unix sockets that keep message boundaries (SOCK_SEQPACKET) and carry descriptors.

use std::{
    io::{IoSlice, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, connect,
        getsockopt, listen, recvmsg, sendmsg, socket, socketpair, sockopt,
    },
};

use crate::{Error, Result, error::During, error::show};

/// The most descriptors one message may carry here (the kernel's own limit is 253).
pub const MAX_FDS: usize = 128;

fn new_socket(nonblocking: bool) -> Result<OwnedFd> {
    let mut flags = SockFlag::SOCK_CLOEXEC;
    flags.set(SockFlag::SOCK_NONBLOCK, nonblocking);
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).during(|| "make a unix socket".into())
}

/// A listening socket; never blocks.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`, in place of whatever socket was there, with these permissions.
    pub fn bind(path: &Path, mode: u32) -> Result<Listener> {
        let _ = std::fs::remove_file(path);
        let fd = new_socket(true)?;
        let address = UnixAddr::new(path).during(|| format!("use {} as a socket's path", show(path)))?;
        bind(fd.as_raw_fd(), &address).during(|| format!("bind {}", show(path)))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).during(|| format!("set the mode of {}", show(path)))?;
        listen(&fd, Backlog::new(16).during(|| "choose a backlog".into())?).during(|| format!("listen at {}", show(path)))?;
        Ok(Listener { fd, path: path.to_owned() })
    }

    /// The next waiting connection (non-blocking itself), if there is one.
    pub fn accept(&self) -> Result<Option<Socket>> {
        match accept4(self.fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
            // SAFETY: accept4 has just given us this descriptor; nobody else owns it.
            Ok(fd) => Ok(Some(Socket(unsafe { OwnedFd::from_raw_fd(fd) }))),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => Ok(None),
            Err(errno) => Err(Error::raw(format!("accept at {}", show(&self.path)), errno as i32)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A connected socket.
#[derive(Debug)]
pub struct Socket(OwnedFd);

/// What a receive found.
#[derive(Debug)]
pub enum Received {
    /// A message with its descriptors.
    Message(Vec<u8>, Vec<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// The other side is gone.
    Closed,
}

/// The user at the other end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its pid at the time of the connection.
    pub pid: i32,
    /// Its user id.
    pub uid: u32,
}

impl Socket {
    /// Connects to the listener at `path`; the socket is non-blocking from then on.
    pub fn connect(path: &Path) -> Result<Socket> {
        let fd = new_socket(false)?;
        let address = UnixAddr::new(path).during(|| format!("use {} as a socket's path", show(path)))?;
        connect(fd.as_raw_fd(), &address).during(|| format!("connect to {}", show(path)))?;
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
            .during(|| "make a socket non-blocking".into())?;
        Ok(Socket(fd))
    }

    /// Two connected non-blocking sockets.
    pub fn pair() -> Result<(Socket, Socket)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (left, right) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).during(|| "make a socket pair".into())?;
        Ok((Socket(left), Socket(right)))
    }

    /// Sends one message whole, or nothing: false when there is no room now.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<bool> {
        if fds.len() > MAX_FDS {
            return Err(Error::Invalid(format!("a message with {} descriptors: at most {MAX_FDS} fit", fds.len())));
        }
        let raw: Vec<i32> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(message)], control, flags, None) {
                Ok(_) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(errno) => return Err(Error::raw(format!("send a message of {} bytes", message.len()), errno as i32)),
            }
        }
    }

    /// Takes the next message, of at most `limit` bytes; a longer one is an error.
    pub fn receive(&self, limit: usize) -> Result<Received> {
        let mut buffer = vec![0u8; limit];
        let mut control = cmsg_space!([i32; MAX_FDS]);
        let (count, flags, raw) = {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let message = loop {
                match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC)
                {
                    Ok(message) => break message,
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => return Ok(Received::Nothing),
                    Err(Errno::ECONNRESET) => return Ok(Received::Closed),
                    Err(errno) => return Err(Error::raw("receive a message", errno as i32)),
                }
            };
            let mut raw = Vec::new();
            if let Ok(messages) = message.cmsgs() {
                for part in messages {
                    if let ControlMessageOwned::ScmRights(fds) = part {
                        raw.extend(fds);
                    }
                }
            }
            (message.bytes, message.flags, raw)
        };
        // SAFETY: the kernel has installed these descriptors for us with this message; nobody else owns them.
        let fds: Vec<OwnedFd> = raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
        if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(Error::Invalid(format!("a message of more than {limit} bytes or {MAX_FDS} descriptors")));
        }
        if count == 0 {
            return Ok(Received::Closed);
        }
        buffer.truncate(count);
        Ok(Received::Message(buffer, fds))
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Result<Peer> {
        let credentials = getsockopt(&self.0, sockopt::PeerCredentials).during(|| "ask who is at the other end of a socket".into())?;
        Ok(Peer { pid: credentials.pid(), uid: credentials.uid() })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> OwnedFd {
        socket.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn messages_keep_their_bounds_and_carry_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = Listener::bind(&path, 0o600).unwrap();
        assert!(listener.accept().unwrap().is_none());
        let client = Socket::connect(&path).unwrap();
        let server = listener.accept().unwrap().unwrap();
        let me = Peer { pid: i32::try_from(std::process::id()).unwrap(), uid: nix::unistd::getuid().as_raw() };
        assert_eq!(server.peer().unwrap(), me);

        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"contents").unwrap();
        assert!(client.send(b"one", &[file.as_fd()]).unwrap());
        assert!(client.send(b"two", &[]).unwrap());
        let Received::Message(bytes, mut fds) = server.receive(100).unwrap() else { panic!("a message expected") };
        assert_eq!((bytes.as_slice(), fds.len()), (&b"one"[..], 1));
        let mut same = std::fs::File::from(fds.remove(0));
        same.rewind().unwrap();
        let mut text = String::new();
        same.read_to_string(&mut text).unwrap();
        assert_eq!(text, "contents");
        let Received::Message(bytes, fds) = server.receive(100).unwrap() else { panic!("a message expected") };
        assert_eq!((bytes.as_slice(), fds.len()), (&b"two"[..], 0));
        assert!(matches!(server.receive(100).unwrap(), Received::Nothing));
        drop(client);
        assert!(matches!(server.receive(100).unwrap(), Received::Closed));
    }

    #[test]
    fn a_message_over_the_limit_is_refused() {
        let (left, right) = Socket::pair().unwrap();
        assert!(left.send(&[7; 101], &[]).unwrap());
        assert!(right.receive(100).is_err());
    }

    #[test]
    fn a_reader_that_does_not_read_blocks_nobody() {
        let (left, _right) = Socket::pair().unwrap();
        let mut sent = 0;
        while left.send(&[0; 1000], &[]).unwrap() {
            sent += 1;
            assert!(sent < 100_000);
        }
        assert!(sent > 0);
    }
}
