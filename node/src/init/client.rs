//! The side of the control socket that `machined` uses.
//!
//! One task owns the socket; any number of callers ask through a [`Client`] at once. What `init` tells unasked comes out of the channel
//! that [`Client::connect`] gives. There is one connection at a time: a new one takes the place of the old.

use std::{collections::HashMap, path::Path, time::Duration};

use sys::seqpacket::{Received, Socket};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::protocol::{End, Event, FromInit, LogPlace, MAX_MESSAGE, ProcessRef, Refusal, Reply, Request, ToInit, UnitSpec, UnitStatus};

/// `init` answers at once; a spawn may take as long as an execve from a slow disk.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Why a request to `init` came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `init` said no.
    #[error("init refused: {0}")]
    Refused(#[from] Refusal),
    /// The connection is gone: another `machined` took it over, or this is not a node.
    #[error("the connection to init is closed")]
    Closed,
    /// No answer came.
    #[error("init did not answer within {0:?}")]
    Deadline(Duration),
    /// The socket could not be used.
    #[error("talk to init")]
    Socket(#[source] sys::Error),
    /// An answer of another kind than asked for, or none that could be decoded.
    #[error("init answered what was not asked: {0}")]
    Unexpected(String),
}

/// A unit just started.
#[derive(Debug)]
pub struct Started {
    /// Its process.
    pub process: ProcessRef,
    /// What of the specification the kernel granted only in part.
    pub warnings: Vec<String>,
}

struct Asked {
    request: Request,
    answer: oneshot::Sender<Reply>,
}

/// A handle to ask `init` with.
#[derive(Clone)]
pub struct Client {
    ask: mpsc::Sender<Asked>,
}

impl Client {
    /// Connects to the `init` that listens at `path` (on a node: [`super::protocol::SOCKET`]). The channel gives every event; it closes
    /// when the connection does.
    pub fn connect(path: &Path) -> Result<(Client, mpsc::UnboundedReceiver<Event>), Error> {
        let socket = Socket::connect(path).map_err(Error::Socket)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of types whose descriptor may change; a Socket owns one for its whole life"
        )]
        let registered = AsyncFd::with_interest(socket, Interest::READABLE | Interest::WRITABLE);
        let socket = registered.map_err(|error| Error::Unexpected(format!("the runtime does not take the socket: {error}")))?;
        let (ask, asked) = mpsc::channel(64);
        // Unbounded, but its length is bounded by what happens to units, and a reader that stopped reading must not keep answers back.
        let (tell, events) = mpsc::unbounded_channel();
        tokio::spawn(pump(socket, asked, tell));
        Ok((Client { ask }, events))
    }

    async fn ask(&self, request: Request) -> Result<Reply, Error> {
        let size = postcard::to_stdvec(&request).map_or(0, |bytes| bytes.len()) + size_of::<u64>() + 2;
        if size > MAX_MESSAGE {
            let why = format!("the request has {size} bytes, and {MAX_MESSAGE} fit: shorten its arguments or environment");
            return Err(Error::Refused(Refusal::Invalid(why)));
        }
        let (answer, answered) = oneshot::channel();
        let asking = async {
            self.ask.send(Asked { request, answer }).await.map_err(|_| Error::Closed)?;
            answered.await.map_err(|_| Error::Closed)
        };
        match timeout(ANSWER_DEADLINE, asking).await {
            Ok(Ok(Reply::Refused(refusal))) => Err(Error::Refused(refusal)),
            Ok(answer) => answer,
            Err(_) => Err(Error::Deadline(ANSWER_DEADLINE)),
        }
    }

    async fn done(&self, request: Request) -> Result<(), Error> {
        match self.ask(request).await? {
            Reply::Done => Ok(()),
            other => Err(Error::Unexpected(format!("{other:?}"))),
        }
    }

    /// All units that `init` knows.
    pub async fn list(&self) -> Result<Vec<UnitStatus>, Error> {
        match self.ask(Request::List).await? {
            Reply::Units(units) => Ok(units),
            other => Err(Error::Unexpected(format!("{other:?}"))),
        }
    }

    /// Starts a unit.
    pub async fn spawn(&self, spec: UnitSpec) -> Result<Started, Error> {
        match self.ask(Request::Spawn(Box::new(spec))).await? {
            Reply::Started { process, warnings } => Ok(Started { process, warnings }),
            other => Err(Error::Unexpected(format!("{other:?}"))),
        }
    }

    /// Sends a signal to the main process of a unit, or to `everyone` in its control group.
    pub async fn signal(&self, unit: &str, signal: i32, everyone: bool) -> Result<(), Error> {
        self.done(Request::Signal { unit: unit.to_owned(), signal, everyone }).await
    }

    /// Forgets a unit that has ended.
    pub async fn forget(&self, unit: &str) -> Result<(), Error> {
        self.done(Request::Forget { unit: unit.to_owned() }).await
    }

    /// Says where logs go from now on.
    pub async fn logs(&self, place: LogPlace) -> Result<(), Error> {
        self.done(Request::Logs(place)).await
    }

    /// Ends the node.
    pub async fn end(&self, how: End) -> Result<(), Error> {
        self.done(Request::End(how)).await
    }
}

/// Carries packets both ways until either side is gone.
async fn pump(socket: AsyncFd<Socket>, mut asked: mpsc::Receiver<Asked>, tell: mpsc::UnboundedSender<Event>) {
    let mut number = 0u64;
    let mut waiting: HashMap<u64, oneshot::Sender<Reply>> = HashMap::new();
    loop {
        tokio::select! {
            next = asked.recv() => {
                let Some(Asked { request, answer }) = next else { return };
                number += 1;
                waiting.retain(|_, answer| !answer.is_closed());
                waiting.insert(number, answer);
                if let Err(error) = send(&socket, &ToInit { number, request }).await {
                    tracing::warn!(%error, "could not ask init");
                    waiting.remove(&number);
                }
            }
            packet = receive(&socket) => match packet {
                Ok(Some(FromInit::Event(event))) => drop(tell.send(event)),
                Ok(Some(FromInit::Reply(number, reply))) => {
                    if let Some(answer) = waiting.remove(&number) {
                        drop(answer.send(reply));
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "lost the connection to init");
                    return;
                }
            },
        }
    }
}

async fn send(socket: &AsyncFd<Socket>, packet: &ToInit) -> Result<(), Error> {
    let bytes = postcard::to_stdvec(packet).map_err(|error| Error::Unexpected(error.to_string()))?;
    loop {
        let mut ready = socket.writable().await.map_err(|_| Error::Closed)?;
        if socket.get_ref().send(&bytes, &[]).map_err(Error::Socket)? {
            return Ok(());
        }
        ready.clear_ready();
    }
}

async fn receive(socket: &AsyncFd<Socket>) -> Result<Option<FromInit>, Error> {
    loop {
        let mut ready = socket.readable().await.map_err(|_| Error::Closed)?;
        match socket.get_ref().receive(MAX_MESSAGE).map_err(Error::Socket)? {
            Received::Closed => return Ok(None),
            Received::Nothing => ready.clear_ready(),
            Received::Message(bytes, _) => {
                return postcard::from_bytes(&bytes).map(Some).map_err(|error| Error::Unexpected(error.to_string()));
            }
        }
    }
}
