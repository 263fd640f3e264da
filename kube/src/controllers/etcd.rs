//! etcd on this machine: what it shall be, and the steps that bring it there.

use std::net::IpAddr;
use std::time::Duration;

use engine::{Context, Controller, Inputs, Many, One, OneExt, Outputs, Wanted};
use model::kube as kinds;
use model::net::{HostnameStatus, NodeAddress};
use model::services::{ServiceSpec, ServiceStatus};
use resource::PemPair;

use super::Room;
use super::certificates::addresses;
use crate::configure::from_arg_values;
use crate::etcd::args::{EtcdArgs, InitialCluster, advertised, listen};
use crate::etcd::client::{Credentials, EtcdClient, EtcdError};
use crate::etcd::membership::{DataDir, Facts, Journal, Step, client_urls, format_id, next_step};
use crate::etcd::service;
use crate::paths::{ETCD_DATA, ETCD_UID};
use crate::subnets::SubnetFilter;

/// Inputs of [`EtcdSpecs`].
#[derive(Inputs)]
pub struct SpecIn {
    #[input(id = "etcd")]
    config: One<kinds::EtcdConfig>,
    #[input(id = "hostname")]
    hostname: One<HostnameStatus>,
    #[input(id = "current-no-k8s")]
    current: One<NodeAddress>,
    #[input(id = "routed-no-k8s")]
    routed: One<NodeAddress>,
}

/// Says in full how etcd shall run.
pub struct EtcdSpecs;

impl Controller for EtcdSpecs {
    const NAME: &'static str = "etcd.SpecController";
    type In = SpecIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<kinds::EtcdSpec>()
    }

    async fn reconcile(&self, _: &Context, input: SpecIn) -> engine::Result<Wanted> {
        let Some(config) = input.config.spec() else {
            return Ok(Wanted::new());
        };
        let (Some(hostname), Some(_), Some(_)) = (input.hostname.spec(), &input.current, &input.routed) else {
            return Ok(Wanted::unknown("the host name and addresses"));
        };
        let (current, routed) = (addresses(&input.current), addresses(&input.routed));
        let advertise = SubnetFilter::of(&config.advertise_valid_subnets, &config.advertise_exclude_subnets)?;
        let advertised_addresses = advertised(&current, &routed, &advertise);
        if advertised_addresses.is_empty() {
            return Ok(Wanted::unknown(format!(
                "an address to advertise for etcd; addresses are {current:?}, of which cluster.etcd.advertisedSubnets accepts none"
            )));
        }
        let listening = SubnetFilter::of(&config.listen_valid_subnets, &config.listen_exclude_subnets)?;
        Ok(Wanted::new().with(
            "etcd",
            kinds::EtcdSpec {
                name: hostname.hostname.clone(),
                advertised_addresses,
                listen_peer_addresses: listen(&current, &listening, false),
                listen_client_addresses: listen(&current, &listening, true),
                image: config.image.clone(),
                extra_args: config.extra_args.clone(),
            },
        ))
    }
}

/// Inputs of [`Membership`].
#[derive(Inputs)]
pub struct MembershipIn {
    #[input(id = "etcd")]
    spec: One<kinds::EtcdSpec>,
    #[input(id = "etcd")]
    pki: One<kinds::PkiStatus>,
    #[input(id = "etcd")]
    root: One<kinds::EtcdRootSecret>,
    #[input(id = "etcd")]
    secret: One<kinds::EtcdSecret>,
    #[input(id = "etcd")]
    status: One<ServiceStatus>,
    endpoints: Many<kinds::Endpoint>,
    #[input(id = "local")]
    member: One<kinds::EtcdMember>,
}

/// Brings this machine into etcd's cluster, and out of it.
pub struct Membership {
    /// Shared.
    pub room: Room,
}

/// How long until the next look while something is awaited.
const AGAIN: Duration = Duration::from_secs(2);

impl Controller for Membership {
    const NAME: &'static str = "etcd.MembershipController";
    const TIMEOUT: Duration = Duration::from_secs(120);
    type In = MembershipIn;

    fn outputs() -> Outputs {
        Outputs::new().shared::<ServiceSpec>().exclusive::<kinds::EtcdMember>()
    }

    async fn reconcile(&self, ctx: &Context, input: MembershipIn) -> engine::Result<Wanted> {
        let control = &self.room.etcd;
        control.set_waker(ctx.waker());
        let credentials = credentials(&input);
        control.set_credentials(credentials.clone());
        let Some(spec) = input.spec.spec() else {
            return Ok(Wanted::new());
        };
        let (Some(_), Some(credentials)) = (input.pki.spec().filter(|pki| pki.ready), credentials) else {
            return Ok(Wanted::unknown("etcd's certificates"));
        };
        let args = EtcdArgs {
            name: spec.name.clone(),
            advertised: spec.advertised_addresses.clone(),
            listen_peer: spec.listen_peer_addresses.clone(),
            listen_client: spec.listen_client_addresses.clone(),
            extra: from_arg_values(&spec.extra_args),
            initial: None,
        };
        let turn = Turn { room: &self.room, input: &input, args, credentials };
        turn.take(ctx).await
    }
}

fn credentials(input: &MembershipIn) -> Option<Credentials> {
    let admin: &PemPair = input.secret.spec()?.etcd_admin.as_ref()?;
    let ca = input.root.spec()?.etcd_ca.as_ref()?;
    Some(Credentials { ca: ca.crt.to_vec(), certificate: admin.crt.to_vec(), key: admin.key.to_vec() })
}

/// One look and the one step that follows from it.
struct Turn<'a> {
    room: &'a Room,
    input: &'a MembershipIn,
    args: EtcdArgs,
    credentials: Credentials,
}

impl Turn<'_> {
    async fn take(&self, ctx: &Context) -> engine::Result<Wanted> {
        let journal = self.room.etcd.journal()?;
        let facts = self.look(journal).await?;
        let step = next_step(&facts);
        self.room.etcd.set_step(describe(&step));
        let member = self.own_member(&facts);
        let outputs = |service: Option<ServiceSpec>, member: Option<kinds::EtcdMember>| {
            Wanted::new().maybe(service::ID, service).maybe("local", member)
        };
        match step {
            Step::Done if facts.journal.leave.is_some() => Ok(outputs(None, None)),
            Step::Done => Ok(outputs(Some(self.service(facts.journal.initial.clone())?), member)),
            Step::Wait { reason } => {
                ctx.wake_after(AGAIN);
                let service = if facts.running { Some(self.service(facts.journal.initial.clone())?) } else { None };
                Ok(outputs(service, member).waiting_for(reason))
            }
            Step::CleanData | Step::Wipe => {
                self.room.files.clear(ETCD_DATA)?;
                ctx.wake_after(Duration::ZERO);
                Ok(outputs(None, None))
            }
            Step::Start { initial } => {
                self.room.files.make_dir(ETCD_DATA, ETCD_UID, 0o700)?;
                if facts.journal.initial != initial {
                    self.room.etcd.note(&Journal { initial: initial.clone(), ..facts.journal.clone() })?;
                }
                ctx.wake_after(AGAIN);
                Ok(outputs(Some(self.service(initial)?), member))
            }
            Step::Stop => {
                ctx.wake_after(AGAIN);
                Ok(outputs(None, None))
            }
            Step::NoteRemoved => {
                let mut journal = facts.journal.clone();
                journal.leave.get_or_insert_default().removed = true;
                self.room.etcd.note(&journal)?;
                ctx.wake_after(Duration::ZERO);
                Ok(Wanted::unchanged())
            }
            Step::Remove { .. } | Step::AddLearner { .. } | Step::Promote { .. } | Step::MoveLeader { .. } => {
                let outcome = self.ask(&step).await;
                ctx.wake_after(if outcome.is_ok() { Duration::from_millis(100) } else { AGAIN });
                match outcome {
                    Ok(()) => Ok(Wanted::unchanged()),
                    Err(error) if error.is_transient() => Ok(Wanted::unchanged().waiting_for(format!("{}: {error}", describe(&step)))),
                    Err(error) => Err(engine::Error::msg(format!("{}: {error}", describe(&step)))),
                }
            }
        }
    }

    async fn look(&self, journal: Journal) -> engine::Result<Facts> {
        let running = self
            .input
            .status
            .spec()
            .is_some_and(|status| !matches!(status.state.as_str(), "" | "Initialized" | "Waiting" | "Finished" | "Failed" | "Skipped"));
        let data = self.room.etcd.data()?;
        let mut facts =
            Facts { name: self.args.name.clone(), peer_urls: self.args.peer_urls(), data, running, journal, ..Default::default() };
        // Once a member, the list is asked for again only when something is to be done with it.
        let settled = running && self.input.member.is_some() && facts.journal.leave.is_none();
        let starting = facts.journal.leave.is_none()
            && (facts.journal.bootstrap && data != DataDir::Initialized || data == DataDir::Initialized && !running);
        if settled {
            facts.members = Some(vec![self.remembered()]);
        } else if !starting {
            self.ask_members(&mut facts).await;
        }
        Ok(facts)
    }

    /// What we know of ourselves from before.
    fn remembered(&self) -> crate::etcd::membership::Member {
        let id = self.input.member.spec().and_then(|member| crate::etcd::membership::parse_id(&member.member_id));
        crate::etcd::membership::Member {
            id: id.unwrap_or_default(),
            name: self.args.name.clone(),
            peer_urls: self.args.peer_urls(),
            ..Default::default()
        }
    }

    async fn ask_members(&self, facts: &mut Facts) {
        let Ok(mut client) = self.connect(facts.running).await else {
            return;
        };
        if let Ok(members) = client.members().await {
            facts.members = Some(members);
        }
        if facts.journal.leave.is_some()
            && let Ok(status) = client.status().await
        {
            facts.leader = (status.leader != 0).then_some(status.leader);
        }
    }

    /// Others first: while joining, one's own member knows only itself or nothing.
    async fn connect(&self, own: bool) -> Result<EtcdClient, EtcdError> {
        let others = self.others();
        let first = EtcdClient::connect(&others, &self.credentials).await;
        match first {
            Err(error) if !own => Err(error),
            Err(_) => EtcdClient::connect(&["https://127.0.0.1:2379".to_owned()], &self.credentials).await,
            connected => connected,
        }
    }

    fn others(&self) -> Vec<String> {
        let mut ips: Vec<IpAddr> = self
            .input
            .endpoints
            .specs()
            .flat_map(|endpoint| endpoint.addresses.iter().copied())
            .filter(|ip| !self.args.advertised.contains(ip) && !ip.is_loopback())
            .collect();
        ips.sort();
        ips.dedup();
        client_urls(&ips)
    }

    async fn ask(&self, step: &Step) -> Result<(), EtcdError> {
        match step {
            Step::Remove { id } => self.connect(true).await?.remove(*id).await,
            Step::AddLearner { peer_urls } => match self.connect(false).await?.add_learner(peer_urls).await {
                Ok(_) | Err(EtcdError::PeerExists) => Ok(()),
                Err(error) => Err(error),
            },
            Step::Promote { id, via } => EtcdClient::connect(via, &self.credentials).await?.promote(*id).await,
            // Only the leader can, and the leader is this machine's own member.
            Step::MoveLeader { to } => {
                EtcdClient::connect(&["https://127.0.0.1:2379".to_owned()], &self.credentials).await?.move_leader(*to).await
            }
            _ => Ok(()),
        }
    }

    fn own_member(&self, facts: &Facts) -> Option<kinds::EtcdMember> {
        let member = facts.members.as_ref()?.iter().find(|member| member.name == facts.name)?;
        (!member.learner && facts.running).then(|| kinds::EtcdMember { member_id: format_id(member.id) })
    }

    fn service(&self, initial: Option<InitialCluster>) -> engine::Result<ServiceSpec> {
        let args = EtcdArgs { initial, ..self.args.clone() }.build()?;
        let spec = self.input.spec.spec().cloned().unwrap_or_default();
        // etcd reads its certificates anew at each handshake, so a renewal needs no restart and the
        // revision stays what it is.
        Ok(service::service(&spec.image, args, self.room.limits.oom_score, String::new()))
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::Wait { reason } => format!("waiting: {reason}"),
        Step::CleanData => "cleaning up after a start that was cut off".to_owned(),
        Step::Start { initial: Some(initial) } => format!("starting etcd with {}", initial.members),
        Step::Start { initial: None } => "starting etcd".to_owned(),
        Step::Remove { id } => format!("removing member {}", format_id(*id)),
        Step::AddLearner { .. } => "adding this machine to etcd's members".to_owned(),
        Step::Promote { id, .. } => format!("promoting member {}", format_id(*id)),
        Step::MoveLeader { to } => format!("moving leadership to member {}", format_id(*to)),
        Step::NoteRemoved => "noting that the cluster agreed".to_owned(),
        Step::Stop => "stopping etcd".to_owned(),
        Step::Wipe => "deleting etcd's data".to_owned(),
        Step::Done => "done".to_owned(),
    }
}
