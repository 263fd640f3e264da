//! What can run a service. The supervisor knows only this trait: processes are spawned by `init`, containers by containerd.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use model::services::ServiceSpec;
use tokio::sync::Mutex;

use crate::containerd::oci::{self, Parameters};
use crate::containerd::{self, Containerd};

/// A service found running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// The hash of the specification it runs with; `None` when unknown.
    pub hash: Option<u64>,
    /// Its main process.
    pub pid: u32,
}

/// A way to run services. All methods may be called again after a crash of the caller at any point.
#[async_trait]
pub trait Runner: Send + Sync {
    /// The service if it runs (from before).
    async fn find(&self, id: &str) -> Result<Option<Running>, String>;
    /// Gets ready what the start needs.
    async fn prepare(&self, id: &str, spec: &ServiceSpec) -> Result<(), String>;
    /// Starts it; its main process.
    async fn start(&self, id: &str, hash: u64, spec: &ServiceSpec) -> Result<u32, String>;
    /// Waits until it ended; `Err` says how when that was no success.
    async fn wait(&self, id: &str) -> Result<(), String>;
    /// Asks it to end.
    async fn terminate(&self, id: &str, spec: &ServiceSpec) -> Result<(), String>;
    /// Ends it by force.
    async fn kill(&self, id: &str, spec: &ServiceSpec) -> Result<(), String>;
    /// Removes what an ended service left.
    async fn remove(&self, id: &str) -> Result<(), String>;
}

const SIGTERM: u32 = 15;
const SIGKILL: u32 = 9;

/// Runs services as containers.
#[derive(Debug)]
pub struct Containers {
    socket: PathBuf,
    connection: Mutex<Option<Containerd>>,
    /// Whether this node may lower a process's score for the out-of-memory killer.
    may_lower_oom_score: bool,
    nofile: u64,
    capabilities: Vec<&'static str>,
}

/// The capabilities this process may give on: those it is permitted itself.
fn own_capabilities() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapPrm:"));
    line.map(oci::capabilities).unwrap_or_default()
}

impl Containers {
    /// Containers of the containerd at `socket`.
    #[must_use]
    pub fn new(socket: &Path, may_lower_oom_score: bool, nofile: u64) -> Arc<Self> {
        Arc::new(Self {
            socket: socket.to_owned(),
            connection: Mutex::new(None),
            may_lower_oom_score,
            nofile,
            capabilities: own_capabilities(),
        })
    }

    /// The connection, made on first use. The channel reconnects by itself when containerd was started again.
    async fn containerd(&self) -> Result<Containerd, String> {
        let mut connection = self.connection.lock().await;
        if let Some(found) = &*connection {
            return Ok(found.clone());
        }
        let made = Containerd::connect(&self.socket, containerd::SYSTEM).await.map_err(|e| e.to_string())?;
        made.ensure_namespace().await.map_err(|e| e.to_string())?;
        *connection = Some(made.clone());
        Ok(made)
    }
}

#[async_trait]
impl Runner for Containers {
    async fn find(&self, id: &str) -> Result<Option<Running>, String> {
        let found = self.containerd().await?.find(id).await.map_err(|e| e.to_string())?;
        Ok(found.and_then(|f| f.pid.map(|pid| Running { hash: f.hash, pid })))
    }

    async fn prepare(&self, id: &str, spec: &ServiceSpec) -> Result<(), String> {
        let containerd = self.containerd().await?;
        let container = spec.container.as_ref().ok_or("its specification has no container")?;
        containerd.remove(id).await.map_err(|e| e.to_string())?;
        for mount in container.mounts.iter().filter(|m| m.fs.is_empty() && !Path::new(&m.source).exists()) {
            std::fs::create_dir_all(&mount.source).map_err(|e| format!("creating {}, which is mounted into it: {e}", mount.source))?;
        }
        if !containerd.has_image(&container.image).await.map_err(|e| e.to_string())? {
            containerd.pull(&container.image).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    async fn start(&self, id: &str, hash: u64, spec: &ServiceSpec) -> Result<u32, String> {
        let container = spec.container.as_ref().ok_or("its specification has no container")?;
        let score = spec.oom_score_adj;
        let parameters = Parameters {
            container,
            args: &spec.args,
            env: &spec.env,
            cgroup: &spec.cgroup,
            oom_score_adj: (score >= 0 || self.may_lower_oom_score).then_some(score),
            nofile: self.nofile,
            all_capabilities: &self.capabilities,
        };
        self.containerd().await?.run(id, hash, &parameters).await.map_err(|e| e.to_string())
    }

    async fn wait(&self, id: &str) -> Result<(), String> {
        loop {
            let containerd = self.containerd().await?;
            match containerd.wait(id).await {
                Ok(0) => return Ok(()),
                Ok(code) => return Err(format!("exit code {code}")),
                Err(error) if error.is_not_found() => return Err("its process is gone".into()),
                // containerd itself went away: the container lives on under its shim.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(500)).await,
            }
        }
    }

    async fn terminate(&self, id: &str, _: &ServiceSpec) -> Result<(), String> {
        self.containerd().await?.signal(id, SIGTERM, false).await.map_err(|e| e.to_string())
    }

    async fn kill(&self, id: &str, _: &ServiceSpec) -> Result<(), String> {
        self.containerd().await?.signal(id, SIGKILL, true).await.map_err(|e| e.to_string())
    }

    async fn remove(&self, id: &str) -> Result<(), String> {
        self.containerd().await?.remove(id).await.map_err(|e| e.to_string())
    }
}

/// For services that are a part of another process: there is nothing to start or to end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts;

#[async_trait]
impl Runner for Parts {
    async fn find(&self, _: &str) -> Result<Option<Running>, String> {
        Ok(None)
    }

    async fn prepare(&self, _: &str, _: &ServiceSpec) -> Result<(), String> {
        Ok(())
    }

    async fn start(&self, _: &str, _: u64, _: &ServiceSpec) -> Result<u32, String> {
        Ok(0)
    }

    async fn wait(&self, _: &str) -> Result<(), String> {
        std::future::pending().await
    }

    async fn terminate(&self, _: &str, _: &ServiceSpec) -> Result<(), String> {
        Ok(())
    }

    async fn kill(&self, _: &str, _: &ServiceSpec) -> Result<(), String> {
        Ok(())
    }

    async fn remove(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
}
