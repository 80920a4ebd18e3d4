//! The body of a response on its way to the client.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// What the client is sent.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// Written by the proxy, or empty.
    Local(Option<Bytes>),
    /// As it comes from an endpoint.
    Relay(Relay),
}

impl ResponseBody {
    pub(crate) fn local(text: &str) -> ResponseBody {
        ResponseBody::Local((!text.is_empty()).then(|| Bytes::copy_from_slice(text.as_bytes())))
    }
}

/// The stream from an endpoint, watched for its end.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) body: Incoming,
    /// Told when the body is complete or broken.
    pub(crate) ended: Option<oneshot::Sender<Result<(), hyper::Error>>>,
    /// Breaks the response off.
    pub(crate) abort: Option<oneshot::Receiver<()>>,
}

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(abort) = &mut self.abort
            && let Poll::Ready(told) = Pin::new(abort).poll(cx)
        {
            // The sender is dropped, unused, when the exchange ends well.
            self.abort = None;
            if told.is_ok() {
                return Poll::Ready(Some(Err(BrokenOff)));
            }
        }
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                // With a known length the reader need not ask for more.
                if self.body.is_end_stream() {
                    self.end(Ok(()));
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.end(Err(error));
                Some(Err(BrokenOff))
            }
            None => {
                self.end(Ok(()));
                None
            }
        })
    }

    fn end(&mut self, result: Result<(), hyper::Error>) {
        if let Some(ended) = self.ended.take() {
            // Nobody listens once the attempt was cancelled.
            let _ = ended.send(result);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            ResponseBody::Local(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            ResponseBody::Relay(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Local(text) => text.is_none(),
            ResponseBody::Relay(relay) => relay.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Local(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64)
            }
            ResponseBody::Relay(relay) => relay.body.size_hint(),
        }
    }
}

/// The response ends before its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the response was broken off")
    }
}

impl std::error::Error for BrokenOff {}
