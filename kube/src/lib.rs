//! The Kubernetes room: etcd, control plane, kubelet, manifests.
//!
//! Two layers. Pure functions say what should be: arguments, pod manifests, configuration files,
//! certificates' subjects, the next step of a membership sequence.
//! Thin controllers read resources, call them, and write resources, files and Kubernetes objects.
//! etcd and the kubelet run as containers of the service supervisor, which this crate does not
//! know: it writes a service specification and reads a status.

pub mod args;
pub mod configure;
pub mod control_plane;
pub mod controllers;
pub mod etcd;
pub mod files;
pub mod kubeconfig;
pub mod kubelet;
pub mod manifests;
pub mod objects;
pub mod paths;
pub mod static_pods;
pub mod subnets;
pub mod yaml;
