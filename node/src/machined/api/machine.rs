//! `machine.MachineService`: what a node tells and does. Each method hands on to the module of its subject.

use std::pin::Pin;

use api::common::Data;
use api::machine as pb;
use api::machine::machine_service_server::MachineService;
use api::roles::{Role, Roles};
use tonic::{Request, Response, Status, Streaming};

use super::files::Stream;
use super::{containers, etcd, events, files, identity, lifecycle, logs, proc, services};
use crate::machined::node::Node;

/// The service.
#[derive(Clone)]
pub(crate) struct Machine(pub(crate) Node);

type Answer<T> = Result<Response<T>, Status>;

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// An answer of one message in its envelope, as all classic methods give it.
macro_rules! one {
    ($envelope:ident, $message:expr) => {
        Ok(Response::new(pb::$envelope { messages: vec![$message] }))
    };
}

/// Methods that a container node answers like the peer's does: not here.
fn not_in_container<T>() -> Result<T, Status> {
    Err(Status::failed_precondition("method is not supported in container mode"))
}

fn not_yet<T>(what: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("{what} is not there in this version of Orlop")))
}

#[tonic::async_trait]
impl MachineService for Machine {
    type CopyStream = Stream<Data>;
    type DmesgStream = Stream<Data>;
    type EventsStream = Stream<pb::Event>;
    type EtcdSnapshotStream = Stream<Data>;
    type KubeconfigStream = Stream<Data>;
    type ListStream = Stream<pb::FileInfo>;
    type DiskUsageStream = Stream<pb::DiskUsageInfo>;
    type LogsStream = Stream<Data>;
    type ReadStream = Stream<Data>;
    type PacketCaptureStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<Data, Status>> + Send>>;
    type ImageListStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<pb::ImageListResponse, Status>> + Send>>;

    async fn apply_configuration(&self, request: Request<pb::ApplyConfigurationRequest>) -> Answer<pb::ApplyConfigurationResponse> {
        let admin = request.extensions().get::<Roles>().is_some_and(|roles| roles.has(Role::Admin));
        one!(ApplyConfigurationResponse, super::apply::apply(&self.0, request.into_inner(), admin).await?)
    }

    async fn bootstrap(&self, request: Request<pb::BootstrapRequest>) -> Answer<pb::BootstrapResponse> {
        etcd::bootstrap(&self.0, request.into_inner()).await?;
        one!(BootstrapResponse, pb::Bootstrap::default())
    }

    async fn containers(&self, request: Request<pb::ContainersRequest>) -> Answer<pb::ContainersResponse> {
        let containers = containers::list(&self.0.containerd, request.get_ref()).await?;
        one!(ContainersResponse, pb::Container { metadata: None, containers })
    }

    async fn copy(&self, request: Request<pb::CopyRequest>) -> Answer<Self::CopyStream> {
        files::copy(&request.get_ref().root_path).map(Response::new)
    }

    async fn cpu_freq_stats(&self, _: Request<()>) -> Answer<pb::CpuFreqStatsResponse> {
        one!(CpuFreqStatsResponse, pb::CpUsFreqStats::default())
    }

    async fn cpu_info(&self, _: Request<()>) -> Answer<pb::CpuInfoResponse> {
        one!(CpuInfoResponse, proc::cpu_info().map_err(internal)?)
    }

    async fn disk_stats(&self, _: Request<()>) -> Answer<pb::DiskStatsResponse> {
        one!(DiskStatsResponse, proc::disk_stats().map_err(internal)?)
    }

    async fn dmesg(&self, request: Request<pb::DmesgRequest>) -> Answer<Self::DmesgStream> {
        logs::dmesg(&self.0.logs, request.get_ref()).map(Response::new)
    }

    async fn events(&self, request: Request<pb::EventsRequest>) -> Answer<Self::EventsStream> {
        Ok(Response::new(events::stream(&self.0.events, request.get_ref())))
    }

    async fn etcd_member_list(&self, _: Request<pb::EtcdMemberListRequest>) -> Answer<pb::EtcdMemberListResponse> {
        one!(EtcdMemberListResponse, etcd::members(&self.0).await?)
    }

    async fn etcd_remove_member_by_id(
        &self,
        request: Request<pb::EtcdRemoveMemberByIdRequest>,
    ) -> Answer<pb::EtcdRemoveMemberByIdResponse> {
        etcd::remove(&self.0, request.get_ref().member_id).await?;
        one!(EtcdRemoveMemberByIdResponse, pb::EtcdRemoveMemberById::default())
    }

    async fn etcd_leave_cluster(&self, _: Request<pb::EtcdLeaveClusterRequest>) -> Answer<pb::EtcdLeaveClusterResponse> {
        etcd::leave(&self.0).await?;
        one!(EtcdLeaveClusterResponse, pb::EtcdLeaveCluster::default())
    }

    async fn etcd_forfeit_leadership(&self, _: Request<pb::EtcdForfeitLeadershipRequest>) -> Answer<pb::EtcdForfeitLeadershipResponse> {
        let member = etcd::forfeit(&self.0).await?;
        one!(EtcdForfeitLeadershipResponse, pb::EtcdForfeitLeadership { metadata: None, member })
    }

    async fn etcd_recover(&self, request: Request<Streaming<Data>>) -> Answer<pb::EtcdRecoverResponse> {
        etcd::recover(&self.0, request.into_inner()).await?;
        one!(EtcdRecoverResponse, pb::EtcdRecover::default())
    }

    async fn etcd_snapshot(&self, _: Request<pb::EtcdSnapshotRequest>) -> Answer<Self::EtcdSnapshotStream> {
        etcd::snapshot(&self.0).await.map(Response::new)
    }

    async fn etcd_alarm_list(&self, _: Request<()>) -> Answer<pb::EtcdAlarmListResponse> {
        let member_alarms = etcd::alarms(&self.0).await?;
        one!(EtcdAlarmListResponse, pb::EtcdAlarm { metadata: None, member_alarms })
    }

    async fn etcd_alarm_disarm(&self, _: Request<()>) -> Answer<pb::EtcdAlarmDisarmResponse> {
        let member_alarms = etcd::disarm(&self.0).await?;
        one!(EtcdAlarmDisarmResponse, pb::EtcdAlarmDisarm { metadata: None, member_alarms })
    }

    async fn etcd_defragment(&self, _: Request<()>) -> Answer<pb::EtcdDefragmentResponse> {
        etcd::defragment(&self.0).await?;
        one!(EtcdDefragmentResponse, pb::EtcdDefragment::default())
    }

    async fn etcd_status(&self, _: Request<()>) -> Answer<pb::EtcdStatusResponse> {
        let member_status = Some(etcd::status(&self.0).await?);
        one!(EtcdStatusResponse, pb::EtcdStatus { metadata: None, member_status })
    }

    async fn etcd_downgrade_validate(&self, _: Request<pb::EtcdDowngradeValidateRequest>) -> Answer<pb::EtcdDowngradeValidateResponse> {
        not_yet("the downgrade of etcd")
    }

    async fn etcd_downgrade_enable(&self, _: Request<pb::EtcdDowngradeEnableRequest>) -> Answer<pb::EtcdDowngradeEnableResponse> {
        not_yet("the downgrade of etcd")
    }

    async fn etcd_downgrade_cancel(&self, _: Request<()>) -> Answer<pb::EtcdDowngradeCancelResponse> {
        not_yet("the downgrade of etcd")
    }

    async fn hostname(&self, _: Request<()>) -> Answer<pb::HostnameResponse> {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(internal)?.trim().to_owned();
        one!(HostnameResponse, pb::Hostname { metadata: None, hostname })
    }

    async fn kubeconfig(&self, _: Request<()>) -> Answer<Self::KubeconfigStream> {
        identity::kubeconfig(&self.0).map(Response::new)
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Answer<Self::ListStream> {
        files::list(request.into_inner()).map(Response::new)
    }

    async fn disk_usage(&self, request: Request<pb::DiskUsageRequest>) -> Answer<Self::DiskUsageStream> {
        files::disk_usage(request.into_inner()).map(Response::new)
    }

    async fn load_avg(&self, _: Request<()>) -> Answer<pb::LoadAvgResponse> {
        one!(LoadAvgResponse, proc::load().map_err(internal)?)
    }

    async fn logs(&self, request: Request<pb::LogsRequest>) -> Answer<Self::LogsStream> {
        logs::logs(&self.0.logs, request.get_ref()).map(Response::new)
    }

    async fn logs_containers(&self, _: Request<()>) -> Answer<pb::LogsContainersResponse> {
        one!(LogsContainersResponse, pb::LogsContainer { metadata: None, ids: logs::ids() })
    }

    async fn memory(&self, _: Request<()>) -> Answer<pb::MemoryResponse> {
        let meminfo = Some(proc::memory().map_err(internal)?);
        one!(MemoryResponse, pb::Memory { metadata: None, meminfo })
    }

    async fn mounts(&self, _: Request<()>) -> Answer<pb::MountsResponse> {
        one!(MountsResponse, pb::Mounts { metadata: None, stats: proc::mounts().map_err(internal)? })
    }

    async fn network_device_stats(&self, _: Request<()>) -> Answer<pb::NetworkDeviceStatsResponse> {
        one!(NetworkDeviceStatsResponse, proc::network_device_stats().map_err(internal)?)
    }

    async fn processes(&self, _: Request<()>) -> Answer<pb::ProcessesResponse> {
        one!(ProcessesResponse, pb::Process { metadata: None, processes: proc::processes().map_err(internal)? })
    }

    async fn read(&self, request: Request<pb::ReadRequest>) -> Answer<Self::ReadStream> {
        files::read(&request.get_ref().path).map(Response::new)
    }

    async fn reboot(&self, request: Request<pb::RebootRequest>) -> Answer<pb::RebootResponse> {
        let actor_id = lifecycle::reboot(&self.0, request.get_ref())?;
        one!(RebootResponse, pb::Reboot { metadata: None, actor_id })
    }

    async fn restart(&self, request: Request<pb::RestartRequest>) -> Answer<pb::RestartResponse> {
        containers::restart(&self.0.containerd, request.get_ref()).await?;
        one!(RestartResponse, pb::Restart::default())
    }

    async fn rollback(&self, _: Request<pb::RollbackRequest>) -> Answer<pb::RollbackResponse> {
        not_in_container()
    }

    async fn reset(&self, request: Request<pb::ResetRequest>) -> Answer<pb::ResetResponse> {
        let actor_id = lifecycle::reset(&self.0, request.get_ref())?;
        one!(ResetResponse, pb::Reset { metadata: None, actor_id })
    }

    async fn service_list(&self, _: Request<()>) -> Answer<pb::ServiceListResponse> {
        one!(ServiceListResponse, pb::ServiceList { metadata: None, services: services::list(&self.0) })
    }

    async fn service_restart(&self, request: Request<pb::ServiceRestartRequest>) -> Answer<pb::ServiceRestartResponse> {
        let resp = services::restart(&self.0, &request.get_ref().id)?;
        one!(ServiceRestartResponse, pb::ServiceRestart { metadata: None, resp })
    }

    async fn service_start(&self, request: Request<pb::ServiceStartRequest>) -> Answer<pb::ServiceStartResponse> {
        let resp = services::start(&self.0, &request.get_ref().id)?;
        one!(ServiceStartResponse, pb::ServiceStart { metadata: None, resp })
    }

    async fn service_stop(&self, request: Request<pb::ServiceStopRequest>) -> Answer<pb::ServiceStopResponse> {
        let resp = services::stop(&self.0, &request.get_ref().id)?;
        one!(ServiceStopResponse, pb::ServiceStop { metadata: None, resp })
    }

    async fn shutdown(&self, request: Request<pb::ShutdownRequest>) -> Answer<pb::ShutdownResponse> {
        let actor_id = lifecycle::shutdown(&self.0, request.get_ref())?;
        one!(ShutdownResponse, pb::Shutdown { metadata: None, actor_id })
    }

    async fn stats(&self, request: Request<pb::StatsRequest>) -> Answer<pb::StatsResponse> {
        let stats = containers::stats(&self.0.containerd, request.get_ref()).await?;
        one!(StatsResponse, pb::Stats { metadata: None, stats })
    }

    async fn system_stat(&self, _: Request<()>) -> Answer<pb::SystemStatResponse> {
        one!(SystemStatResponse, proc::system_stat().map_err(internal)?)
    }

    async fn upgrade(&self, _: Request<pb::UpgradeRequest>) -> Answer<pb::UpgradeResponse> {
        not_in_container()
    }

    async fn version(&self, _: Request<()>) -> Answer<pb::VersionResponse> {
        one!(VersionResponse, identity::version(&self.0))
    }

    async fn generate_client_configuration(
        &self,
        request: Request<pb::GenerateClientConfigurationRequest>,
    ) -> Answer<pb::GenerateClientConfigurationResponse> {
        one!(GenerateClientConfigurationResponse, identity::client_configuration(&self.0, request.get_ref())?)
    }

    async fn packet_capture(&self, _: Request<pb::PacketCaptureRequest>) -> Answer<Self::PacketCaptureStream> {
        not_yet("packet capture")
    }

    async fn netstat(&self, _: Request<pb::NetstatRequest>) -> Answer<pb::NetstatResponse> {
        not_yet("netstat")
    }

    async fn meta_write(&self, _: Request<pb::MetaWriteRequest>) -> Answer<pb::MetaWriteResponse> {
        not_in_container()
    }

    async fn meta_delete(&self, _: Request<pb::MetaDeleteRequest>) -> Answer<pb::MetaDeleteResponse> {
        not_in_container()
    }

    async fn image_list(&self, _: Request<pb::ImageListRequest>) -> Answer<Self::ImageListStream> {
        not_yet("the old image list")
    }

    async fn image_pull(&self, _: Request<pb::ImagePullRequest>) -> Answer<pb::ImagePullResponse> {
        not_yet("the old image pull")
    }
}
