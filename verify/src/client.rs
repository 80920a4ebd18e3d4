//! Clients: requests byte by byte, each connection beginning with a PROXY header that says where it
//! comes from and where it was going.

use crate::seen::Asked;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A connection to the proxy.
pub(crate) struct Line {
    stream: TcpStream,
    /// Received and not yet used.
    buffer: Vec<u8>,
}

impl Line {
    /// Connects to `entry` as what `asked` is sent over.
    pub(crate) async fn open(entry: SocketAddr, asked: &Asked) -> io::Result<Line> {
        let mut stream = TcpStream::connect(entry).await?;
        stream.set_nodelay(true)?;
        let (peer, to) = (asked.peer, asked.destination);
        let (peer_ip, to_ip, peer_port, to_port) = (peer.ip(), to.ip(), peer.port(), to.port());
        let header = format!("PROXY TCP4 {peer_ip} {to_ip} {peer_port} {to_port}\r\n");
        stream.write_all(header.as_bytes()).await?;
        Ok(Line {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends a request and waits for the answer; `None`: the connection was closed instead.
    pub(crate) async fn ask(&mut self, asked: &Asked) -> io::Result<Option<Answer>> {
        if self.stream.write_all(&bytes_of(asked)).await.is_err() {
            return Ok(None);
        }
        let answered = timeout(PATIENCE, self.answer(&asked.head.method)).await;
        answered.map_err(|_| io::Error::other("no answer within half a minute"))?
    }

    async fn answer(&mut self, method: &str) -> io::Result<Option<Answer>> {
        let (answer, used) = loop {
            if let Some(parsed) = parse(&self.buffer)? {
                break parsed;
            }
            if !self.more().await? {
                return Ok(None);
            }
        };
        self.buffer.drain(..used);
        let mut answer = answer;
        let header = |name: &str| {
            let mut lines = answer.headers.iter();
            lines
                .find(|(n, _)| n == name)
                .map(|(_, value)| value.clone())
        };
        let length = header("content-length").and_then(|text| text.parse().ok());
        let bodiless = method == "HEAD" || matches!(answer.status, 100..=199 | 204 | 304);
        if bodiless {
        } else if header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            answer.body = self.chunks().await?;
        } else if let Some(length) = length {
            answer.body = self.take(length).await?;
        } else {
            while self.more().await? {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        Ok(Some(answer))
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            body.extend(self.take(size).await?);
            self.line().await?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.require_more().await?;
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.require_more().await?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn require_more(&mut self) -> io::Result<()> {
        match self.more().await? {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    async fn more(&mut self) -> io::Result<bool> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(read) => Ok(read > 0),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn parse(buffer: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let mut lines = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut lines);
    let used = match response.parse(buffer).map_err(io::Error::other)? {
        httparse::Status::Complete(used) => used,
        httparse::Status::Partial => return Ok(None),
    };
    let latin1 = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|&byte| char::from(byte))
            .collect::<String>()
    };
    let headers = response.headers.iter();
    let headers = headers.map(|line| (line.name.to_ascii_lowercase(), latin1(line.value)));
    let answer = Answer {
        status: response.code.unwrap_or_default(),
        headers: headers.collect(),
        body: Vec::new(),
    };
    Ok(Some((answer, used)))
}

/// No HTTP, and enough of it for the proxy's inspectors to see that.
const OTHER_BYTES: &[u8] = b"\0 other than HTTP\r\n\r\n";

fn bytes_of(asked: &Asked) -> Vec<u8> {
    if asked.is_tcp() {
        return OTHER_BYTES.to_vec();
    }
    let head = &asked.head;
    let first = format!(
        "{} {} HTTP/1.1\r\nhost: {}\r\n",
        head.method, head.path, head.authority
    );
    let mut bytes = first.into_bytes();
    for (name, value) in &head.headers.0 {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
