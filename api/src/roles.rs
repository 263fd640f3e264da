//! Which roles may call which method, and how the forwarding proxy treats it.
//!
//! `Rpc` is generated from `proto/`, and [`Rpc::rule`] is one exhaustive match: a method added to a node's
//! service does not compile until somebody decides who may call it.

use std::collections::BTreeSet;

pub use pki::Role;

include!(concat!(env!("OUT_DIR"), "/rpc.rs"));

/// The roles of a caller: names as they came, unknown ones kept, empty ones dropped, sorted. (`pki::Roles` holds known ones
/// only, for issuing.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(BTreeSet<String>);

impl Roles {
    /// Whether `role` is among them.
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(role.as_str())
    }

    /// Whether any of `allowed` is among them.
    pub fn any(&self, allowed: &[Role]) -> bool {
        allowed.iter().any(|r| self.has(*r))
    }

    /// The roles both hold.
    #[must_use]
    pub fn intersection(&self, other: &Roles) -> Roles {
        Roles(self.0.intersection(&other.0).cloned().collect())
    }

    /// The names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: Into<String>> FromIterator<S> for Roles {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Roles {
        Roles(names.into_iter().map(Into::into).filter(|n: &String| !n.is_empty()).collect())
    }
}

impl From<&[Role]> for Roles {
    fn from(roles: &[Role]) -> Roles {
        roles.iter().map(|r| r.as_str()).collect()
    }
}

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Roles that reach the handler; one of them is enough.
    pub roles: &'static [Role],
    /// A caller who is no admin is served in maintenance mode only: the handler must check.
    pub admin_unless_maintenance: bool,
    /// Going away; a server logs its use once per caller.
    pub deprecated: bool,
}

const A: &[Role] = &[Role::Admin];
const AO: &[Role] = &[Role::Admin, Role::Operator];
const AOR: &[Role] = &[Role::Admin, Role::Operator, Role::Reader];
const AR: &[Role] = &[Role::Admin, Role::Reader];
const AORE: &[Role] = &[Role::Admin, Role::Operator, Role::Reader, Role::EtcdBackup];
const AOE: &[Role] = &[Role::Admin, Role::Operator, Role::EtcdBackup];
const AORV: &[Role] = &[Role::Admin, Role::Operator, Role::Reader, Role::ImageVerifier];
const AM: &[Role] = &[Role::Admin, Role::MetaWriter];

const fn may(roles: &'static [Role]) -> Rule {
    Rule { roles, admin_unless_maintenance: false, deprecated: false }
}

const fn in_maintenance(roles: &'static [Role]) -> Rule {
    Rule { roles, admin_unless_maintenance: true, deprecated: false }
}

const fn deprecated(roles: &'static [Role]) -> Rule {
    Rule { roles, admin_unless_maintenance: false, deprecated: true }
}

impl Rpc {
    /// Who may call it.
    pub const fn rule(self) -> Rule {
        match self {
            Rpc::MachineApplyConfiguration
            | Rpc::LvmLogicalVolumeRemove
            | Rpc::LvmVolumeGroupRemove
            | Rpc::LvmPhysicalVolumeRemove
            | Rpc::MdDestroy
            | Rpc::StorageBlockDeviceWipe => in_maintenance(AR),

            Rpc::MachineUpgrade => deprecated(A),
            Rpc::MachineImageList => deprecated(AOR),
            Rpc::MachineImagePull => deprecated(AO),

            Rpc::MachineBootstrap
            | Rpc::MachineCopy
            | Rpc::MachineEtcdRemoveMemberByID
            | Rpc::MachineEtcdLeaveCluster
            | Rpc::MachineEtcdForfeitLeadership
            | Rpc::MachineEtcdRecover
            | Rpc::MachineEtcdDowngradeValidate
            | Rpc::MachineEtcdDowngradeEnable
            | Rpc::MachineEtcdDowngradeCancel
            | Rpc::MachineKubeconfig
            | Rpc::MachineRead
            | Rpc::MachineRollback
            | Rpc::MachineReset
            | Rpc::MachineGenerateClientConfiguration
            | Rpc::LifecycleInstall
            | Rpc::LifecycleUpgrade
            | Rpc::ImageImport
            | Rpc::ImageRemove
            | Rpc::DebugContainerRun
            | Rpc::StateCreate
            | Rpc::StateUpdate
            | Rpc::StateDestroy
            | Rpc::StateTeardown
            | Rpc::StateTeardownAndDestroy => may(A),

            Rpc::MachineEtcdAlarmDisarm
            | Rpc::MachineEtcdDefragment
            | Rpc::MachinePacketCapture
            | Rpc::MachineReboot
            | Rpc::MachineRestart
            | Rpc::MachineServiceRestart
            | Rpc::MachineServiceStart
            | Rpc::MachineServiceStop
            | Rpc::MachineShutdown
            | Rpc::ImagePull => may(AO),

            Rpc::MachineContainers
            | Rpc::MachineCPUFreqStats
            | Rpc::MachineCPUInfo
            | Rpc::MachineDiskStats
            | Rpc::MachineDiskUsage
            | Rpc::MachineDmesg
            | Rpc::MachineEvents
            | Rpc::MachineHostname
            | Rpc::MachineList
            | Rpc::MachineLoadAvg
            | Rpc::MachineLogs
            | Rpc::MachineLogsContainers
            | Rpc::MachineMemory
            | Rpc::MachineMounts
            | Rpc::MachineNetstat
            | Rpc::MachineNetworkDeviceStats
            | Rpc::MachineProcesses
            | Rpc::MachineServiceList
            | Rpc::MachineStats
            | Rpc::MachineSystemStat
            | Rpc::MachineVersion
            | Rpc::ImageList
            | Rpc::MachineStorageStatfs
            | Rpc::StorageDisks
            | Rpc::ClusterHealthCheck
            | Rpc::InspectControllerRuntimeDependencies
            | Rpc::TimeTime
            | Rpc::TimeTimeCheck
            | Rpc::StateGet
            | Rpc::StateList
            | Rpc::StateWatch => may(AOR),

            Rpc::MachineEtcdMemberList | Rpc::MachineEtcdAlarmList | Rpc::MachineEtcdStatus => may(AORE),
            Rpc::MachineEtcdSnapshot => may(AOE),
            Rpc::ImageVerify => may(AORV),
            Rpc::MachineMetaWrite | Rpc::MachineMetaDelete => may(AM),
        }
    }

    /// The method at an HTTP/2 `:path`, such as `/machine.MachineService/Version`.
    pub fn from_path(path: &str) -> Option<Rpc> {
        let i = TABLE.binary_search_by(|row| row.1.cmp(path)).ok()?;
        Some(TABLE[i].0)
    }

    /// Every method.
    pub fn all() -> impl Iterator<Item = Rpc> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (Rpc, &'static str, bool, bool) {
        // The table has one row per variant (both are generated from one list), sorted by path.
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }

    /// Its HTTP/2 `:path`.
    pub fn path(self) -> &'static str {
        self.row().1
    }

    /// Whether the client sends a stream.
    pub fn client_streaming(self) -> bool {
        self.row().2
    }

    /// Whether the server sends a stream.
    pub fn server_streaming(self) -> bool {
        self.row().3
    }
}

/// The roles that may call the method at `path`. A path nobody knows needs an admin, so that an admin is
/// told `Unimplemented` and nobody else learns anything.
pub fn allowed(path: &str) -> &'static [Role] {
    Rpc::from_path(path).map_or(A, |rpc| rpc.rule().roles)
}

/// Services whose methods may be called on many nodes at once by `nodes` metadata.
const ONE_TO_MANY: &[&str] =
    &["/machine.MachineService/", "/storage.StorageService/", "/cluster.ClusterService/", "/inspect.InspectService/", "/time.TimeService/"];

/// Whether the method at `path` may be called on many nodes by one call.
pub fn one_to_many(path: &str) -> bool {
    ONE_TO_MANY.iter().any(|p| path.starts_with(p))
}

/// Methods whose replies are sent on frame by frame when called on many nodes. Sorted. Two of them name
/// methods that exist no more; older clients may still call them.
const STREAMED: &[&str] = &[
    "/cluster.ClusterService/HealthCheck",
    "/machine.LifecycleService/Install",
    "/machine.LifecycleService/Upgrade",
    "/machine.MachineService/Copy",
    "/machine.MachineService/DebugContainer",
    "/machine.MachineService/DiskUsage",
    "/machine.MachineService/Dmesg",
    "/machine.MachineService/EtcdSnapshot",
    "/machine.MachineService/Events",
    "/machine.MachineService/ImageList",
    "/machine.MachineService/Kubeconfig",
    "/machine.MachineService/List",
    "/machine.MachineService/Logs",
    "/machine.MachineService/PacketCapture",
    "/machine.MachineService/Read",
    "/os.OSService/Dmesg",
];

/// Whether the proxy to many nodes passes the replies of `path` on frame by frame (each with its node's
/// metadata) instead of merging one reply of each node.
pub fn streamed(path: &str) -> bool {
    path.ends_with("Stream") || STREAMED.binary_search(&path).is_ok()
}

#[cfg(test)]
mod tests;
