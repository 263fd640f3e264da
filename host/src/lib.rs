//! The host room: services, files, logs, the container runtime, platforms.

pub mod acquire;
pub mod containerd;
pub mod cri;
pub mod files;
pub mod kernel_params;
pub mod logger;
pub mod logs;
pub mod machine_status;
pub mod node_services;
pub mod service;
