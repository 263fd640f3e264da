//! Rules of the root document.

use std::collections::BTreeSet;

use super::{Mode, Report, dns_name};
use crate::config::docs::kube::ExtraArgs;
use crate::config::legacy::devices::{Bond, Device, Network};
use crate::config::legacy::root::{Cluster, CniName, Install, LegacyEncryption, Machine, Root};
use crate::config::machine::MachineType;
use crate::config::types::{Url, pem};

/// Roles that pods may be given.
pub(super) const ROLES: [&str; 6] = ["os:admin", "os:operator", "os:reader", "os:etcd:backup", "os:meta:writer", "os:image:verifier"];

/// Fields of the kubelet's configuration that the machine sets itself: a configuration may not.
pub const PROTECTED_KUBELET: [&str; 13] = [
    "apiVersion",
    "kind",
    "authentication",
    "authorization",
    "cgroupRoot",
    "kubeletCgroups",
    "systemCgroups",
    "port",
    "protectKernelDefaults",
    "resolvConf",
    "rotateCertificates",
    "staticPodPath",
    "seccompDefault",
];

/// Checks the root document.
pub(super) fn check(root: &Root, mode: Mode, report: &mut Report<'_>) {
    if root.version.is_none() {
        report.error("version", "nothing", "`version: v1alpha1`");
    }
    if root.persist == Some(false) {
        report.error("persist", "`false`", "`true`: a machine always keeps its configuration");
    }
    let Some(machine) = &root.machine else {
        report.error("machine", "nothing", "the section about this machine");
        return;
    };
    let Some(cluster) = &root.cluster else {
        report.error("cluster", "nothing", "the section about the cluster");
        return;
    };
    let Some(machine_type) = MachineType::parse(&machine.type_) else {
        let near = crate::config::nearest(&machine.type_, ["controlplane", "worker"]);
        let expected = near.map_or("controlplane or worker".to_owned(), |n| format!("controlplane or worker; did you mean `{n}`?"));
        report.error("machine.type", format!("`{}`", machine.type_), expected);
        return;
    };
    if matches!(machine.type_.as_str(), "join" | "") {
        report.warning("machine.type", if machine.type_.is_empty() { "nothing" } else { "`join`" }, "`worker`, which is what it means");
    }
    authorities(machine, cluster, machine_type, report);
    pem_rules(machine, cluster, report);
    machine_rules(machine, mode, report);
    if let Some(network) = &machine.network {
        network_rules(network, machine_type, report);
    }
    cluster_rules(cluster, machine_type, report);
}

fn authorities(machine: &Machine, cluster: &Cluster, machine_type: MachineType, report: &mut Report<'_>) {
    let (has_cert, has_key) = machine.ca.as_ref().map_or((false, false), |ca| (!ca.crt.is_empty(), !ca.key.is_empty()));
    if machine_type.is_control_plane() {
        report.require(
            has_cert && has_key,
            "machine.ca",
            if has_cert { "a certificate without its key" } else { "nothing" },
            "the authority of the machine API with its key (crt and key): control planes issue certificates",
        );
        return;
    }
    report.require(!has_key, "machine.ca.key", "the key of the authority on a worker", "no key: only control planes issue certificates");
    report.require(
        has_cert || !machine.accepted_cas.is_empty(),
        "machine.ca",
        "nothing",
        "machine.ca.crt or machine.acceptedCAs: how a worker knows the cluster",
    );
    report.require(
        cluster.ca.as_ref().is_none_or(|ca| ca.key.is_empty()),
        "cluster.ca.key",
        "the key of the Kubernetes authority on a worker",
        "no key",
    );
    report.require(cluster.etcd.is_none(), "cluster.etcd", "settings of etcd on a worker", "this section on control planes only");
}

/// Certificates and keys are at least whole.
fn pem_rules(machine: &Machine, cluster: &Cluster, report: &mut Report<'_>) {
    let mut check = |path: String, text: &str, label: &str, what: &str| {
        if let (false, Err(found)) = (text.is_empty(), pem::check_base64(text, label)) {
            report.error(path, found, format!("{what}, PEM in base64, whole"));
        }
    };
    let pairs = [
        ("machine.ca", machine.ca.as_ref()),
        ("cluster.ca", cluster.ca.as_ref()),
        ("cluster.aggregatorCA", cluster.aggregator_ca.as_ref()),
        ("cluster.etcd.ca", cluster.etcd.as_ref().and_then(|e| e.ca.as_ref())),
    ];
    for (path, pair) in pairs.into_iter().filter_map(|(path, pair)| Some((path, pair?))) {
        check(format!("{path}.crt"), &pair.crt, "CERTIFICATE", "a certificate");
        check(format!("{path}.key"), pair.key.expose(), "PRIVATE KEY", "a private key");
    }
    for (path, list) in [("machine.acceptedCAs", &machine.accepted_cas), ("cluster.acceptedCAs", &cluster.accepted_cas)] {
        list.iter().enumerate().for_each(|(i, cert)| check(format!("{path}[{i}].crt"), &cert.crt, "CERTIFICATE", "a certificate"));
    }
    if let Some(account) = &cluster.service_account {
        check("cluster.serviceAccount.key".into(), account.key.expose(), "PRIVATE KEY", "a private key");
    }
}

fn machine_rules(machine: &Machine, mode: Mode, report: &mut Report<'_>) {
    if let Some(install) = machine.install.as_ref().filter(|_| mode == Mode::Metal) {
        install_rules(install, report);
    }
    if let Some(kubelet) = &machine.kubelet {
        for key in kubelet.extra_config.keys().filter(|k| PROTECTED_KUBELET.contains(&k.as_str())) {
            report.error(
                format!("machine.kubelet.extraConfig.{key}"),
                format!("`{key}`"),
                "another field: this one is set by the machine itself",
            );
        }
    }
    for (i, disk) in machine.disks.iter().enumerate() {
        let last = disk.partitions.len().saturating_sub(1);
        for (j, partition) in disk.partitions.iter().enumerate() {
            let sized = partition.size.as_ref().is_some_and(|s| s.bytes() > 0);
            report.require(
                sized || j == last,
                format!("machine.disks[{i}].partitions[{j}].size"),
                "no size",
                "a size: only the last partition may take the rest",
            );
        }
    }
    if let Some(encryption) = &machine.system_disk_encryption {
        for (name, settings) in [("state", &encryption.state), ("ephemeral", &encryption.ephemeral)] {
            if let Some(settings) = settings {
                encryption_rules(&format!("machine.systemDiskEncryption.{name}"), settings, report);
            }
        }
    }
    let Some(features) = &machine.features else { return };
    if let Some(dns) = &features.host_dns {
        let fine = dns.forward_kube_dns_to_host != Some(true) || dns.enabled == Some(true);
        report.require(fine, "machine.features.hostDNS.forwardKubeDNSToHost", "`true` while hostDNS is off", "`enabled: true` beside it");
    }
    if let Some(access) = features.kubernetes_talos_api_access.as_ref().filter(|a| a.enabled == Some(true)) {
        let path = "machine.features.kubernetesTalosAPIAccess";
        report.require(
            MachineType::parse(&machine.type_).is_some_and(MachineType::is_control_plane),
            path,
            "machine API for pods on a worker",
            "this feature on control planes only",
        );
        for (i, role) in access.allowed_roles.iter().enumerate() {
            report.require(
                ROLES.contains(&role.as_str()),
                format!("{path}.allowedRoles[{i}]"),
                format!("`{role}`"),
                format!("one of {}", ROLES.join(", ")),
            );
        }
    }
}

fn install_rules(install: &Install, report: &mut Report<'_>) {
    let chosen = !install.disk.is_empty() || install.disk_selector.is_some();
    report.require(chosen, "machine.install", "neither disk nor diskSelector", "one of them: where to install");
    let exclusive = install.extra_kernel_args.is_empty() || install.grub_use_uki_cmdline != Some(true);
    report.require(
        exclusive,
        "machine.install.extraKernelArgs",
        "extra kernel arguments with grubUseUKICmdline",
        "one of them: the UKI brings its own arguments",
    );
    let mut images = BTreeSet::new();
    for (i, extension) in install.extensions.iter().enumerate() {
        report.require(
            images.insert(&extension.image),
            format!("machine.install.extensions[{i}]"),
            format!("`{}` a second time", extension.image),
            "each extension once",
        );
    }
    if !install.extensions.is_empty() {
        report.warning("machine.install.extensions", "extensions installed at install time", "an installer image that holds them");
    }
}

fn encryption_rules(path: &str, settings: &LegacyEncryption, report: &mut Report<'_>) {
    report.require(!settings.keys.is_empty(), format!("{path}.keys"), "no keys", "at least one");
    let mut slots = BTreeSet::new();
    for (i, key) in settings.keys.iter().enumerate() {
        let at = format!("{path}.keys[{i}]");
        report.require(
            slots.insert(key.slot.unwrap_or(0)),
            format!("{at}.slot"),
            format!("slot {} a second time", key.slot.unwrap_or(0)),
            "a slot for each key",
        );
        let kinds = [key.static_.is_some(), key.node_id.is_some(), key.kms.is_some(), key.tpm.is_some()].iter().filter(|k| **k).count();
        report.require(kinds == 1, at, format!("{kinds} kinds of key"), "exactly one of nodeID, static, kms, tpm");
    }
}

fn network_rules(network: &Network, machine_type: MachineType, report: &mut Report<'_>) {
    if let Some(span) = &network.kubespan {
        report.require(
            span.mtu.is_none_or(|m| m >= 1280),
            "machine.network.kubespan.mtu",
            format!("{}", span.mtu.unwrap_or(0)),
            "at least 1280",
        );
    }
    let devices = network.interfaces.as_deref().unwrap_or_default();
    let mut owners: Vec<(String, String)> = Vec::new();
    for (i, device) in devices.iter().enumerate() {
        let path = format!("machine.network.interfaces[{i}]");
        device_rules(&path, device, machine_type, report);
        let members = device.bond.iter().flat_map(|b| &b.interfaces).chain(device.bridge.iter().flat_map(|b| &b.interfaces));
        for member in members {
            if let Some((_, other)) = owners.iter().find(|(m, _)| m == member) {
                report.error(&path, format!("`{member}`, which belongs to {other} already"), "each link in one bond or bridge");
            }
            let addressed =
                devices.iter().any(|d| d.interface == *member && (!d.addresses.is_empty() || d.cidr.is_some() || d.dhcp == Some(true)));
            report.require(
                !addressed,
                &path,
                format!("`{member}`, which has addresses of its own"),
                "members of bonds and bridges without addresses",
            );
            owners.push((member.clone(), device.interface.clone()));
        }
    }
}

fn device_rules(path: &str, device: &Device, machine_type: MachineType, report: &mut Report<'_>) {
    let (named, selected) = (!device.interface.is_empty(), device.device_selector.is_some());
    let found = if named { "both interface and deviceSelector" } else { "neither interface nor deviceSelector" };
    report.require(named != selected, path, found, "exactly one of them: which link this is about");
    if device.device_selector.as_ref().is_some_and(|s| *s == Default::default()) {
        report.error(format!("{path}.deviceSelector"), "an empty selector", "at least one condition");
    }
    report.require(device.bond.is_none() || device.bridge.is_none(), path, "both a bond and a bridge", "one of them");
    if device.cidr.is_some() {
        report.require(device.addresses.is_empty(), format!("{path}.cidr"), "both cidr and addresses", "addresses only");
        report.warning(format!("{path}.cidr"), "`cidr`", "`addresses`, which may hold several");
    }
    for (j, route) in device.routes.iter().enumerate() {
        report.require(
            route.network.is_some() || route.gateway.is_some(),
            format!("{path}.routes[{j}]"),
            "neither network nor gateway",
            "one of them at least",
        );
    }
    let vips = device.vip.is_some() || device.vlans.iter().any(|v| v.vip.is_some());
    report.require(
        !vips || machine_type.is_control_plane(),
        format!("{path}.vip"),
        "a shared address on a worker",
        "shared addresses on control planes only",
    );
    if let Some(bond) = &device.bond {
        bond_rules(&format!("{path}.bond"), bond, report);
    }
}

fn bond_rules(path: &str, bond: &Bond, report: &mut Report<'_>) {
    let words: [(&str, &str, &[&str]); 9] = [
        ("mode", &bond.mode, &["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"]),
        ("xmitHashPolicy", &bond.xmit_hash_policy, &["layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"]),
        ("lacpRate", &bond.lacp_rate, &["slow", "fast"]),
        ("arpValidate", &bond.arp_validate, &["none", "active", "backup", "all", "filter", "filter-active", "filter-backup"]),
        ("arpAllTargets", &bond.arp_all_targets, &["any", "all"]),
        ("primaryReselect", &bond.primary_reselect, &["always", "better", "failure"]),
        ("failOverMac", &bond.fail_over_mac, &["none", "active", "follow"]),
        ("adSelect", &bond.ad_select, &["stable", "bandwidth", "count"]),
        ("adActorSystem", &bond.ad_actor_system, &[]),
    ];
    for (key, word, known) in words {
        let expected = if known.is_empty() { "nothing: it is not supported".to_owned() } else { format!("one of {}", known.join(", ")) };
        report.require(word.is_empty() || known.contains(&word), format!("{path}.{key}"), format!("`{word}`"), expected);
    }
    report.require(bond.arp_ip_target.is_empty(), format!("{path}.arpIPTarget"), "targets", "nothing: it is not supported");
    let mode = bond.mode.as_str();
    let lacp_only = [
        ("lacpRate", !bond.lacp_rate.is_empty()),
        ("adActorSysPrio", bond.ad_actor_sys_prio.is_some()),
        ("adUserPortKey", bond.ad_user_port_key.is_some()),
    ];
    for (key, set) in lacp_only {
        report.require(!set || mode == "802.3ad", format!("{path}.{key}"), format!("`{key}` in mode {mode}"), "mode 802.3ad");
    }
    let no_arp = matches!(mode, "802.3ad" | "balance-tlb" | "balance-alb");
    report.require(!no_arp || bond.arp_interval.is_none(), format!("{path}.arpInterval"), format!("ARP checks in mode {mode}"), "miimon");
    let primary = matches!(mode, "active-backup" | "balance-tlb" | "balance-alb");
    report.require(
        primary || bond.primary.is_empty(),
        format!("{path}.primary"),
        format!("a preferred member in mode {mode}"),
        "mode active-backup, balance-tlb or balance-alb",
    );
    let rr = mode == "balance-rr" || bond.packets_per_slave.is_none_or(|n| n <= 1);
    report.require(rr, format!("{path}.packetsPerSlave"), format!("several packets per member in mode {mode}"), "mode balance-rr");
    for (key, delay) in [("updelay", bond.updelay), ("downdelay", bond.downdelay)] {
        let Some(delay) = delay.filter(|d| *d > 0) else { continue };
        let fine = bond.miimon.is_some_and(|m| m > 0 && delay % m == 0);
        report.require(fine, format!("{path}.{key}"), format!("{delay}"), "a multiple of miimon");
    }
}

fn cluster_rules(cluster: &Cluster, machine_type: MachineType, report: &mut Report<'_>) {
    if let Some(plane) = &cluster.control_plane {
        report.require(plane.endpoint.is_some(), "cluster.controlPlane.endpoint", "nothing", "the URL of the Kubernetes API");
    }
    if let Some(network) = &cluster.network {
        let domain = &network.dns_domain;
        report.require(
            domain.is_empty() || dns_name(domain),
            "cluster.network.dnsDomain",
            format!("`{domain}`"),
            "a DNS domain such as cluster.local",
        );
        if let Some(cni) = &network.cni {
            let custom = cni.name == Some(CniName::Custom);
            report.require(
                !custom || !cni.urls.is_empty(),
                "cluster.network.cni.urls",
                "nothing",
                "the manifests of the custom pod network",
            );
            report.require(custom || cni.urls.is_empty(), "cluster.network.cni.urls", "manifests", "them with `name: custom` only");
            let flannel = cni.flannel.is_none() || matches!(cni.name, None | Some(CniName::Flannel));
            report.require(flannel, "cluster.network.cni.flannel", "settings of flannel", "them with `name: flannel` only");
        }
    }
    if let Some(cloud) = &cluster.external_cloud_provider {
        let fine = cloud.enabled == Some(true) || cloud.manifests.is_empty();
        report.require(
            fine,
            "cluster.externalCloudProvider.manifests",
            "manifests of a cloud provider that is off",
            "`enabled: true`, or no manifests",
        );
    }
    if machine_type.is_control_plane() {
        let etcd = cluster.etcd.clone().unwrap_or_default();
        let ca = etcd.ca.as_ref().is_some_and(|ca| !ca.crt.is_empty() && !ca.key.is_empty());
        report.require(ca, "cluster.etcd.ca", "nothing", "the authority of etcd with its key (crt and key)");
        let both = etcd.subnet.is_some() && !etcd.advertised_subnets.is_empty();
        report.require(!both, "cluster.etcd.subnet", "both subnet and advertisedSubnets", "advertisedSubnets only");
    }
    manifests(cluster, report);
    let endpoint =
        cluster.discovery.as_ref().and_then(|d| d.registries.as_ref()).and_then(|r| r.service.as_ref()).and_then(|s| s.endpoint.as_ref());
    if let Some(url) = endpoint {
        let fine = matches!(url.path(), "" | "/");
        report.require(fine, "cluster.discovery.registries.service.endpoint", format!("the path `{}`", url.path()), "a URL without a path");
    }
    if let Some(server) = &cluster.api_server {
        denied_args("cluster.apiServer.extraArgs", &server.extra_args, &["authorization-config"], report);
    }
}

fn manifests(cluster: &Cluster, report: &mut Report<'_>) {
    let mut names = BTreeSet::new();
    for (i, manifest) in cluster.inline_manifests.iter().flatten().enumerate() {
        let path = format!("cluster.inlineManifests[{i}].name");
        report.require(!manifest.name.is_empty(), &path, "nothing", "a name");
        report.require(names.insert(&manifest.name), &path, format!("`{}` a second time", manifest.name), "another name");
    }
    for (i, url) in cluster.extra_manifests.iter().flatten().enumerate() {
        if let Err(why) = Url::new(url.as_str()) {
            report.error(format!("cluster.extraManifests[{i}]"), format!("`{url}` ({why})"), "a URL");
        }
    }
}

/// Arguments that the machine sets itself.
pub(super) fn denied_args(path: &str, args: &ExtraArgs, denied: &[&str], report: &mut Report<'_>) {
    for name in args.keys() {
        if denied.iter().any(|d| if d.ends_with('-') { name.starts_with(d) } else { name == d }) {
            report.error(
                format!("{path}.{name}"),
                format!("the argument `{name}`"),
                "another: this one is set by the machine itself, from documents of its own",
            );
        }
    }
}
