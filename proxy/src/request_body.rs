//! The body of a request on its way: received once, sent as often as tries and mirrors ask.
//!
//! Everything is kept until more than the replay limit has arrived; from then on only what the
//! slowest sender still needs, and no more than the limit of that: the client is read no faster
//! than the endpoint reads. A mirror that falls so far behind is broken off.

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Envoy's default `per_connection_buffer_limit_bytes`.
const LIMIT_BYTES: u64 = 1 << 20;
/// At least this much is under way, however little the core wants kept.
const WINDOW_BYTES: u64 = 1 << 16;

/// What became of receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// More than the core wants kept for a retry has arrived; call again.
    Full,
    All,
    /// The client broke off.
    Broken,
    /// The exchange is over.
    Unwanted,
}

/// For whom a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipient {
    Endpoint,
    Mirror,
}

/// A request's body, shared by the one who receives it and those who send it.
#[derive(Clone, Debug)]
pub(crate) struct RequestBody(Rc<RefCell<Shared>>);

#[derive(Debug)]
struct Shared {
    frames: VecDeque<Frame<Bytes>>,
    /// Number of the first frame in `frames`.
    first: u64,
    held_bytes: u64,
    limit: u64,
    /// Nothing has been dropped yet, nor will it be below the limit.
    keeps_all: bool,
    /// The core wants to hear when the limit is exceeded.
    tell_full: bool,
    state: State,
    senders: Vec<Option<Sender>>,
    receiver: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Receiving,
    Complete,
    /// No more will come: the client broke off, or nobody wants it.
    Cut,
}

#[derive(Debug)]
struct Sender {
    recipient: Recipient,
    /// Number of the next frame to send.
    next: u64,
    cut: bool,
    waker: Option<Waker>,
}

impl RequestBody {
    pub(crate) fn new() -> RequestBody {
        RequestBody(Rc::new(RefCell::new(Shared {
            frames: VecDeque::new(),
            first: 0,
            held_bytes: 0,
            limit: LIMIT_BYTES,
            keeps_all: true,
            tell_full: false,
            state: State::Receiving,
            senders: Vec::new(),
            receiver: None,
        })))
    }

    /// Keeps up to `limit` bytes for a retry.
    pub(crate) fn keep(&self, limit: u64) {
        let mut shared = self.0.borrow_mut();
        shared.limit = limit;
        shared.keeps_all &= shared.held_bytes <= limit;
        shared.tell_full = true;
        shared.wake_receiver();
    }

    /// The exchange is over: nothing more is received.
    pub(crate) fn close(&self) {
        let mut shared = self.0.borrow_mut();
        if shared.state == State::Receiving {
            shared.cut();
        }
    }

    /// A body to send, from its start; `None` if that is gone.
    pub(crate) fn send_to(&self, recipient: Recipient) -> Option<Outgoing> {
        let mut shared = self.0.borrow_mut();
        if shared.first > 0 {
            return None;
        }
        let sender = Some(Sender {
            recipient,
            next: 0,
            cut: false,
            waker: None,
        });
        let free = shared.senders.iter().position(Option::is_none);
        let at = free.unwrap_or(shared.senders.len());
        if free.is_none() {
            shared.senders.push(None);
        }
        shared.senders[at] = sender;
        let body = self.clone();
        Some(Outgoing(Some(Sending { body, at })))
    }

    /// Takes in what the client sends, until there is something to tell the core.
    pub(crate) async fn receive(&self, incoming: &mut Incoming) -> Received {
        std::future::poll_fn(|cx| self.poll_receive(incoming, cx)).await
    }

    fn poll_receive(&self, incoming: &mut Incoming, cx: &mut Context<'_>) -> Poll<Received> {
        let mut shared = self.0.borrow_mut();
        loop {
            if shared.state == State::Cut {
                return Poll::Ready(Received::Unwanted);
            }
            if shared.tell_full && !shared.keeps_all {
                shared.tell_full = false;
                return Poll::Ready(Received::Full);
            }
            if !shared.has_room() {
                shared.receiver = Some(cx.waker().clone());
                return Poll::Pending;
            }
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Pending => {
                    shared.receiver = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => shared.push(frame),
                Poll::Ready(Some(Err(_))) => {
                    shared.cut();
                    return Poll::Ready(Received::Broken);
                }
                Poll::Ready(None) => {
                    shared.state = State::Complete;
                    shared.wake_senders();
                    return Poll::Ready(Received::All);
                }
            }
        }
    }
}

impl Shared {
    fn push(&mut self, frame: Frame<Bytes>) {
        self.held_bytes += bytes_in(&frame);
        self.frames.push_back(frame);
        if self.held_bytes > self.limit {
            self.keeps_all = false;
        }
        self.trim();
        self.wake_senders();
    }

    /// Whether another frame may come in. A mirror that is all that stands in the way is broken
    /// off.
    fn has_room(&mut self) -> bool {
        let window = self.limit.max(WINDOW_BYTES);
        while !self.keeps_all && self.held_bytes >= window {
            let behind = |sender: &&mut Sender| sender.next == self.first && !sender.cut;
            let mut slowest = self.senders.iter_mut().flatten().filter(behind);
            let Some(mirror) = slowest.find(|sender| sender.recipient == Recipient::Mirror) else {
                return false;
            };
            mirror.cut = true;
            wake(&mut mirror.waker);
            self.trim();
        }
        true
    }

    /// Drops the frames that every sender is done with.
    fn trim(&mut self) {
        if self.keeps_all {
            return;
        }
        let waiting = self.senders.iter().flatten().filter(|sender| !sender.cut);
        let Some(done) = waiting.map(|sender| sender.next).min() else {
            return;
        };
        while self.first < done {
            if let Some(frame) = self.frames.pop_front() {
                self.held_bytes -= bytes_in(&frame);
            }
            self.first += 1;
        }
    }

    fn cut(&mut self) {
        self.state = State::Cut;
        self.wake_senders();
        self.wake_receiver();
    }

    fn wake_senders(&mut self) {
        for sender in self.senders.iter_mut().flatten() {
            wake(&mut sender.waker);
        }
    }

    fn wake_receiver(&mut self) {
        wake(&mut self.receiver);
    }

    fn poll_send(
        &mut self,
        at: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let Some(sender) = self.senders.get_mut(at).and_then(Option::as_mut) else {
            return Poll::Ready(None);
        };
        if sender.cut {
            return Poll::Ready(Some(Err(CutShort)));
        }
        let frame = self.frames.get((sender.next - self.first) as usize);
        if let Some(frame) = frame.map(copy) {
            sender.next += 1;
            self.trim();
            self.wake_receiver();
            return Poll::Ready(Some(Ok(frame)));
        }
        match self.state {
            State::Complete => Poll::Ready(None),
            State::Cut => Poll::Ready(Some(Err(CutShort))),
            State::Receiving => {
                sender.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn bytes_in(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.remaining() as u64)
}

/// A frame holds data or trailers; data is shared, not copied.
fn copy(frame: &Frame<Bytes>) -> Frame<Bytes> {
    match (frame.data_ref(), frame.trailers_ref()) {
        (Some(data), _) => Frame::data(data.clone()),
        (None, Some(trailers)) => Frame::trailers(trailers.clone()),
        (None, None) => Frame::data(Bytes::new()),
    }
}

/// A request's body as it is sent upstream; empty if the request has none.
#[derive(Debug)]
pub(crate) struct Outgoing(Option<Sending>);

#[derive(Debug)]
struct Sending {
    body: RequestBody,
    at: usize,
}

impl Outgoing {
    pub(crate) const EMPTY: Outgoing = Outgoing(None);
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        match &self.0 {
            None => Poll::Ready(None),
            Some(Sending { body, at }) => body.0.borrow_mut().poll_send(*at, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut shared = self.body.0.borrow_mut();
        shared.senders[self.at] = None;
        shared.trim();
        shared.wake_receiver();
    }
}

/// The rest of a request's body will not come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CutShort;

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was cut short")
    }
}

impl std::error::Error for CutShort {}
