//! Containers that the machine configuration asks for.

use resource::{message, resource, text_enum};

/// A container that shall run.
#[resource(
    type = "ContainerSpecs.containers.talos.dev",
    namespace = "containers",
    columns("Image" = "{.image.ref}")
)]
pub struct ContainerSpec {
    #[field(1)]
    pub image: ContainerImageSpec,
    #[field(2, omit_empty)]
    pub entrypoint: Vec<String>,
    #[field(3, omit_empty)]
    pub args: Vec<String>,
    #[field(4, omit_empty)]
    pub working_dir: String,
    #[field(5, omit_empty)]
    pub run_as: ContainerRunAsSpec,
    #[field(6, omit_empty)]
    pub environment: Vec<String>,
    #[field(7, omit_empty)]
    pub mounts: Vec<ContainerMountSpec>,
    #[field(8, omit_empty)]
    pub security: ContainerSecuritySpec,
    #[field(9, omit_empty)]
    pub network: ContainerNetworkSpec,
    #[field(10, omit_empty)]
    pub resources: ContainerResourcesSpec,
    #[field(11, omit_empty)]
    pub depends_on: ContainerDependsOnSpec,
}

/// How far a container's image is.
#[resource(
    type = "ContainerImageStatuses.containers.talos.dev",
    namespace = "containers",
    columns("Phase" = "{.phase}", "Digest" = "{.digest}")
)]
pub struct ContainerImageStatus {
    #[field(1)]
    pub phase: ContainerImagePhase,
    #[field(2)]
    pub image: String,
    #[field(3, omit_empty)]
    pub digest: String,
    #[field(4, omit_empty)]
    pub error: String,
}

/// A container with everything resolved that its specification leaves open.
#[resource(
    type = "ContainerInstanceSpecs.containers.talos.dev",
    namespace = "containers",
    columns("Container" = "{.containerID}", "Generation" = "{.generation}", "Image" = "{.image}")
)]
pub struct ContainerInstanceSpec {
    #[field(1, yaml = "containerID")]
    pub container_id: String,
    #[field(2)]
    pub generation: u64,
    #[field(3)]
    pub image: String,
    #[field(4, omit_empty)]
    pub entrypoint: Vec<String>,
    #[field(5, omit_empty)]
    pub args: Vec<String>,
    #[field(6, omit_empty)]
    pub working_dir: String,
    #[field(7, omit_empty)]
    pub run_as: ContainerRunAsSpec,
    #[field(8, omit_empty)]
    pub environment: Vec<String>,
    #[field(9, omit_empty)]
    pub mounts: Vec<ResolvedMountSpec>,
    #[field(10, omit_empty)]
    pub security: ContainerSecuritySpec,
    #[field(11, omit_empty)]
    pub network: ContainerNetworkSpec,
    #[field(12, omit_empty)]
    pub resources: ContainerResourcesSpec,
}

/// The image of a container.
#[message]
pub struct ContainerImageSpec {
    #[field(1, yaml = "ref", omit_empty)]
    pub reference: String,
}

/// User and group of a container.
#[message]
pub struct ContainerRunAsSpec {
    #[field(1, omit_empty)]
    pub uid: Option<i32>,
    #[field(2, omit_empty)]
    pub gid: Option<i32>,
}

/// A mount of a container, as configured.
#[message]
pub struct ContainerMountSpec {
    #[field(1)]
    pub kind: String,
    #[field(2, yaml = "volumeID", omit_empty)]
    pub volume_id: String,
    #[field(3, omit_empty)]
    pub source: String,
    #[field(4)]
    pub destination: String,
    #[field(5, omit_empty)]
    pub size: u64,
    #[field(6, omit_empty)]
    pub options: Vec<String>,
}

/// A mount of a container, resolved.
#[message]
pub struct ResolvedMountSpec {
    #[field(1)]
    pub kind: String,
    #[field(2, omit_empty)]
    pub source: String,
    #[field(3)]
    pub destination: String,
    #[field(4, omit_empty)]
    pub size: u64,
    #[field(5, omit_empty)]
    pub options: Vec<String>,
}

/// Privileges of a container.
#[message]
pub struct ContainerSecuritySpec {
    #[field(1, omit_empty)]
    pub privileged: bool,
    #[field(2, omit_empty)]
    pub capabilities_add: Vec<String>,
    #[field(3, omit_empty)]
    pub capabilities_drop: Vec<String>,
}

/// The network of a container.
#[message]
pub struct ContainerNetworkSpec {
    #[field(1, omit_empty)]
    pub host_network: bool,
}

/// Limits of a container.
#[message]
pub struct ContainerResourcesSpec {
    #[field(1, omit_empty)]
    pub memory_limit: u64,
    #[field(2, omit_empty)]
    pub cpu_limit: u64,
}

/// What a container waits for.
#[message]
pub struct ContainerDependsOnSpec {
    #[field(1, omit_empty)]
    pub paths: Vec<String>,
    #[field(2, omit_empty)]
    pub networks: Vec<String>,
    #[field(3, omit_empty)]
    pub time: bool,
    #[field(4, omit_empty)]
    pub containers: Vec<String>,
}

/// How far an image is.
#[text_enum]
pub enum ContainerImagePhase {
    #[text(0)]
    Pending,
    #[text(1)]
    Pulling,
    #[text(2)]
    Ready,
    #[text(3)]
    Failed,
}
