//! Is the cluster well, and if not, what is the cause?
//!
//! Pure: facts gathered from nodes and from Kubernetes go in ([`facts`]), one verdict per check
//! comes out ([`checks`]), and behind the failures the causes ([`causes`]). One fault makes many
//! checks fail: a vanished machine is an etcd member short, a node not ready and pods missing. So a
//! failure names the cause it follows from, and the summary lists causes, not symptoms.
//!
//! Gathering is the caller's, in parallel, each question with a deadline; a question that was not
//! answered is a fact too ([`facts::Reach`]), so there is always a verdict.

pub mod causes;
pub mod checks;
pub mod facts;
pub mod kubernetes;

pub use causes::{Cause, Diagnosis, causes};
pub use checks::{Check, Failure, Verdict, check, check_all, is_healthy, summary};
pub use facts::{ClusterFacts, KubeFacts, NodeFacts, Reach, Role};

#[cfg(test)]
mod tests;
