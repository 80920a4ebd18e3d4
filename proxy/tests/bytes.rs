//! The proxy on bytes: requests, bodies, connections, failures.
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use proxy_core::time::Nanos;
use proxy_core::xds::{Forward, Fraction, Mirror};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A bench with one endpoint `a` in cluster `c`, and the way there as `change` wants it.
fn bench<F, R>(change: impl FnOnce(&mut Forward), handle: F) -> Bench
where
    F: Fn(u32, Request<Bytes>) -> R + Clone + 'static,
    R: Future<Output = Option<Response<Full<Bytes>>>> + 'static,
{
    let mut bench = Bench::new(1);
    let address = bench.address("a", 80);
    bench.endpoint("a", handle);
    let mut forward = Forward::to("c".into());
    change(&mut forward);
    bench.proxy(config(vec![cluster("c", &[address])], forward));
    bench
}

async fn echo(_: u32, request: Request<Bytes>) -> Option<Response<Full<Bytes>>> {
    let mut response = Response::new(Full::new(request.body().clone()));
    let id = request.headers()["x-request-id"].clone();
    response.headers_mut().insert("x-seen", id);
    response
        .headers_mut()
        .insert("x-host", request.headers()["host"].clone());
    Some(response)
}

#[test]
fn requests_with_and_without_body_go_through() {
    let left = bench(|_| {}, echo).run(async {
        let mut client = Client::connect().await;
        let got = client.get("/").await;
        assert_eq!((got.status().as_u16(), got.body().len()), (200, 0));
        assert_eq!(got.headers()["x-host"], "reviews");
        let mut request = post("/", "hello");
        let id = "00000000000000ff".parse().unwrap();
        request.headers_mut().insert("x-request-id", id);
        let posted = client.send(request).await;
        assert_eq!(&posted.body()[..], b"hello");
        assert_eq!(posted.headers()["x-seen"], "00000000000000ff");
        assert!(!posted.headers().contains_key("date"));
    });
    assert_eq!(left.ends(), ["200 - via_upstream", "200 - via_upstream"]);
    assert_eq!(left.logs.borrow()[1].key, 255);
    // Two hops there, two back, of one millisecond each; the first one also connects.
    assert_eq!(left.logs.borrow()[1].duration, Nanos::from_millis(2));
    assert_eq!(*left.answers.borrow(), [(1, None), (2, None), (3, None)]);
}

#[test]
fn a_head_request_keeps_the_length_it_is_told() {
    let left = bench(
        |_| {},
        |_, request| async move {
            let length = if request.method() == "HEAD" { 123 } else { 0 };
            let response = Response::builder().header("content-length", length);
            Some(response.body(Full::default()).unwrap())
        },
    )
    .run(async {
        let mut client = Client::connect().await;
        let mut request = get("/");
        *request.method_mut() = http::Method::HEAD;
        let got = client.send(request).await;
        assert_eq!(got.headers()["content-length"], "123");
        assert_eq!(client.get("/").await.status(), 200);
    });
    assert_eq!(left.ends().len(), 2);
}

#[test]
fn connections_are_used_again() {
    let left = bench(|_| {}, echo).run(async {
        let mut client = Client::connect().await;
        for _ in 0..3 {
            client.post("/", "x").await;
        }
        Client::connect().await.get("/").await;
    });
    assert_eq!(left.journaled("Connect").len(), 1);
    let sends = left.journaled("Send");
    assert_eq!(sends.len(), 4);
    assert!(sends.iter().all(|send| send["conn"] == sends[0]["conn"]));
    assert_eq!(left.journaled("Opened").len(), 2);
}

#[test]
fn a_connection_that_its_peer_closes_gets_no_further_request() {
    let left = bench(
        |_| {},
        |number, _| async move {
            let mut response = ok("x").unwrap();
            if number == 0 {
                let close = "close".parse().unwrap();
                response.headers_mut().insert("connection", close);
            }
            Some(response)
        },
    )
    .run(async {
        let (mut one, mut two) = (Client::connect().await, Client::connect().await);
        one.get("/").await;
        let got = one.get("/").await;
        assert!(!got.headers().contains_key("connection"));
        two.get("/").await;
    });
    assert_eq!(left.ends(), ["200 - via_upstream"; 3]);
    assert_eq!(left.journaled("GoAway").len(), 1);
    assert_eq!(left.journaled("Connect").len(), 2);
}

#[test]
fn a_retry_sends_the_body_again() {
    let bodies: Rc<RefCell<Vec<Bytes>>> = Rc::default();
    let seen = Rc::clone(&bodies);
    let handle = move |number, request: Request<Bytes>| {
        seen.borrow_mut().push(request.body().clone());
        async move { status(if number < 2 { 503 } else { 200 }) }
    };
    let left = bench(|forward| forward.retry = Some(retry(2)), handle).run(async {
        let mut client = Client::connect().await;
        assert_eq!(client.post("/", pattern(100_000)).await.status(), 200);
    });
    assert_eq!(*bodies.borrow(), vec![pattern(100_000); 3]);
    assert_eq!(left.logs.borrow()[0].attempts, 3);
    assert_eq!(left.ends(), ["200 - via_upstream"]);
}

#[test]
fn an_upload_too_long_to_keep_is_not_retried() {
    let sizes: Rc<RefCell<Vec<usize>>> = Rc::default();
    let seen = Rc::clone(&sizes);
    let handle = move |_, request: Request<Bytes>| {
        assert!(*request.body() == pattern(3 << 20));
        seen.borrow_mut().push(request.body().len());
        async move { status(503) }
    };
    let left = bench(|forward| forward.retry = Some(retry(2)), handle).run(async {
        let mut client = Client::connect().await;
        let got = client.post("/", pattern(3 << 20)).await;
        assert_eq!(got.status(), 503);
    });
    assert_eq!(*sizes.borrow(), [3 << 20]);
    assert_eq!(left.journaled("BufferFull").len(), 1);
    assert_eq!(left.ends(), ["503 - via_upstream"]);
}

#[test]
fn timeouts_of_a_try_and_of_the_whole() {
    let slow = |number, _| async move {
        let wait = if number == 0 { 500 } else { 30 };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        ok("late")
    };
    let per_try = |forward: &mut Forward| {
        let mut retry = retry(1);
        retry.per_try_timeout = Some(Nanos::from_millis(100));
        forward.retry = Some(retry);
    };
    let left = bench(per_try, slow).run(async {
        assert_eq!(Client::connect().await.get("/").await.status(), 200);
    });
    assert_eq!(left.logs.borrow()[0].attempts, 2);
    assert_eq!(left.journaled("Cancel").len(), 1);

    let whole = |forward: &mut Forward| forward.timeout = Some(Nanos::from_millis(100));
    let left = bench(whole, slow).run(async {
        let mut client = Client::connect().await;
        let got = client.get("/").await;
        assert_eq!(got.status(), 504);
        assert_eq!(&got.body()[..], b"upstream request timeout");
        assert_eq!(client.get("/").await.status(), 200);
    });
    assert_eq!(
        left.ends(),
        ["504 UT response_timeout", "200 - via_upstream"]
    );
    assert_eq!(left.logs.borrow()[0].duration, Nanos::from_millis(100));
}

#[test]
fn nobody_listens() {
    let mut bench = Bench::new(1);
    let address = bench.address("a", 81);
    bench.endpoint("a", echo);
    bench.proxy(config(
        vec![cluster("c", &[address])],
        Forward::to("c".into()),
    ));
    let left = bench.run(async {
        assert_eq!(Client::connect().await.get("/").await.status(), 503);
    });
    assert_eq!(
        left.ends(),
        ["503 UF upstream_reset_before_response_started{remote_connection_failure}"]
    );
}

#[test]
fn a_mirror_gets_the_same_request_and_its_answer_is_thrown_away() {
    let bodies: Rc<RefCell<Vec<Bytes>>> = Rc::default();
    let mut bench = Bench::new(1);
    let (a, b) = (bench.address("a", 80), bench.address("b", 80));
    bench.endpoint("a", |_, _| async { ok("original") });
    let seen = Rc::clone(&bodies);
    bench.endpoint("b", move |_, request| {
        seen.borrow_mut().push(request.body().clone());
        async { ok(pattern(50_000)) }
    });
    let mut forward = Forward::to("c".into());
    forward.mirrors = vec![Mirror {
        cluster: "m".into(),
        fraction: Fraction::ALWAYS,
        shadow_suffix: false,
    }];
    bench.proxy(config(
        vec![cluster("c", &[a]), cluster("m", &[b])],
        forward,
    ));
    let left = bench.run(async {
        let mut client = Client::connect().await;
        for _ in 0..2 {
            assert_eq!(&client.post("/", "copy me").await.body()[..], b"original");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert_eq!(*bodies.borrow(), ["copy me", "copy me"]);
    assert_eq!(left.ends(), ["200 - via_upstream"; 2]);
    // The mirror's connection is used again too.
    assert_eq!(left.journaled("Connect").len(), 2);
}

#[test]
fn a_mirror_may_be_sent_after_its_exchange() {
    let bodies: Rc<RefCell<Vec<Bytes>>> = Rc::default();
    let mut bench = Bench::new(1);
    let (a, b) = (bench.address("a", 80), bench.address("b", 80));
    bench.endpoint("a", |_, _| async { ok("original") });
    let seen = Rc::clone(&bodies);
    bench.endpoint("b", move |_, request| {
        seen.borrow_mut().push(request.body().clone());
        async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            ok("")
        }
    });
    let mut forward = Forward::to("c".into());
    forward.mirrors = vec![Mirror {
        cluster: "m".into(),
        fraction: Fraction::ALWAYS,
        shadow_suffix: false,
    }];
    let mut one_connection = cluster("m", &[b]);
    one_connection.circuit_breakers.max_connections = 1;
    bench.proxy(config(vec![cluster("c", &[a]), one_connection], forward));
    let left = bench.run(async {
        let mut client = Client::connect().await;
        client.post("/", "one").await;
        client.post("/", "two").await;
        client.get("/").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    });
    assert_eq!(*bodies.borrow(), ["one", "two", ""]);
    assert_eq!(left.ends(), ["200 - via_upstream"; 3]);
}

#[test]
fn a_megabyte_comes_back_byte_for_byte() {
    let left = bench(|_| {}, |_, _| async { ok(pattern(1 << 20)) }).run(async {
        let mut client = Client::connect().await;
        assert!(*client.get("/").await.body() == pattern(1 << 20));
        assert!(*client.get("/").await.body() == pattern(1 << 20));
    });
    assert_eq!(left.ends(), ["200 - via_upstream"; 2]);
    assert_eq!(left.journaled("Connect").len(), 1);
}

#[test]
fn a_client_that_leaves_is_a_dc() {
    let handle = |_, _| async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        ok("nobody is there")
    };
    let left = bench(|_| {}, handle).run(async {
        let mut stream = connect_via(SERVICE).await;
        let request = b"GET / HTTP/1.1\r\nhost: reviews\r\n\r\n";
        stream.write_all(request).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(stream);
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    assert_eq!(left.ends(), ["0 DC downstream_remote_disconnect"]);
    assert_eq!(left.journaled("CloseConn").len(), 1);
}

#[test]
fn a_client_that_leaves_amid_its_request_is_a_dc() {
    let left = bench(|_| {}, echo).run(async {
        let mut stream = connect_via(SERVICE).await;
        let request = b"POST / HTTP/1.1\r\nhost: reviews\r\ncontent-length: 100\r\n\r\nsome";
        stream.write_all(request).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(stream);
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    assert_eq!(left.ends(), ["0 DC downstream_remote_disconnect"]);
    assert_eq!(left.journaled("Cancelled").len(), 1);
}

/// An endpoint that answers whatever comes first with `answer` and closes.
fn answering(answer: &'static [u8]) -> Bench {
    let mut bench = Bench::new(1);
    let address = bench.address("a", 80);
    bench.raw_endpoint("a", move |mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        stream.write_all(answer).await.unwrap();
    });
    bench.proxy(config(
        vec![cluster("c", &[address])],
        Forward::to("c".into()),
    ));
    bench
}

#[test]
fn what_an_endpoint_can_do_wrong() {
    let left = answering(b"").run(async {
        assert_eq!(Client::connect().await.get("/").await.status(), 503);
    });
    assert_eq!(
        left.ends(),
        ["503 UC upstream_reset_before_response_started{connection_termination}"]
    );

    let left = answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n").run(async {
        assert_eq!(Client::connect().await.get("/").await.status(), 502);
    });
    assert_eq!(
        left.ends(),
        ["502 UPE upstream_reset_before_response_started{protocol_error}"]
    );

    let left = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort").run(async {
        let mut client = Client::connect().await;
        assert!(client.try_send(get("/")).await.is_err());
    });
    assert_eq!(
        left.ends(),
        ["200 UC upstream_reset_after_response_started{connection_termination}"]
    );
}

#[test]
fn a_response_may_last_until_the_connection_ends() {
    let left = answering(b"HTTP/1.0 200 OK\r\n\r\nall of it").run(async {
        let got = Client::connect().await.get("/").await;
        assert_eq!(&got.body()[..], b"all of it");
    });
    assert_eq!(left.ends(), ["200 - via_upstream"]);
    assert_eq!(left.journaled("ConnClosed").len(), 0);
}

#[test]
fn a_response_before_the_end_of_the_request_ends_the_connection() {
    let mut bench = Bench::new(1);
    let address = bench.address("a", 80);
    bench.raw_endpoint("a", |mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno";
        stream.write_all(answer).await.unwrap();
        // Waits for the proxy to close.
        while stream.read(&mut request).await.is_ok_and(|n| n > 0) {}
    });
    bench.proxy(config(
        vec![cluster("c", &[address])],
        Forward::to("c".into()),
    ));
    let left = bench.run(async {
        let mut stream = connect_via(SERVICE).await;
        let request = b"POST / HTTP/1.1\r\nhost: reviews\r\ncontent-length: 100\r\n\r\nsome";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 413"));
        assert!(answer.ends_with(b"no"));
    });
    assert_eq!(left.ends(), ["413 - via_upstream"]);
    assert_eq!(left.journaled("CloseConn").len(), 1);
}

#[test]
fn the_whole_timeout_breaks_off_a_response_that_has_begun() {
    let mut bench = Bench::new(1);
    let address = bench.address("a", 80);
    bench.raw_endpoint("a", |mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome";
        stream.write_all(answer).await.unwrap();
        while stream.read(&mut request).await.is_ok_and(|n| n > 0) {}
    });
    let mut forward = Forward::to("c".into());
    forward.timeout = Some(Nanos::from_millis(100));
    bench.proxy(config(vec![cluster("c", &[address])], forward));
    let left = bench.run(async {
        let mut client = Client::connect().await;
        let response = client.0.send_request(get("/")).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err());
    });
    assert_eq!(left.ends(), ["200 UT response_timeout"]);
    assert_eq!(left.journaled("Abort").len(), 1);
}

#[test]
fn what_no_listener_takes_is_closed() {
    let left = bench(|_| {}, echo).run(async {
        let mut stream = connect_via("10.96.0.1:81").await;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty());
        // The slot of the refused connection is used again.
        assert_eq!(Client::connect().await.get("/").await.status(), 200);
    });
    assert_eq!(left.journaled("CloseDownstream").len(), 1);
    assert_eq!(left.ends(), ["200 - via_upstream"]);
}

#[test]
fn a_request_without_host_is_refused_before_the_core() {
    let left = bench(|_| {}, echo).run(async {
        let mut stream = connect_via(SERVICE).await;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 400");
    });
    assert!(left.ends().is_empty());
}
