//! `health`: is the cluster well, and if not, what is the cause?

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::bail;
use api::health::{self, HealthFinding, HealthReport, State};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::health::{Question, ask, ask_from_here};
use crate::session::Session;

/// Check the cluster's health; a broken one has its verdict within 20 s.
#[derive(Debug, Args)]
pub struct Health {
    /// Addresses of the control planes; by default all that discovery found.
    #[arg(long, value_delimiter = ',')]
    control_plane_nodes: Vec<String>,
    /// Addresses of the workers.
    #[arg(long, value_delimiter = ',')]
    worker_nodes: Vec<String>,
    /// The address of the first control plane: counts as one of --control-plane-nodes.
    #[arg(long)]
    init_node: Option<String>,
    /// The Kubernetes endpoint to use instead of the cluster's own.
    #[arg(long, default_value = "")]
    k8s_endpoint: String,
    /// Not there: Kubernetes' own end-to-end tests run from an image that a cluster without a registry does not have.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    run_e2e: bool,
    /// Check on a control plane; =false asks each node from here, through the endpoints.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    server: bool,
    /// How long to wait for health.
    #[arg(long, default_value = "11s", value_parser = crate::duration)]
    wait_timeout: Duration,
    /// text or json.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

impl Health {
    /// Asks until all is well or the time is over.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        if self.run_e2e {
            bail!(
                "--run-e2e is not there: the tests come in an image that a cluster without a registry does not have; run sonobuoy or hydrophone against the cluster instead"
            );
        }
        let mut control_planes = self.control_plane_nodes;
        control_planes.extend(self.init_node.filter(|node| !control_planes.contains(node)));
        let question = Question { control_planes, workers: self.worker_nodes, endpoint: self.k8s_endpoint, wait: self.wait_timeout };
        let text = self.output == Output::Text;
        let context = session.endpoints()?;
        let report = if self.server {
            ask(&context, &question, &mut |line| {
                if text {
                    println!("{line}");
                }
            })
            .await?
        } else {
            ask_from_here(&context, &question, &mut |line| {
                if text {
                    println!("{line}");
                }
            })
            .await?
        };
        match self.output {
            Output::Text => print!("{}", summary(&report)),
            Output::Json => println!("{:#}", as_json(&report)),
        }
        if health::is_healthy(&report) { Ok(()) } else { bail!("the cluster is not healthy: {}", health::causes(&report)) }
    }
}

/// What failed, check by check, then the causes.
fn summary(report: &HealthReport) -> String {
    let mut text = String::new();
    if health::is_healthy(report) {
        return "the cluster is healthy\n".into();
    }
    // Writing into a string cannot fail.
    let _ = writeln!(text, "\nFAILED CHECKS:");
    for check in report.checks.iter().filter(|c| !health::is_passed(c)) {
        let _ = writeln!(text, "  {}", check.check);
        for failure in &check.failures {
            let _ = writeln!(text, "    {}", said(failure));
            let _ = writeln!(text, "      next: {}", failure.next_step);
        }
    }
    let _ = writeln!(text, "\nCAUSES:");
    for cause in &report.causes {
        let _ = writeln!(text, "  {}", said(cause));
        let _ = writeln!(text, "    next: {}", cause.next_step);
    }
    text
}

fn said(finding: &HealthFinding) -> String {
    match finding.node.as_str() {
        "" => format!("{}: {}", finding.cause, finding.found),
        node => format!("{node}: {}: {}", finding.cause, finding.found),
    }
}

fn as_json(report: &HealthReport) -> Value {
    let finding = |f: &HealthFinding| {
        let node = Some(&f.node).filter(|node| !node.is_empty());
        json!({"node": node, "cause": f.cause, "found": f.found, "nextStep": f.next_step})
    };
    let check = |c: &health::HealthVerdict| {
        let state = match c.state() {
            State::Unknown => "unknown",
            State::Pass => "pass",
            State::Skip => "skip",
            State::Fail => "fail",
        };
        let mut value = json!({"check": c.check, "state": state, "failures": c.failures.iter().map(finding).collect::<Vec<_>>()});
        if !c.reason.is_empty() {
            value["reason"] = json!(c.reason);
        }
        value
    };
    json!({
        "healthy": health::is_healthy(report),
        "causes": report.causes.iter().map(finding).collect::<Vec<_>>(),
        "checks": report.checks.iter().map(check).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use api::health::HealthVerdict;

    use super::*;

    fn broken() -> HealthReport {
        let finding = HealthFinding {
            node: "w-1".into(),
            cause: "disk full".into(),
            found: "0 MiB of 9 MiB left".into(),
            next_step: "free space".into(),
        };
        let failed = HealthVerdict {
            check: "all nodes disk sizes".into(),
            state: State::Fail.into(),
            failures: vec![finding.clone()],
            ..HealthVerdict::default()
        };
        let passed = HealthVerdict { check: "apid to be ready".into(), state: State::Pass.into(), ..HealthVerdict::default() };
        HealthReport { checks: vec![passed, failed], causes: vec![finding] }
    }

    #[test]
    fn each_failure_names_node_check_cause_and_next_step() {
        assert_eq!(
            summary(&broken()),
            "\nFAILED CHECKS:\n  all nodes disk sizes\n    w-1: disk full: 0 MiB of 9 MiB left\n      next: free space\n\n\
             CAUSES:\n  w-1: disk full: 0 MiB of 9 MiB left\n    next: free space\n"
        );
    }

    #[test]
    fn json_says_the_same() {
        let value = as_json(&broken());
        assert_eq!(value["healthy"], false);
        assert_eq!(value["causes"][0]["cause"], "disk full");
        assert_eq!(value["checks"][0]["state"], "pass");
        assert_eq!(value["checks"][1]["failures"][0]["nextStep"], "free space");
    }
}
