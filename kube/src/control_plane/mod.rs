//! The control plane as static pods: arguments, configuration files and pod manifests of
//! kube-apiserver, kube-controller-manager and kube-scheduler.
//!
//! Pure: resources in, JSON out. Who writes the files and serves the pods: `controllers`.

pub mod apiserver;
pub mod controller_manager;
pub mod files;
pub mod pod;
pub mod scheduler;
