//! Rules of the documents about Kubernetes.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::root::{PROTECTED_KUBELET, ROLES, denied_args};
use super::{Report, dns_name};
use crate::config::docs::kube::{AuthorizerType, KubeNetworkConfig, KubeNodeConfig, ProxyMode, Resources};
use crate::config::documents::Document;

/// Supported minor versions of Kubernetes.
const SUPPORTED: std::ops::RangeInclusive<u32> = 33..=38;

/// Arguments of kube-apiserver that have documents of their own.
const API_SERVER_DENIED: [&str; 6] =
    ["anonymous-auth", "oidc-", "authentication-config", "authorization-config", "authorization-mode", "authorization-webhook-"];

pub(super) fn check(document: &Document, report: &mut Report<'_>) {
    match document {
        Document::KubeNetwork(c) => network(c, report),
        Document::KubeApiServer(c) => {
            image(&c.image, report);
            denied_args("extraArgs", &c.extra_args, &API_SERVER_DENIED, report);
            resources(c.resources.as_ref(), report);
            report.require(c.api_port != Some(0), "apiPort", "0", "a port from 1 to 65535");
        }
        Document::KubeControllerManager(c) if c.enabled != Some(false) => {
            image(&c.image, report);
            resources(c.resources.as_ref(), report);
        }
        Document::KubeScheduler(c) if c.enabled != Some(false) => {
            image(&c.image, report);
            resources(c.resources.as_ref(), report);
        }
        Document::KubeProxy(c) if c.enabled != Some(false) => {
            image(&c.image, report);
            resources(c.resources.as_ref(), report);
            if matches!(c.mode, Some(ProxyMode::Iptables | ProxyMode::Ipvs)) {
                report.warning("mode", format!("`{}`", c.mode.map_or("", ProxyMode::as_str)), "nftables, which is faster and here to stay");
            }
            if !c.extra_args.is_empty() {
                report.warning("extraArgs", "arguments", "the same settings in `config`: arguments are on their way out");
            }
        }
        Document::Kubelet(c) => {
            image(&c.image, report);
            for key in c.config.keys().filter(|k| PROTECTED_KUBELET.contains(&k.as_str())) {
                report.error(format!("config.{key}"), format!("`{key}`"), "another field: this one is set by the machine itself");
            }
        }
        Document::KubeNode(c) => node(c, report),
        Document::KubeAuthorizer(c) => {
            let webhook = c.type_ == Some(AuthorizerType::Webhook);
            report.require(!webhook || !c.webhook.is_empty(), "webhook", "nothing", "the settings of the webhook");
            if !webhook && !c.webhook.is_empty() {
                report.warning("webhook", "settings of a webhook", "them with `type: Webhook` only; here they do nothing");
            }
        }
        Document::KubeEtcdEncryption(c) => {
            report.require(!c.config.is_empty(), "config", "nothing", "the body of an EncryptionConfiguration (resources)");
        }
        Document::KubePrism(c) => report.require(c.port != Some(0), "port", "0", "a port from 1 to 65535"),
        Document::KubeStaticPod(c) => named(&c.name, report),
        Document::KubeInlineManifest(c) => named(&c.name, report),
        Document::KubeExternalManifest(c) => {
            named(&c.name, report);
            let scheme = c.url.as_ref().map(|u| u.scheme()).unwrap_or_default();
            report.require(matches!(scheme.as_str(), "http" | "https"), "url", format!("the scheme `{scheme}`"), "http or https");
        }
        Document::KubeTalosApiAccess(c) => {
            for (i, role) in c.allowed_roles.iter().enumerate() {
                let expected = format!("one of {}", ROLES.join(", "));
                report.require(ROLES.contains(&role.as_str()), format!("allowedRoles[{i}]"), format!("`{role}`"), expected);
            }
        }
        _ => {}
    }
}

fn named(name: &str, report: &mut Report<'_>) {
    report.require(dns_name(name), "name", format!("`{name}`"), "lower-case letters, digits, `-` and `.`, as in a DNS name");
}

/// The version of an image must be one that this version of the machine supports.
fn image(image: &str, report: &mut Report<'_>) {
    if report.options.local {
        return;
    }
    let reference = image.split('@').next().unwrap_or_default();
    let Some((_, tag)) = reference.rsplit_once(":v") else {
        if !image.contains('@') {
            report.error("image", format!("`{image}`, which has no version"), "a tag such as :v1.37.1");
        }
        return;
    };
    let mut parts = tag.split('.');
    let major: Option<u32> = parts.next().and_then(|p| p.parse().ok());
    let minor: Option<u32> = parts.next().and_then(|p| p.parse().ok());
    let fine = major == Some(1) && minor.is_some_and(|m| SUPPORTED.contains(&m));
    let expected = format!("Kubernetes 1.{} to 1.{}", SUPPORTED.start(), SUPPORTED.end());
    report.require(fine, "image", format!("version `v{tag}`"), expected);
}

fn resources(resources: Option<&Resources>, report: &mut Report<'_>) {
    let Some(resources) = resources else { return };
    for (section, map) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        for key in map.keys().filter(|k| !matches!(k.as_str(), "cpu" | "memory")) {
            report.error(format!("resources.{section}.{key}"), format!("`{key}`"), "cpu or memory");
        }
    }
}

fn network(c: &KubeNetworkConfig, report: &mut Report<'_>) {
    report.require(
        c.dns_domain.is_empty() || dns_name(&c.dns_domain),
        "dnsDomain",
        format!("`{}`", c.dns_domain),
        "a DNS domain such as cluster.local",
    );
    report.require(
        c.pod_subnets.len() == c.service_subnets.len(),
        "serviceSubnets",
        format!("{} service networks for {} pod networks", c.service_subnets.len(), c.pod_subnets.len()),
        "as many of one as of the other",
    );
    for (key, nets) in [("podSubnets", &c.pod_subnets), ("serviceSubnets", &c.service_subnets)] {
        for v4 in [true, false] {
            let count = nets.iter().filter(|n| matches!(n, IpNet::V4(_)) == v4).count();
            report.require(count <= 1, key, format!("{count} networks of one family"), "at most one for IPv4 and one for IPv6");
        }
        for (i, net) in nets.iter().enumerate() {
            let path = format!("{key}[{i}]");
            report.require(net.addr() == net.network(), &path, format!("`{net}`, which has host bits"), format!("`{}`", net.trunc()));
            let host = net.max_prefix_len() - net.prefix_len();
            report.require(host >= 4, &path, format!("`{net}`"), "at least 16 addresses");
            report.require(key == "podSubnets" || host <= 20, &path, format!("`{net}`"), "at most 2^20 addresses");
        }
    }
    let masks = [
        ("nodeCIDRMaskSizeIPv4", true, c.node_cidr_mask_size_ipv4, 32, 24),
        ("nodeCIDRMaskSizeIPv6", false, c.node_cidr_mask_size_ipv6, 128, 64),
    ];
    for (key, v4, mask, longest, default) in masks {
        report.require(mask.is_none_or(|m| (1..=longest).contains(&m)), key, format!("{}", mask.unwrap_or(0)), format!("1 to {longest}"));
        let Some(net) = c.pod_subnets.iter().find(|n| matches!(n, IpNet::V4(_)) == v4) else { continue };
        let mask = mask.unwrap_or(default);
        let fine = mask >= net.prefix_len() && mask - net.prefix_len() <= 16;
        let expected = format!(
            "a prefix length from {} to {}, for the pod network {net}",
            net.prefix_len(),
            net.prefix_len().saturating_add(16).min(longest)
        );
        report.require(fine, key, format!("{mask}"), expected);
    }
}

fn node(c: &KubeNodeConfig, report: &mut Report<'_>) {
    for (key, map) in [("labels", &c.labels), ("annotations", &c.annotations), ("taints", &c.taints)] {
        keys(key, map, report);
    }
    for (name, value) in &c.labels {
        report.require(
            label_value(value),
            format!("labels[\"{name}\"]"),
            format!("`{value}`"),
            "at most 63 letters, digits, `-`, `_` and `.`",
        );
    }
    for (name, value) in &c.taints {
        let (value, effect) = value.rsplit_once(':').unwrap_or(("", value));
        let fine = label_value(value) && matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute");
        report.require(
            fine,
            format!("taints[\"{name}\"]"),
            format!("`{effect}`"),
            "`[value:]Effect` with NoSchedule, PreferNoSchedule or NoExecute",
        );
    }
}

/// Names of labels and the like: an optional DNS prefix with `/`, then at most 63 letters, digits, `-`, `_`, `.`.
fn keys(path: &str, map: &BTreeMap<String, String>, report: &mut Report<'_>) {
    for key in map.keys() {
        let (prefix, name) = key.split_once('/').unwrap_or(("", key));
        let fine =
            (prefix.is_empty() != key.contains('/')) && (prefix.is_empty() || dns_name(prefix)) && !name.is_empty() && label_value(name);
        report.require(fine, format!("{path}[\"{key}\"]"), format!("the name `{key}`"), "a name such as example.org/name");
    }
}

fn label_value(value: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && edge(value.chars().next())
        && edge(value.chars().next_back())
}
