//! Resources about the machine itself: services, files, hardware, kernel, container runtime, configuration.

mod config;
mod container;
mod cri;
mod file;
mod hardware;
mod kernel;
mod machine;
mod perf;
mod runtime;
mod security;
mod service;
mod time;

pub use config::*;
pub use container::*;
pub use cri::*;
pub use file::*;
pub use hardware::*;
pub use kernel::*;
pub use machine::*;
pub use perf::*;
pub use runtime::*;
pub use security::*;
pub use service::*;
pub use time::*;

use resource::Entry;

/// Every kind of this room.
#[must_use]
pub fn kinds() -> Vec<Entry> {
    vec![
        Entry::of::<MachineStatus>(),
        Entry::of::<MachineType>(),
        Entry::of::<Version>(),
        Entry::of::<BootId>(),
        Entry::of::<BootedEntry>(),
        Entry::of::<SecurityState>(),
        Entry::of::<RebootRequest>(),
        Entry::of::<MachineResetSignal>(),
        Entry::of::<UniqueMachineToken>(),
        Entry::of::<UnattendedInstallStatus>(),
        Entry::of::<ImageFactorySchematic>(),
        Entry::of::<AcquireConfigSpec>(),
        Entry::of::<AcquireConfigStatus>(),
        Entry::of::<Service>(),
        Entry::of::<ServicePid>(),
        Entry::of::<ApiServiceConfig>(),
        Entry::of::<MaintenanceServiceConfig>(),
        Entry::of::<MaintenanceServiceRequest>(),
        Entry::of::<ExtensionServiceConfig>(),
        Entry::of::<ExtensionServiceConfigStatus>(),
        Entry::of::<KernelParamSpec>(),
        Entry::of::<KernelParamDefaultSpec>(),
        Entry::of::<KernelParamStatus>(),
        Entry::of::<KernelModuleSpec>(),
        Entry::of::<KernelModuleStatus>(),
        Entry::of::<LoadedKernelModule>(),
        Entry::of::<KernelCmdline>(),
        Entry::of::<KmsgLogConfig>(),
        Entry::of::<EtcFileSpec>(),
        Entry::of::<EtcFileStatus>(),
        Entry::of::<DevicesStatus>(),
        Entry::of::<Diagnostic>(),
        Entry::of::<Environment>(),
        Entry::of::<EventSinkConfig>(),
        Entry::of::<ExtensionStatus>(),
        Entry::of::<MetaKey>(),
        Entry::of::<MetaLoad>(),
        Entry::of::<MountStatus>(),
        Entry::of::<OomAction>(),
        Entry::of::<PlatformMetadata>(),
        Entry::of::<SbomItem>(),
        Entry::of::<WatchdogTimerConfig>(),
        Entry::of::<WatchdogTimerStatus>(),
        Entry::of::<SystemInformation>(),
        Entry::of::<Processor>(),
        Entry::of::<CpuCore>(),
        Entry::of::<MemoryModule>(),
        Entry::of::<PciDevice>(),
        Entry::of::<PciDriverRebindConfig>(),
        Entry::of::<PciDriverRebindStatus>(),
        Entry::of::<PcrStatus>(),
        Entry::of::<ImageCacheConfig>(),
        Entry::of::<RegistryConfig>(),
        Entry::of::<SeccompProfile>(),
        Entry::of::<BaseRuntimeSpecConfig>(),
        Entry::of::<CustomizationConfig>(),
        Entry::of::<ContainerSpec>(),
        Entry::of::<ContainerImageStatus>(),
        Entry::of::<ContainerInstanceSpec>(),
        Entry::of::<CpuStat>(),
        Entry::of::<MemoryStat>(),
        Entry::of::<ImageVerificationRule>(),
        Entry::of::<TufTrustedRoot>(),
        Entry::of::<TimeStatus>(),
        Entry::of::<AdjtimeStatus>(),
        Entry::of::<NtpStatus>(),
        Entry::of::<MachineConfig>(),
    ]
}
