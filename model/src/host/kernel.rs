//! The kernel: parameters, modules, command line, log.

use resource::{Url, resource, text_enum};

/// A kernel parameter that shall be set; the id is its name with its root, as `proc.sys.net.ipv4.ip_forward`.
#[resource(type = "KernelParamSpecs.runtime.talos.dev", namespace = "runtime")]
pub struct KernelParamSpec {
    #[field(1)]
    pub value: String,
    #[field(2)]
    pub ignore_errors: bool,
}

/// A kernel parameter that is set unless something else is asked for.
#[resource(type = "KernelParamDefaultSpecs.runtime.talos.dev", namespace = "runtime")]
pub struct KernelParamDefaultSpec {
    #[field(1)]
    pub value: String,
    #[field(2)]
    pub ignore_errors: bool,
}

/// A kernel parameter as it is, and as it was before.
#[resource(
    type = "KernelParamStatuses.runtime.talos.dev",
    namespace = "runtime",
    aliases("sysctls", "kernelparameters", "kernelparams"),
    columns("Current" = "{.current}", "Default" = "{.default}", "Unsupported" = "{.unsupported}")
)]
pub struct KernelParamStatus {
    #[field(1)]
    pub current: String,
    #[field(2)]
    pub default: String,
    #[field(3)]
    pub unsupported: bool,
}

/// A kernel module that shall be loaded.
#[resource(type = "KernelModuleSpecs.runtime.talos.dev", namespace = "runtime")]
pub struct KernelModuleSpec {
    #[field(1, yaml = "string")]
    pub name: String,
    #[field(2)]
    pub parameters: Vec<String>,
}

/// A kernel module that is there.
#[resource(
    type = "KernelModuleStatuses.runtime.talos.dev",
    namespace = "runtime",
    aliases("module", "modules"),
    columns("Type" = "{.type}", "State" = "{.state}")
)]
pub struct KernelModuleStatus {
    #[field(1)]
    pub type_: KernelModuleType,
    #[field(2)]
    pub size: i64,
    #[field(3)]
    pub reference_count: i64,
    #[field(4, omit_empty)]
    pub dependencies: Vec<String>,
    #[field(5)]
    pub state: KernelModuleState,
    #[field(6)]
    pub address: String,
}

/// A kernel module that is loaded; the older form.
#[resource(
    type = "LoadedKernelModules.runtime.talos.dev",
    namespace = "runtime",
    columns("State" = "{.state}")
)]
pub struct LoadedKernelModule {
    #[field(1)]
    pub size: i64,
    #[field(2)]
    pub reference_count: i64,
    #[field(3, omit_empty)]
    pub dependencies: Vec<String>,
    #[field(4)]
    pub state: String,
    #[field(5)]
    pub address: String,
}

/// The kernel's command line.
#[resource(
    type = "KernelCmdlines.runtime.talos.dev",
    namespace = "runtime",
    aliases("cmdline"),
    columns("Cmdline" = "{.cmdline}"),
    ids("cmdline")
)]
pub struct KernelCmdline {
    #[field(1)]
    pub cmdline: String,
}

/// Where the kernel's log is sent.
#[resource(type = "KmsgLogConfigs.runtime.talos.dev", namespace = "runtime", ids("kmsg-log"))]
pub struct KmsgLogConfig {
    #[field(1)]
    pub destinations: Vec<Url>,
}

/// Whether a module is part of the kernel or loaded.
#[text_enum]
pub enum KernelModuleType {
    #[text(0)]
    Unknown,
    #[text(1, "built-in")]
    BuiltIn,
    #[text(2)]
    Dynamic,
}

/// Whether a module is in use.
#[text_enum]
pub enum KernelModuleState {
    #[text(0)]
    Live,
    #[text(1)]
    Loading,
    #[text(2)]
    Unloading,
    #[text(3, "built-in")]
    BuiltIn,
}
