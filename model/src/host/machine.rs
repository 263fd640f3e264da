//! The machine as a whole: its type, stage, versions and signals.

use resource::{message, resource, text_enum};

/// The machine's stage of life, and what it waits for.
#[resource(
    type = "MachineStatuses.runtime.talos.dev",
    namespace = "runtime",
    columns("Stage" = "{.stage}", "Ready" = "{.status.ready}"),
    ids("machine")
)]
pub struct MachineStatus {
    #[field(1)]
    pub stage: MachineStage,
    #[field(2)]
    pub status: MachineReadiness,
}

/// Whether the machine is a control plane or a worker.
#[resource(
    type = "MachineTypes.config.talos.dev",
    namespace = "config",
    columns("Type" = "{@}"),
    ids("machine-type"),
    transparent
)]
pub struct MachineType {
    /// The type.
    #[field(1)]
    pub role: MachineRole,
}

/// The version of the system.
#[resource(
    type = "Versions.runtime.talos.dev",
    namespace = "runtime",
    columns("Name" = "{.name}", "Version" = "{.version}")
)]
pub struct Version {
    #[field(2)]
    pub name: String,
    #[field(1)]
    pub version: String,
}

/// The kernel's id of this boot.
#[resource(
    type = "BootIDs.runtime.talos.dev",
    namespace = "runtime",
    columns("Boot ID" = "{.bootID}"),
    ids("boot-id")
)]
pub struct BootId {
    #[field(1, yaml = "bootID")]
    pub boot_id: String,
}

/// The boot loader's entry that was booted.
#[resource(
    type = "BootedEntries.talos.dev",
    namespace = "runtime",
    columns("Booted Entry" = "{.bootedEntry}"),
    ids("bootedentry")
)]
pub struct BootedEntry {
    #[field(1, omit_empty)]
    pub booted_entry: String,
}

/// Secure Boot, SELinux, FIPS, module signatures.
#[resource(
    type = "SecurityStates.talos.dev",
    namespace = "runtime",
    columns(
        "SecureBoot" = "{.secureBoot}",
        "UKISigningKeyFingerprint" = "{.ukiSigningKeyFingerprint}",
        "PCRSigningKeyFingerprint" = "{.pcrSigningKeyFingerprint}",
        "SELinuxState" = "{.selinuxState}",
        "ModuleSignatureEnforced" = "{.moduleSignatureEnforced}"
    ),
    ids("securitystate")
)]
pub struct SecurityState {
    #[field(1)]
    pub secure_boot: bool,
    #[field(2, omit_empty)]
    pub uki_signing_key_fingerprint: String,
    #[field(3, omit_empty)]
    pub pcr_signing_key_fingerprint: String,
    #[field(4, omit_empty)]
    pub selinux_state: SelinuxState,
    #[field(6, omit_empty)]
    pub fips_state: FipsState,
    #[field(5, yaml = "bootedWithUKI", omit_empty)]
    pub booted_with_uki: bool,
    #[field(7, omit_empty)]
    pub module_signature_enforced: bool,
}

/// The machine shall reboot.
#[resource(type = "RebootRequests.runtime.talos.dev", namespace = "runtime", ids("reboot-request"))]
pub struct RebootRequest {}

/// The machine shall be reset.
#[resource(type = "MachineResetSignals.runtime.talos.dev", namespace = "runtime", ids("machine"))]
pub struct MachineResetSignal {}

/// The token by which a management plane knows this machine.
#[resource(
    type = "UniqueMachineTokens.runtime.talos.dev",
    namespace = "runtime",
    columns("Token" = "{.token}"),
    ids("unique-machine-token")
)]
pub struct UniqueMachineToken {
    #[field(1, secret)]
    pub token: String,
}

/// How far an installation by configuration alone is.
#[resource(
    type = "UnattendedInstallStatuses.runtime.talos.dev",
    namespace = "runtime",
    columns("Phase" = "{.phase}"),
    ids("unattended-install")
)]
pub struct UnattendedInstallStatus {
    #[field(1, omit_empty)]
    pub image: String,
    #[field(2, omit_empty)]
    pub phase: UnattendedInstallPhase,
    #[field(3, omit_empty)]
    pub error: String,
}

/// What the image was made from.
#[resource(
    type = "ImageFactorySchematics.runtime.talos.dev",
    namespace = "runtime",
    columns("Schematic ID" = "{.schematicId}", "Flavor" = "{.flavor}", "API URL" = "{.apiUrl}"),
    ids("image-factory-schematic")
)]
pub struct ImageFactorySchematic {
    #[field(1)]
    pub schematic_id: String,
    #[field(2)]
    pub flavor: String,
    #[field(3)]
    pub api_url: String,
}

/// A configuration shall be fetched from the platform.
#[resource(type = "AcquireConfigSpecs.v1alpha1.talos.dev", namespace = "runtime")]
pub struct AcquireConfigSpec {}

/// The configuration was fetched.
#[resource(type = "AcquireConfigStatuses.v1alpha1.talos.dev", namespace = "runtime")]
pub struct AcquireConfigStatus {}

/// Whether the machine is ready, and if not, why.
#[message]
pub struct MachineReadiness {
    #[field(1)]
    pub ready: bool,
    #[field(2)]
    pub unmet_conditions: Vec<UnmetCondition>,
}

/// One thing that the machine waits for.
#[message]
pub struct UnmetCondition {
    #[field(1)]
    pub name: String,
    #[field(2)]
    pub reason: String,
}

/// What a machine is in its cluster.
#[text_enum(name = "Type")]
pub enum MachineRole {
    #[text(0)]
    Unknown,
    #[text(1)]
    Init,
    #[text(2)]
    ControlPlane,
    #[text(3)]
    Worker,
}

/// A machine's stage of life.
#[text_enum]
pub enum MachineStage {
    #[text(0)]
    Unknown,
    #[text(1)]
    Booting,
    #[text(2)]
    Installing,
    #[text(3)]
    Maintenance,
    #[text(4)]
    Running,
    #[text(5)]
    Rebooting,
    #[text(6, "shutting down")]
    ShuttingDown,
    #[text(7)]
    Resetting,
    #[text(8)]
    Upgrading,
}

/// Whether SELinux is there and enforces.
#[text_enum(name = "SELinuxState")]
pub enum SelinuxState {
    #[text(0)]
    Disabled,
    #[text(1, "enabled, permissive")]
    Permissive,
    #[text(2, "enabled, enforcing")]
    Enforcing,
}

/// Whether cryptography is in FIPS mode.
#[text_enum(name = "FIPSState")]
pub enum FipsState {
    #[text(0)]
    Disabled,
    #[text(1)]
    Enabled,
    #[text(2, "enabled, strict")]
    Strict,
}

/// How far an installation is.
#[text_enum]
pub enum UnattendedInstallPhase {
    #[text(0)]
    Pending,
    #[text(1)]
    Installing,
    #[text(2)]
    Installed,
    #[text(3, "waiting-for-reboot")]
    WaitingForReboot,
    #[text(4)]
    Failed,
}
