//! Runs services as processes of `init`: they outlive `machined`, which finds them again when it starts anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use host::service::runner::{Runner, Running};
use model::services::ServiceSpec;
use tokio::sync::{mpsc, watch};

use crate::init::client::Client;
use crate::init::protocol::{End, Event, Exit, UnitSpec};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// The last end of each unit that was seen, counted, so that a waiter that comes late still learns of it.
type Ends = HashMap<String, (u64, Exit)>;

/// Units of `init` as services.
pub(crate) struct Units {
    client: Client,
    ends: watch::Sender<Ends>,
    /// The count of ends seen when each unit was started or found.
    marks: Mutex<HashMap<String, u64>>,
    environment: Vec<(String, String)>,
}

impl Units {
    /// Takes over the connection to `init`. What it tells about the node's end goes to `ends_asked`.
    pub(crate) fn new(client: Client, mut events: mpsc::UnboundedReceiver<Event>, ends_asked: mpsc::UnboundedSender<End>) -> Arc<Self> {
        let ends = watch::Sender::new(Ends::new());
        let tell = ends.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Exited { unit, exit, .. } => tell.send_modify(|ends| {
                        let count = ends.get(&unit).map_or(0, |(count, _)| *count);
                        ends.insert(unit, (count + 1, exit));
                    }),
                    Event::EndAsked(end) => drop(ends_asked.send(end)),
                }
            }
            tracing::error!("the connection to init is gone; another machined may have taken over");
            std::process::exit(1);
        });
        let environment = [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/",
            "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
        ];
        let split = |text: &&str| text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        Arc::new(Self { client, ends, marks: Mutex::default(), environment: environment.iter().filter_map(split).collect() })
    }

    /// Remembers how many ends of the unit were seen: a wait from now on is for the next.
    fn mark(&self, id: &str) {
        let count = self.ends.borrow().get(id).map_or(0, |(count, _)| *count);
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), count);
    }

    async fn signal(&self, id: &str, signal: i32, everyone: bool) -> Result<(), String> {
        use crate::init::client::Error;
        use crate::init::protocol::Refusal;
        match self.client.signal(id, signal, everyone).await {
            Err(Error::Refused(Refusal::NotRunning)) => Ok(()),
            other => other.map_err(|e| e.to_string()),
        }
    }
}

/// How a process ended, as a service's end.
fn result(exit: Exit) -> Result<(), String> {
    match exit {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => Err(format!("exit code {code}")),
        Exit::Signal(signal) => Err(format!("signal {signal}")),
    }
}

fn environment(base: &[(String, String)], spec: &ServiceSpec) -> Vec<(String, String)> {
    let ours: Vec<_> = spec.env.iter().filter_map(|v| v.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    base.iter().filter(|(k, _)| !ours.iter().any(|(other, _)| other == k)).cloned().chain(ours.clone()).collect()
}

#[async_trait]
impl Runner for Units {
    async fn find(&self, id: &str) -> Result<Option<Running>, String> {
        self.mark(id);
        let units = self.client.list().await.map_err(|e| e.to_string())?;
        let unit = units.into_iter().find(|u| u.id == id && u.ended.is_none());
        Ok(unit.map(|u| Running { hash: u64::from_str_radix(&u.note, 16).ok(), pid: u32::try_from(u.process.pid).unwrap_or_default() }))
    }

    async fn prepare(&self, _: &str, _: &ServiceSpec) -> Result<(), String> {
        Ok(())
    }

    async fn start(&self, id: &str, hash: u64, spec: &ServiceSpec) -> Result<u32, String> {
        self.mark(id);
        let program = spec.args.first().cloned().ok_or("its specification names no program")?;
        let mut argv = spec.args.clone();
        // One binary, many applets: argv[0] is the applet's name.
        if program.starts_with("/usr/bin/") {
            argv[0] = program.trim_start_matches("/usr/bin/").to_owned();
        }
        let unit = UnitSpec {
            id: id.to_owned(),
            program,
            argv,
            env: environment(&self.environment, spec),
            cgroup: Some(spec.cgroup.clone()).filter(|c| !c.is_empty()),
            oom_score_adj: Some(spec.oom_score_adj).filter(|s| *s != 0),
            note: format!("{hash:016x}"),
            ..UnitSpec::default()
        };
        let started = self.client.spawn(unit).await.map_err(|e| e.to_string())?;
        for warning in started.warnings {
            tracing::debug!(service = id, warning, "granted in part");
        }
        Ok(u32::try_from(started.process.pid).unwrap_or_default())
    }

    async fn wait(&self, id: &str) -> Result<(), String> {
        let seen = self.marks.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied().unwrap_or_default();
        let mut ends = self.ends.subscribe();
        let ended = ends.wait_for(|ends| ends.get(id).is_some_and(|(count, _)| *count > seen)).await;
        let exit = ended.map_err(|e| e.to_string())?.get(id).map(|(_, exit)| *exit);
        result(exit.ok_or("its end was not told")?)
    }

    async fn terminate(&self, id: &str, _: &ServiceSpec) -> Result<(), String> {
        self.signal(id, SIGTERM, false).await
    }

    async fn kill(&self, id: &str, spec: &ServiceSpec) -> Result<(), String> {
        self.signal(id, SIGKILL, !spec.main_process_only).await
    }

    async fn remove(&self, id: &str) -> Result<(), String> {
        self.client.forget(id).await.map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_read_like_sentences() {
        assert_eq!(result(Exit::Code(0)), Ok(()));
        assert_eq!(result(Exit::Code(3)), Err("exit code 3".into()));
        assert_eq!(result(Exit::Signal(9)), Err("signal 9".into()));
    }

    #[test]
    fn the_environment_of_a_service_wins() {
        let base = [("PATH".to_owned(), "/bin".to_owned()), ("HOME".to_owned(), "/".to_owned())];
        let spec = ServiceSpec { env: vec!["HOME=/var".into()], ..ServiceSpec::default() };
        let all = environment(&base, &spec);
        assert_eq!(all, [("PATH".into(), "/bin".into()), ("HOME".into(), "/var".into())]);
    }
}
