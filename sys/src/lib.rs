//! Linux, behind safe functions. The only crate that may hold unsafe code.
//!
//! It knows the kernel and nothing of Orlop: no paths of ours, no policy, no async runtime. Each module is one door:
//!
//! | module | door to |
//! |---|---|
//! | [`spawn`], [`process`] | starting, signalling, waiting for and naming processes |
//! | [`ns`] | namespaces |
//! | [`mount`], [`image`] | mounts as data; images mounted from files |
//! | [`cgroup`], [`device`] | control groups, with the layout (v1 or v2) as data; keeping them away from disks |
//! | [`caps`], [`sandbox`], [`seccomp`] | giving up rights |
//! | [`netlink`] | links, addresses and routes, blocking |
//! | [`poll`], [`signals`], [`seqpacket`], [`inotify`] | waiting and talking without an async runtime |
//! | [`host`], [`power`] | host name, sysctls, limits, reboot |
//!
//! `unsafe` stands only where the kernel's interface has no safe wrapper; every site says why it is needed and why it is sound.

#![allow(unsafe_code, reason = "this crate is the one door to the kernel; every site is argued")]

mod error;

pub mod caps;
pub mod cgroup;
pub mod device;
pub mod host;
pub mod image;
pub mod inotify;
pub mod mount;
pub mod netlink;
pub mod ns;
pub mod poll;
pub mod power;
pub mod process;
pub mod sandbox;
pub mod seccomp;
pub mod seqpacket;
pub mod signals;
pub mod spawn;

pub use error::{Error, Result};
pub use nix::sys::signal::Signal;
