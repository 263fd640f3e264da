//! Asking one machine over its API. The role `os:reader` is enough.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use model::{
    cluster::{Member, PRESENCE},
    health::{
        NodeFacts, Reach, Role,
        facts::{EtcdFacts, EtcdMemberFacts, PodFacts, ServiceFacts},
        kubernetes,
    },
    host::{Diagnostic, MachineStatus},
    kube::{Nodename, StaticPodStatus},
};
use resource::{Registry, StateExt as _};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tonic::{Code, Status};

use super::{Machine, unanswered};
use crate::{
    API_PORT,
    client::{Client, Options, split_endpoint},
    state::RemoteState,
    transport::{Connection, Dial, DialError, Place},
};

/// Time to connect, TLS included.
const CONNECT: Duration = Duration::from_secs(3);
/// Time to find out whether a machine that says nothing has a kernel that lives.
const KNOCK: Duration = Duration::from_secs(1);
/// Time for each question; all are asked at once.
const ANSWER: Duration = Duration::from_secs(4);

/// Asks machines, and keeps the connections to them.
pub struct Asker {
    config: Arc<rustls::ClientConfig>,
    kept: Mutex<HashMap<String, Connection>>,
    registry: Arc<Registry>,
}

impl Asker {
    /// Asks as the client of this configuration.
    #[must_use]
    pub fn new(config: Arc<rustls::ClientConfig>) -> Self {
        let registry =
            Registry::new().with::<Member>().with::<MachineStatus>().with::<Diagnostic>().with::<Nodename>().with::<StaticPodStatus>();
        Self { config, kept: Mutex::default(), registry: Arc::new(registry) }
    }

    fn connection(&self, address: &str) -> Connection {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let (host, port) = split_endpoint(address, API_PORT).unwrap_or_else(|_| (address.to_owned(), API_PORT));
            Connection::new(Place::Tls { host, port, config: self.config.clone() }, Dial { timeout: CONNECT })
        };
        kept.entry(address.to_owned()).or_insert_with(new).clone()
    }

    /// A client of one machine.
    #[must_use]
    pub fn client(&self, machine: &Machine) -> Client {
        Client::of_connection(self.connection(&machine.address), &Options::default())
    }

    /// Whether a machine answers its API at all.
    pub async fn reach(&self, machine: &Machine) -> Reach {
        if let Err(error) = self.connection(&machine.address).ready().await {
            return match reach(&error) {
                Reach::Silent => knock(&machine.address).await,
                other => other,
            };
        }
        match within(self.client(machine).machine().version(())).await {
            Ok(_) => Reach::Answered,
            Err(status) if status.code() == Code::DeadlineExceeded => Reach::Silent,
            Err(status) => said(status.message()),
        }
    }

    /// A machine's answers through an endpoint that passes the questions on.
    pub async fn ask_through(&self, endpoint: &Client, machine: &Machine) -> NodeFacts {
        match endpoint.try_node(&machine.address) {
            Ok(client) => questions(&client, machine, &self.registry).await,
            Err(error) => unanswered(machine, Reach::Unreachable { message: error.to_string() }),
        }
    }

    /// A machine's answers. Takes at most 8 s, whatever state it is in.
    pub async fn ask(&self, machine: &Machine) -> NodeFacts {
        let connection = self.connection(&machine.address);
        let reach = match connection.ready().await {
            Ok(_) => {
                let facts = questions(&Client::of_connection(connection, &Options::default()), machine, &self.registry).await;
                if facts.answered() {
                    return facts;
                }
                facts.reach
            }
            Err(error) => reach(&error),
        };
        // The next look shall not find a connection to a machine that is no longer there.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&machine.address);
        let reach = if reach == Reach::Silent { knock(&machine.address).await } else { reach };
        unanswered(machine, reach)
    }
}

/// What a failure to connect says about a machine.
#[must_use]
pub fn reach(error: &DialError) -> Reach {
    match error {
        DialError::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => Reach::Refused,
        DialError::Connect { source, .. } => Reach::Unreachable { message: source.to_string() },
        DialError::BadHost { .. } => Reach::Unreachable { message: error.to_string() },
        DialError::Handshake { reason, .. } => said(reason),
        DialError::Timeout { .. } => Reach::Silent,
    }
}

/// What words of TLS or of an answer say.
fn said(message: &str) -> Reach {
    let message = message.to_owned();
    // Somebody before the machine takes connections for it, and finds nobody there.
    if message.contains("handshake eof") || message.contains("Connection refused") {
        return Reach::Refused;
    }
    // Words of the endpoint that should have passed a question on.
    if ["no connection within", "No route to host", "Network is unreachable"].iter().any(|sign| message.contains(sign)) {
        return Reach::Unreachable { message };
    }
    let time = ["xpired", "NotValidYet", "not valid yet"];
    if time.iter().any(|sign| message.contains(sign)) { Reach::CertificateExpired { message } } else { Reach::Failed { message } }
}

/// Whether a machine that gave no answer accepts a connection at least.
async fn knock(address: &str) -> Reach {
    let (host, port) = split_endpoint(address, API_PORT).unwrap_or_else(|_| (address.to_owned(), API_PORT));
    match timeout(KNOCK, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => Reach::Silent,
        Ok(Err(source)) => reach(&DialError::Connect { place: address.to_owned(), source: Arc::new(source) }),
        Err(_) => Reach::Unreachable { message: format!("no answer within {} s", (CONNECT + KNOCK).as_secs()) },
    }
}

async fn within<T>(question: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Err(Status::deadline_exceeded(format!("no answer within {} s", ANSWER.as_secs())));
    timeout(ANSWER, question).await.unwrap_or_else(late)
}

type Listed<T> = Result<Vec<Arc<resource::Resource<T>>>, String>;

async fn resources<T: resource::Spec>(state: &RemoteState) -> Listed<T> {
    let late = |_| format!("no answer within {} s", ANSWER.as_secs());
    timeout(ANSWER, state.list_as::<T>()).await.map_err(late)?.map_err(|e| e.to_string())
}

/// An answer; one that failed is noted, so that it is not taken for "nothing there".
fn noted<T: Default>(unasked: &mut Vec<String>, what: &str, answer: Result<T, impl std::fmt::Display>) -> T {
    answer.unwrap_or_else(|error| {
        unasked.push(format!("{what}: {error}"));
        T::default()
    })
}

fn body<T>(reply: Reply<T>) -> Result<T, String> {
    reply.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
}

/// All questions at once.
async fn questions(client: &Client, machine: &Machine, registry: &Arc<Registry>) -> NodeFacts {
    let state = RemoteState::new(client, registry.clone());
    let control_plane = machine.role == Role::ControlPlane;
    let (mut services, mut memory, mut mounts, mut status, mut members) =
        (client.machine(), client.machine(), client.machine(), client.machine(), client.machine());
    let etcd = async {
        if !control_plane {
            return None;
        }
        Some(tokio::join!(
            within(status.etcd_status(())),
            within(members.etcd_member_list(crate::machine::EtcdMemberListRequest::default()))
        ))
    };
    let (services, memory, mounts, etcd, clock, stage, names, diagnostics, pods, others) = tokio::join!(
        within(services.service_list(())),
        within(memory.memory(())),
        within(mounts.mounts(())),
        etcd,
        clock(client),
        resources::<MachineStatus>(&state),
        resources::<Nodename>(&state),
        resources::<Diagnostic>(&state),
        resources::<StaticPodStatus>(&state),
        resources::<Member>(&state),
    );
    let services = match services {
        Ok(services) => services.into_inner(),
        Err(status) if status.code() == Code::DeadlineExceeded => return unanswered(machine, Reach::Silent),
        Err(status) => return unanswered(machine, said(status.message())),
    };
    let mut facts = unanswered(machine, Reach::Answered);
    let mut unasked = Vec::new();
    let names = noted(&mut unasked, "node name", names);
    let stage = noted(&mut unasked, "stage", stage);
    let diagnostics = noted(&mut unasked, "diagnostics", diagnostics);
    let pods = noted(&mut unasked, "static pods", pods);
    let others = noted(&mut unasked, "members", others);
    let memory = noted(&mut unasked, "memory", body(memory));
    let mounts = noted(&mut unasked, "mounts", body(mounts)).messages;
    facts.unasked = unasked;
    if let Some(nodename) = names.first().filter(|_| machine.name.is_empty()) {
        facts.name.clone_from(&nodename.spec.nodename);
    }
    facts.services = services.messages.into_iter().flat_map(|m| m.services).map(service).collect();
    let memory = memory.messages.into_iter().next().and_then(|m| m.meminfo);
    facts.memory = memory.map(|m| m.memtotal << 10).unwrap_or_default();
    // What is mounted last on a place is what one finds there.
    if let Some(var) = mounts.iter().flat_map(|m| &m.stats).rfind(|m| m.mounted_on == "/var") {
        (facts.disk, facts.disk_free) = (var.size, var.available);
    }
    facts.clock_offset = clock;
    if let Some(status) = stage.first() {
        facts.stage = status.spec.stage.to_string();
        facts.unmet = status.spec.status.unmet_conditions.iter().map(|c| (c.name.clone(), c.reason.clone())).collect();
    }
    facts.diagnostics = diagnostics.iter().map(|d| (d.meta.id.to_string(), d.spec.message.clone())).collect();
    facts.static_pods = pods.iter().map(|p| pod(&p.meta.id, &p.spec)).collect();
    facts.hears = others
        .iter()
        .filter(|member| *member.meta.id != *facts.name)
        .filter_map(|member| Some((member.meta.id.to_string(), hears(member.meta.annotations.get(PRESENCE)?)?)))
        .collect();
    if let Some((status, members)) = etcd {
        etcd_facts(&mut facts, status, members);
    }
    facts
}

fn service(info: crate::machine::ServiceInfo) -> (String, ServiceFacts) {
    let health = info.health.unwrap_or_default();
    let healthy = (!health.unknown).then_some(health.healthy);
    (info.id, ServiceFacts { state: info.state, healthy, message: health.last_message })
}

fn pod(id: &str, status: &StaticPodStatus) -> PodFacts {
    let (namespace, name) = id.split_once('/').unwrap_or(("kube-system", id));
    let json = (&status.pod_status).into();
    kubernetes::status(namespace, name, &json)
}

/// `None` while it is not known.
fn hears(presence: &str) -> Option<bool> {
    match presence {
        "up" => Some(true),
        "silent" | "down" => Some(false),
        _ => None,
    }
}

type Reply<T> = Result<tonic::Response<T>, Status>;

fn etcd_facts(
    facts: &mut NodeFacts,
    status: Reply<crate::machine::EtcdStatusResponse>,
    members: Reply<crate::machine::EtcdMemberListResponse>,
) {
    match status.map(|s| s.into_inner().messages.into_iter().find_map(|m| m.member_status)) {
        Ok(Some(status)) => {
            let leader = status.leader != 0 && !status.errors.iter().any(|error| error.contains("no leader"));
            let members = noted(&mut facts.unasked, "etcd members", body(members)).messages;
            let member = |m: crate::machine::EtcdMember| EtcdMemberFacts { id: m.id, name: m.hostname, learner: m.is_learner };
            let members = members.into_iter().flat_map(|m| m.members).map(member).collect();
            facts.etcd = Some(EtcdFacts { members, leader, errors: status.errors });
        }
        Ok(None) => "no status in its answer".clone_into(&mut facts.etcd_failure),
        Err(status) => status.message().clone_into(&mut facts.etcd_failure),
    }
}

/// The machine's clock minus ours, in nanoseconds; what the way there and back leaves open is taken off.
async fn clock(client: &Client) -> Option<i128> {
    let begin = Instant::now();
    let mut time = client.time();
    let answer = within(time.time(())).await.ok()?;
    let way = i128::try_from(begin.elapsed().as_nanos()).ok()?;
    let ours = i128::try_from(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()?;
    let theirs = answer.into_inner().messages.into_iter().find_map(|m| m.localtime)?;
    let theirs = i128::from(theirs.seconds) * 1_000_000_000 + i128::from(theirs.nanos);
    // It looked at its clock at some time between our question and now.
    Some(match (theirs - ours, theirs - (ours - way)) {
        (low, _) if low > 0 => low,
        (_, high) if high < 0 => high,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_that_failed_is_no_empty_list() {
        let place = Place::Tls { host: "127.0.0.1".into(), port: 1, config: crate::tls::insecure_client(&[]).unwrap() };
        let client = Client::of_connection(Connection::new(place, Dial { timeout: CONNECT }), &Options::default());
        let state = RemoteState::new(&client, Arc::new(Registry::new().with::<Diagnostic>()));
        let mut unasked = Vec::new();
        assert!(noted(&mut unasked, "diagnostics", resources::<Diagnostic>(&state).await).is_empty());
        assert!(unasked.len() == 1 && unasked[0].starts_with("diagnostics: "), "{unasked:?}");
    }

    #[test]
    fn members_that_etcd_did_not_list_are_noted() {
        let status = crate::machine::EtcdStatus { member_status: Some(crate::machine::EtcdMemberStatus::default()), ..Default::default() };
        let status = crate::machine::EtcdStatusResponse { messages: vec![status] };
        let mut facts = NodeFacts::default();
        etcd_facts(&mut facts, Ok(tonic::Response::new(status)), Err(Status::unavailable("no leader")));
        assert_eq!(facts.unasked, ["etcd members: no leader"]);
    }
}
