//! Request heads under numbers, so that proxies may remember what they decided about them, and the
//! response heads of applications.

use indexmap::IndexMap;
use proxy_core::head::{RequestHead, ResponseHead};
use proxy_core::ids::HeadId;
use proxy_core::random::hash_text;
use proxy_core::xds::Name;
use rustc_hash::FxBuildHasher;
use std::sync::Arc;

/// Every head seen, under its number.
#[derive(Debug)]
pub(super) struct Heads {
    all: Vec<Arc<RequestHead>>,
    /// Numbers by a hash of the content; heads whose hashes collide share an entry.
    by_content: IndexMap<u64, Vec<u32>, FxBuildHasher>,
    /// Numbers by address, each with its head, which so keeps the address.
    by_address: IndexMap<usize, (Arc<RequestHead>, u32), FxBuildHasher>,
    /// Heads of calls: by the call's own head and by the head of the request it is made for.
    of_calls: IndexMap<(usize, u32), u32, FxBuildHasher>,
    responses: Vec<Arc<ResponseHead>>,
}

impl Heads {
    /// `known` are numbered already.
    pub(super) fn new(known: &[Arc<RequestHead>]) -> Heads {
        let mut heads = Heads {
            all: known.to_vec(),
            by_content: IndexMap::default(),
            by_address: IndexMap::default(),
            of_calls: IndexMap::default(),
            responses: Vec::new(),
        };
        for (number, head) in (0u32..).zip(known) {
            heads
                .by_content
                .entry(content_hash(head))
                .or_default()
                .push(number);
        }
        heads
    }

    /// The same head with its number.
    #[inline]
    pub(super) fn numbered(&mut self, head: &Arc<RequestHead>) -> Arc<RequestHead> {
        let number = self.number(head);
        Arc::clone(&self.all[number as usize])
    }

    fn number(&mut self, head: &Arc<RequestHead>) -> u32 {
        if let Some(id) = head.id {
            return id.0;
        }
        let address = Arc::as_ptr(head) as usize;
        if let Some((_, number)) = self.by_address.get(&address) {
            return *number;
        }
        let number = self.number_of_content(head);
        self.by_address.insert(address, (Arc::clone(head), number));
        number
    }

    fn number_of_content(&mut self, head: &RequestHead) -> u32 {
        let same = |known: &RequestHead| {
            (
                &known.method,
                &known.scheme,
                &known.authority,
                &known.path,
                &known.headers,
            ) == (
                &head.method,
                &head.scheme,
                &head.authority,
                &head.path,
                &head.headers,
            )
        };
        let candidates = self.by_content.entry(content_hash(head)).or_default();
        if let Some(number) = candidates.iter().find(|&&n| same(&self.all[n as usize])) {
            return *number;
        }
        let number = self.all.len() as u32;
        candidates.push(number);
        self.all.push(Arc::new(RequestHead {
            id: Some(HeadId(number)),
            ..head.clone()
        }));
        number
    }

    /// The head of a call: its own, with the headers in `propagate` taken from `request`.
    pub(super) fn for_call(
        &mut self,
        own: &Arc<RequestHead>,
        request: &Arc<RequestHead>,
        propagate: &[Name],
    ) -> Arc<RequestHead> {
        if propagate.is_empty() {
            return self.numbered(own);
        }
        let of = self.number(request);
        let key = (Arc::as_ptr(own) as usize, of);
        if let Some(number) = self.of_calls.get(&key) {
            return Arc::clone(&self.all[*number as usize]);
        }
        let mut head = (**own).clone();
        for (name, value) in &request.headers.0 {
            if propagate.contains(name) {
                head.headers.append(Arc::clone(name), value.as_bytes());
            }
        }
        let number = self.number_of_content(&head);
        self.of_calls.insert(key, number);
        Arc::clone(&self.all[number as usize])
    }

    /// The head of an application's answer.
    #[inline]
    pub(super) fn response(&mut self, status: u16) -> Arc<ResponseHead> {
        if let Some(head) = self.responses.iter().find(|head| head.status == status) {
            return Arc::clone(head);
        }
        let head = Arc::new(ResponseHead::of_status(status));
        self.responses.push(Arc::clone(&head));
        head
    }
}

fn content_hash(head: &RequestHead) -> u64 {
    let parts = [&head.method, &head.scheme, &head.authority, &head.path];
    let mut hash = head.headers.0.len() as u64;
    for part in parts {
        hash = proxy_core::random::mix(hash ^ hash_text(part));
    }
    hash
}
