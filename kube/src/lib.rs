//! The Kubernetes room: etcd, control plane, kubelet, manifests.
