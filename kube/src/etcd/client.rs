//! A client of etcd in which every call has a deadline and every error says which decision it
//! calls for.

use std::time::Duration;

use etcd_client::{AlarmAction, AlarmType, Channel, Client, LockOptions, MemberAddOptions};
use futures::stream::{FuturesUnordered, StreamExt};
use thiserror::Error;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::membership::Member;

/// How long a connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Mutex for one machine at a time applying bootstrap manifests.
pub const MANIFEST_MUTEX: &str = "talos:v1:manifestApplyMutex";
/// Mutex for one machine at a time upgrading.
pub const UPGRADE_MUTEX: &str = "talos:v1:etcdUpgradeMutex";

/// What went wrong with etcd.
#[derive(Debug, Error)]
pub enum EtcdError {
    /// No endpoint accepted a connection.
    #[error("no etcd endpoint answers; tried {tried}")]
    Unreachable {
        /// Each endpoint with its error.
        tried: String,
    },
    /// There is nowhere to connect.
    #[error("no etcd endpoint is known")]
    NoEndpoints,
    /// The client certificate, its key or the authority is no PEM.
    #[error("etcd client credentials are unusable: {reason}")]
    Credentials {
        /// Why.
        reason: String,
    },
    /// The call's deadline passed; without a quorum, changes end like this.
    #[error("etcd did not answer `{call}` within {seconds} s; without a quorum it cannot")]
    Timeout {
        /// The call.
        call: &'static str,
        /// The deadline.
        seconds: u64,
    },
    /// The member is not in the list.
    #[error("etcd has no such member")]
    MemberNotFound,
    /// A member with these peer URLs is in the list.
    #[error("etcd has a member with these peer URLs already")]
    PeerExists,
    /// The learner is behind; ask again.
    #[error("the learner has not caught up with the leader yet")]
    LearnerBehind,
    /// Another learner has to be promoted or removed first.
    #[error("etcd has a learner already, and admits one at a time")]
    TooManyLearners,
    /// The change would cost the quorum.
    #[error("etcd refuses a change that could cost it its quorum: {message}")]
    Unhealthy {
        /// etcd's words.
        message: String,
    },
    /// The member has no leader.
    #[error("etcd has no leader")]
    NoLeader,
    /// Anything else.
    #[error("etcd refused `{call}`: {message}")]
    Refused {
        /// The call.
        call: &'static str,
        /// etcd's words.
        message: String,
    },
}

impl EtcdError {
    /// By the words of etcd's own errors (`api/v3rpc/rpctypes/error.go`): it has no other code.
    fn from_words(call: &'static str, message: &str) -> Self {
        let has = |words: &str| message.contains(words);
        if has("member not found") {
            Self::MemberNotFound
        } else if has("Peer URLs already exists") || has("member ID already exist") {
            // Two checks of etcd find the same thing; which one is first depends on the clock, of
            // which an id is made.
            Self::PeerExists
        } else if has("can only promote a learner member which is in sync") {
            Self::LearnerBehind
        } else if has("too many learner members") {
            Self::TooManyLearners
        } else if has("not enough started members") || has("unhealthy cluster") {
            Self::Unhealthy { message: message.to_owned() }
        } else if has("no leader") {
            Self::NoLeader
        } else {
            Self::Refused { call, message: message.to_owned() }
        }
    }

    /// Whether the same call may succeed later by itself.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Timeout { .. }
                | Self::LearnerBehind
                | Self::TooManyLearners
                | Self::Unhealthy { .. }
                | Self::NoLeader
        )
    }
}

/// A client certificate and the authority of the servers.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Authority, PEM.
    pub ca: Vec<u8>,
    /// Client certificate, PEM.
    pub certificate: Vec<u8>,
    /// Its key, PEM.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// State of one member.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemberStatus {
    /// The member's id.
    pub id: u64,
    /// etcd's version.
    pub version: String,
    /// Storage format version.
    pub storage_version: String,
    /// Size of the database file, bytes.
    pub db_size: i64,
    /// Of it in use, bytes.
    pub db_size_in_use: i64,
    /// Upper bound of it, bytes.
    pub db_size_quota: i64,
    /// Id of the leader; 0 when there is none.
    pub leader: u64,
    /// Last index in the log.
    pub raft_index: u64,
    /// Current term.
    pub raft_term: u64,
    /// Last index applied.
    pub raft_applied_index: u64,
    /// Alarms and corruption, in etcd's words.
    pub errors: Vec<String>,
    /// Whether it has no vote.
    pub learner: bool,
}

/// An alarm that a member raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// The member's id.
    pub member: u64,
    /// Its kind: 1 no space, 2 corrupt.
    pub kind: i32,
}

/// A connection to one member.
pub struct EtcdClient {
    client: Client,
    /// The endpoint it is connected to.
    pub endpoint: String,
}

impl EtcdClient {
    /// Connects to the first of `endpoints` that answers; all are tried at once.
    ///
    /// # Errors
    /// [`EtcdError::Unreachable`] naming each endpoint's error, [`EtcdError::NoEndpoints`],
    /// [`EtcdError::Credentials`].
    pub async fn connect(endpoints: &[String], with: &Credentials) -> Result<Self, EtcdError> {
        if endpoints.is_empty() {
            return Err(EtcdError::NoEndpoints);
        }
        let mut tries: FuturesUnordered<_> =
            endpoints.iter().map(|endpoint| async move { (endpoint, dial(endpoint, with).await) }).collect();
        let mut tried = Vec::new();
        while let Some((endpoint, result)) = tries.next().await {
            match result {
                Ok(client) => return Ok(Self { client, endpoint: endpoint.clone() }),
                Err(error) => tried.push(format!("{endpoint} ({error})")),
            }
        }
        Err(EtcdError::Unreachable { tried: tried.join(", ") })
    }

    /// All members, as this one knows them: also answered without a quorum.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn members(&mut self) -> Result<Vec<Member>, EtcdError> {
        let response = call("member list", self.client.member_list()).await?;
        Ok(response.members().iter().map(member).collect())
    }

    /// Adds a member without a vote; its id. One that is there already is [`EtcdError::PeerExists`].
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn add_learner(&mut self, peer_urls: &[String]) -> Result<u64, EtcdError> {
        let options = MemberAddOptions::new().with_is_learner();
        let response = call("member add", self.client.member_add(peer_urls.to_vec(), Some(options))).await?;
        Ok(response.member().map_or(0, |member| member.id()))
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    /// [`EtcdError::LearnerBehind`] until it has caught up; others as usual.
    pub async fn promote(&mut self, id: u64) -> Result<(), EtcdError> {
        call("member promote", self.client.member_promote(id)).await.map(drop)
    }

    /// Takes a member off the list. One that is not there counts as removed.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn remove(&mut self, id: u64) -> Result<(), EtcdError> {
        match call("member remove", self.client.member_remove(id)).await {
            Ok(_) | Err(EtcdError::MemberNotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives leadership away; only the leader can.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn move_leader(&mut self, to: u64) -> Result<(), EtcdError> {
        call("move leader", self.client.move_leader(to)).await.map(drop)
    }

    /// State of the member this client is connected to.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn status(&mut self) -> Result<MemberStatus, EtcdError> {
        let status = call("status", self.client.status()).await?;
        Ok(MemberStatus {
            id: status.header().map_or(0, |header| header.member_id()),
            version: status.version().to_owned(),
            storage_version: status.storage_version().to_owned(),
            db_size: status.db_size(),
            db_size_in_use: status.raft_used_db_size(),
            db_size_quota: status.db_size_quota(),
            leader: status.leader(),
            raft_index: status.raft_index(),
            raft_term: status.raft_term(),
            raft_applied_index: status.raft_applied_index(),
            errors: status.errors().to_vec(),
            learner: status.is_learner(),
        })
    }

    /// Whether the member can serve a linearizable read, which needs a quorum.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn healthy(&mut self) -> Result<(), EtcdError> {
        call("get", self.client.get("health", None)).await.map(drop)
    }

    /// All alarms.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn alarms(&mut self) -> Result<Vec<Alarm>, EtcdError> {
        self.alarm(AlarmAction::Get).await
    }

    /// Disarms all alarms; those that were disarmed.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn disarm(&mut self) -> Result<Vec<Alarm>, EtcdError> {
        let mut disarmed = Vec::new();
        for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
            let response = call("alarm", self.client.alarm(AlarmAction::Deactivate, kind, None)).await?;
            disarmed.extend(response.alarms().iter().map(alarm));
        }
        Ok(disarmed)
    }

    async fn alarm(&mut self, action: AlarmAction) -> Result<Vec<Alarm>, EtcdError> {
        let response = call("alarm", self.client.alarm(action, AlarmType::None, None)).await?;
        Ok(response.alarms().iter().map(alarm).collect())
    }

    /// Gives free space of the member's database back to the disk. Blocks the member meanwhile.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn defragment(&mut self) -> Result<(), EtcdError> {
        within("defragment", Duration::from_secs(300), self.client.defragment()).await.map(drop)
    }

    /// A snapshot of the member's database, piece by piece, until `sink` wants no more or the last
    /// piece was given to it.
    ///
    /// # Errors
    /// See [`EtcdError`]; a stream that pauses longer than a call may take is a timeout.
    pub async fn snapshot<F>(&mut self, mut sink: F) -> Result<u64, EtcdError>
    where
        F: AsyncFnMut(Vec<u8>) -> bool,
    {
        let mut stream = call("snapshot", self.client.snapshot()).await?;
        let mut bytes = 0u64;
        while let Some(piece) = call("snapshot", stream.message()).await? {
            bytes += u64::try_from(piece.blob().len()).unwrap_or_default();
            if !piece.blob().is_empty() && !sink(piece.blob().to_vec()).await {
                break;
            }
        }
        Ok(bytes)
    }

    /// Takes a mutex that frees itself `ttl` after its holder died. `wait` bounds the waiting.
    ///
    /// # Errors
    /// [`EtcdError::Timeout`] when somebody else holds it all that time.
    pub async fn lock(&mut self, name: &str, ttl: Duration, wait: Duration) -> Result<Mutex, EtcdError> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(60);
        let lease = call("lease grant", self.client.lease_grant(seconds, None)).await?.id();
        let options = LockOptions::new().with_lease(lease);
        match within("lock", wait, self.client.lock(name, Some(options))).await {
            Ok(_) => Ok(Mutex { lease, client: self.client.clone() }),
            Err(error) => {
                // Without this our place in the queue would live as long as the lease.
                let _ = call("lease revoke", self.client.lease_revoke(lease)).await;
                Err(error)
            }
        }
    }
}

/// A mutex that is held. Dropping it without [`Mutex::unlock`] frees it when its time is over.
pub struct Mutex {
    lease: i64,
    client: Client,
}

impl Mutex {
    /// Extends the time for which it is held.
    ///
    /// # Errors
    /// See [`EtcdError`]; then it must be taken as lost.
    pub async fn keep_alive(&mut self) -> Result<(), EtcdError> {
        let (mut keeper, mut stream) = call("lease keep-alive", self.client.lease_keep_alive(self.lease)).await?;
        call("lease keep-alive", keeper.keep_alive()).await?;
        let reply = call("lease keep-alive", stream.message()).await?;
        if reply.is_some_and(|reply| reply.ttl() > 0) {
            Ok(())
        } else {
            Err(EtcdError::Refused { call: "lease keep-alive", message: "the lease has ended".to_owned() })
        }
    }

    /// Frees it.
    ///
    /// # Errors
    /// See [`EtcdError`]; it frees itself later.
    pub async fn unlock(mut self) -> Result<(), EtcdError> {
        call("lease revoke", self.client.lease_revoke(self.lease)).await.map(drop)
    }
}

async fn dial(endpoint: &str, with: &Credentials) -> Result<Client, EtcdError> {
    let tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&with.ca)).identity(Identity::from_pem(&with.certificate, &with.key));
    let channel = Endpoint::from_shared(endpoint.to_owned())
        .map_err(|error| EtcdError::Credentials { reason: chain(&error) })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(15))
        .keep_alive_timeout(Duration::from_secs(5))
        .tls_config(tls)
        .map_err(|error| EtcdError::Credentials { reason: chain(&error) })?;
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, channel.connect()).await;
    let channel = match connected {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return Err(EtcdError::Unreachable { tried: chain(&error) }),
        Err(_) => {
            return Err(EtcdError::Timeout { call: "connect", seconds: CONNECT_TIMEOUT.as_secs() });
        }
    };
    Client::from_channel(Channel::Tonic(channel), None).await.map_err(|error| EtcdError::from_words("connect", &error.to_string()))
}

/// The error with its causes: tonic's own text is "transport error" for everything.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

async fn call<T>(name: &'static str, future: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, EtcdError> {
    within(name, CALL_TIMEOUT, future).await
}

async fn within<T>(
    name: &'static str,
    limit: Duration,
    future: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, EtcdError> {
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let message = match &error {
                etcd_client::Error::GRpcStatus(status) => status.message().to_owned(),
                other => chain(other),
            };
            Err(EtcdError::from_words(name, &message))
        }
        Err(_) => Err(EtcdError::Timeout { call: name, seconds: limit.as_secs() }),
    }
}

fn member(member: &etcd_client::Member) -> Member {
    Member {
        id: member.id(),
        name: member.name().to_owned(),
        peer_urls: member.peer_urls().to_vec(),
        client_urls: member.client_urls().to_vec(),
        learner: member.is_learner(),
    }
}

fn alarm(alarm: &etcd_client::AlarmMember) -> Alarm {
    Alarm { member: alarm.member_id(), kind: alarm.alarm() as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The left side is what etcd 3.7 says on the wire.
    #[test]
    fn etcds_words_become_decisions() {
        let of = |words: &str| EtcdError::from_words("x", words);
        assert!(matches!(of("etcdserver: member not found"), EtcdError::MemberNotFound));
        assert!(matches!(of("etcdserver: Peer URLs already exists"), EtcdError::PeerExists));
        assert!(matches!(of("etcdserver: member ID already exist"), EtcdError::PeerExists));
        assert!(matches!(of("etcdserver: can only promote a learner member which is in sync with leader"), EtcdError::LearnerBehind));
        assert!(matches!(of("etcdserver: too many learner members in cluster"), EtcdError::TooManyLearners));
        assert!(matches!(of("etcdserver: re-configuration failed due to not enough started members"), EtcdError::Unhealthy { .. }));
        assert!(matches!(of("etcdserver: no leader"), EtcdError::NoLeader));
        let other = of("etcdserver: permission denied");
        assert!(matches!(other, EtcdError::Refused { .. }) && !other.is_transient());
    }

    #[tokio::test]
    async fn nobody_listening_names_every_endpoint() {
        let with = Credentials { ca: Vec::new(), certificate: Vec::new(), key: Vec::new() };
        assert!(matches!(EtcdClient::connect(&[], &with).await, Err(EtcdError::NoEndpoints)));
        let error = EtcdClient::connect(&["https://127.0.0.1:1".into()], &with).await;
        let text = error.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains("127.0.0.1:1"), "{text}");
    }
}
