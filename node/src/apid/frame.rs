//! gRPC frames and the little protobuf that merging replies of many nodes takes, on raw bytes.
//!
//! Every mergeable reply is `XResponse { repeated X messages = 1 }`, and field 1 of X is `common.Metadata`. So concatenating
//! replies merges them, and appending a serialized `common.Empty { metadata }` to an X gives it metadata, whatever X is.

use api::{MAX_MESSAGE, RpcStatus, common};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt as _;
use prost::Message as _;
use tonic::{Code, Status};

/// Reads the frames of a body one by one; afterwards its trailers.
pub(crate) struct Frames<B> {
    body: B,
    buffer: BytesMut,
    ended: bool,
    trailers: Option<HeaderMap>,
}

const HEADER: usize = 5;

impl<B> Frames<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// Frames of `body`.
    pub(crate) fn new(body: B) -> Frames<B> {
        Frames { body, buffer: BytesMut::new(), ended: false, trailers: None }
    }

    /// The next message, without its frame header.
    ///
    /// # Errors
    /// `Unavailable` when the body breaks off, `Internal` when it is not made of plain gRPC frames, `ResourceExhausted` when
    /// a message is larger than [`MAX_MESSAGE`].
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if self.ended {
                return match self.buffer.len() {
                    0 => Ok(None),
                    n => Err(Status::unavailable(format!("the reply broke off inside a message, after {n} bytes of it"))),
                };
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Err(e)) => return Err(Status::unavailable(format!("the reply broke off: {e}"))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((header, _)) = self.buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [flag, a, b, c, d] = *header;
        if flag != 0 {
            return Err(Status::internal(format!("unexpected message format: compression flag {flag} in a reply to be merged")));
        }
        let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if size > MAX_MESSAGE {
            return Err(Status::resource_exhausted(format!("a message of {size} bytes: at most {MAX_MESSAGE} are accepted")));
        }
        if self.buffer.len() < HEADER + size {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        Ok(Some(self.buffer.split_to(size).freeze()))
    }

    /// How the call ended, once [`Frames::next`] gave `None`; a missing status is an error.
    ///
    /// # Errors
    /// The status the callee gave.
    pub(crate) fn finish(&self) -> Result<(), RpcStatus> {
        status_of(self.trailers.as_ref().unwrap_or(&HeaderMap::new()))
    }
}

/// The status in trailers (or in the head of a reply without body).
///
/// # Errors
/// Any status but OK.
pub(crate) fn status_of(headers: &HeaderMap) -> Result<(), RpcStatus> {
    let Some(status) = Status::from_header_map(headers) else {
        return Err(rpc_status(&Status::unavailable("the reply ended without a status")));
    };
    if status.code() == Code::Ok {
        return Ok(());
    }
    Err(rpc_status(&status))
}

/// A status with its details, as it travels inside metadata.
pub(crate) fn rpc_status(status: &Status) -> RpcStatus {
    // The details, when there are any, are a whole google.rpc.Status.
    if !status.details().is_empty()
        && let Ok(full) = RpcStatus::decode(status.details())
    {
        return full;
    }
    RpcStatus { code: status.code() as i32, message: status.message().to_owned(), details: Vec::new() }
}

/// A message as one uncompressed frame.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + message.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}

fn metadata(node: &str, error: Option<&RpcStatus>) -> common::Empty {
    let error_text = error.map(error_text).unwrap_or_default();
    common::Empty { metadata: Some(common::Metadata { hostname: node.to_owned(), error: error_text, status: error.cloned() }) }
}

/// The text clients show: what grpc-go prints for a status.
fn error_text(status: &RpcStatus) -> String {
    format!("rpc error: code = {} desc = {}", code_name(Code::from_i32(status.code)), status.message)
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// A streamed message with its node's name.
pub(crate) fn stamp(message: &[u8], node: &str) -> Vec<u8> {
    let mut out = message.to_vec();
    out.extend(metadata(node, None).encode_to_vec());
    out
}

/// What stands for a node that failed in a stream: the last message of it.
pub(crate) fn stream_error(node: &str, status: &RpcStatus) -> Vec<u8> {
    metadata(node, Some(status)).encode_to_vec()
}

/// What stands for a node that failed in a merged reply.
pub(crate) fn merged_error(node: &str, status: &RpcStatus) -> Vec<u8> {
    common::EmptyResponse { messages: vec![metadata(node, Some(status))] }.encode_to_vec()
}

/// One node's reply as its part of the merged one: its first entry gets the node's name.
///
/// # Errors
/// `Internal` when the reply does not begin with an entry.
pub(crate) fn merge(reply: &[u8], node: &str) -> Result<Vec<u8>, Status> {
    // Field 1, length-delimited.
    const ENTRY: u8 = 1 << 3 | 2;
    let unexpected = || Status::internal("unexpected message format");
    let (&tag, mut rest) = reply.split_first().ok_or_else(unexpected)?;
    if tag != ENTRY {
        return Err(unexpected());
    }
    let size = prost::decode_length_delimiter(&mut rest).map_err(|_| unexpected())?;
    let (entry, others) = rest.split_at_checked(size).ok_or_else(unexpected)?;
    let name = metadata(node, None).encode_to_vec();
    let mut out = Vec::with_capacity(reply.len() + name.len() + 8);
    out.push(ENTRY);
    prost::encode_length_delimiter(entry.len() + name.len(), &mut out).map_err(|_| unexpected())?;
    out.extend_from_slice(entry);
    out.extend(name);
    out.extend_from_slice(others);
    Ok(out)
}

/// Trailers of a call that went well.
pub(crate) fn ok_trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))])
}

/// Trailers that carry `status`.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut map = HeaderMap::new();
    if status.add_header(&mut map).is_err() {
        map = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from(status.code() as i32))]);
    }
    map
}
