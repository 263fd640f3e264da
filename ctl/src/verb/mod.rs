//! The verbs, one file each. A verb is its arguments and a `run`.

pub mod apply_config;
pub mod bootstrap;
pub mod cluster;
pub mod completion;
pub mod config;
pub mod containers;
pub mod dmesg;
pub mod etcd;
pub mod forget;
pub mod r#gen;
pub mod get;
pub mod health;
pub mod kubeconfig;
pub mod lifecycle;
pub mod logs;
pub mod memory;
pub mod processes;
pub mod service;
pub mod stats;
pub mod time;
pub mod validate;
pub mod version;
