//! A real Envoy as a process of its own.

use super::Failure;
use super::play::LOG_FLUSH;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Asked every so often whether it is ready, up to so many times.
const ASK_EVERY: Duration = Duration::from_millis(20);
const ASK_TIMES: u32 = 1500;

/// Ends with its owner.
pub(super) struct Envoy {
    process: Child,
}

impl Envoy {
    /// Starts the Envoy at `binary` and waits until it is ready; its messages go beside the bootstrap.
    pub(super) fn start(
        binary: &Path,
        (bootstrap, admin): (&Path, u16),
        concurrency: u32,
    ) -> Result<Envoy, Failure> {
        let messages = bootstrap.with_file_name("envoy.log");
        let process = Command::new(binary)
            .arg("--config-path")
            .arg(bootstrap)
            .args(["--concurrency", &concurrency.max(1).to_string()])
            .args(["--file-flush-interval-msec", &LOG_FLUSH.as_millis().to_string()])
            .args(["--disable-hot-restart", "--log-level", "warning"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&messages)?)
            .spawn();
        let process = process.map_err(|error| Failure::Envoy(format!("{}: {error}", binary.display())))?;
        let mut envoy = Envoy { process };
        for _ in 0..ASK_TIMES {
            if envoy.process.try_wait()?.is_some() {
                let said = std::fs::read_to_string(&messages).unwrap_or_default();
                return Err(Failure::Envoy(format!("Envoy ended at once:\n{said}")));
            }
            if is_ready(admin).unwrap_or(false) {
                return Ok(envoy);
            }
            #[allow(clippy::disallowed_methods)] // Another process starts in real time.
            std::thread::sleep(ASK_EVERY);
        }
        Err(Failure::Envoy("Envoy is not ready after half a minute".into()))
    }
}

fn is_ready(admin: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", admin))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
