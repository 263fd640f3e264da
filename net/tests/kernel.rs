//! The room against a real kernel, in a network namespace of the test's own: needs root, and skips with a reason without it.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use engine::{Runtime, Store};
use model::host::{EtcFileStatus, MachineConfig};
use model::net::{AddressStatus, HostDnsConfig, LinkFlags, LinkStatus, NetworkStatus, NodeAddress, RouteStatus};
use net::Room;
use net::hands::Hands;
use net::kernel::{Change, Kernel, RoutePlan, Rtnetlink};
use std::sync::Arc;

/// Moves this thread into a new network namespace; everything it opens from now on is there. `false`: not possible here.
fn own_network() -> bool {
    if !sys::host::is_root() {
        eprintln!("skipped: needs root for a network namespace of its own");
        return false;
    }
    match sys::ns::unshare(&[sys::ns::Kind::Net]) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("skipped: no network namespace: {error}");
            false
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("within 10 s: {what}");
}

/// A pair of links `eth0`–`peer`, up, with 10.5.0.2/24 and a default route on the first: what a container comes with.
fn container_network() {
    let netlink = sys::netlink::Netlink::open().unwrap();
    let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
    netlink.add_veth("eth0", "peer", std::os::fd::AsFd::as_fd(&here), None).unwrap();
    let (eth0, peer) = (netlink.need_link("eth0").unwrap().index, netlink.need_link("peer").unwrap().index);
    netlink.set_up(eth0).unwrap();
    netlink.set_up(peer).unwrap();
    netlink.add_address(eth0, "10.5.0.2".parse().unwrap(), 24).unwrap();
    netlink.add_default_route("10.5.0.1".parse().unwrap(), eth0).unwrap();
}

#[test]
fn what_is_added_carries_our_mark_and_can_be_removed() {
    if !own_network() {
        return;
    }
    runtime().block_on(async {
        container_network();
        let kernel = Rtnetlink::open().unwrap();
        let links = kernel.links().await.unwrap();
        let index = |name: &str| links.iter().find(|link| link.name == name).unwrap().status.index;
        let (lo, eth0) = (index("lo"), index("eth0"));
        assert_eq!(links.iter().find(|link| link.name == "eth0").unwrap().status.kind, "veth");
        kernel.apply(Change::SetLink { link: lo, up: Some(true), mtu: Some(9000) }).await.unwrap();
        let seen = kernel.links().await.unwrap();
        let seen = &seen.iter().find(|link| link.name == "lo").unwrap().status;
        assert!(seen.flags.contains(LinkFlags::UP) && seen.mtu == 9000);

        let address: ipnet::IpNet = "169.254.116.108/32".parse().unwrap();
        let add = || Change::AddAddress { link: lo, address, scope: 254, flags: 0, priority: 0 };
        kernel.apply(add()).await.unwrap();
        kernel.apply(add()).await.unwrap();
        let addresses = kernel.addresses().await.unwrap();
        let find = |text: &str| addresses.iter().find(|have| have.status.address.unwrap().to_string() == text);
        assert!(find("169.254.116.108/32").unwrap().ours, "it carries our mark");
        assert!(!find("10.5.0.2/24").unwrap().ours && !find("127.0.0.1/8").unwrap().ours);

        let plan = RoutePlan {
            destination: "10.99.0.0/16".parse().unwrap(),
            gateway: "10.5.0.7".parse().ok(),
            source: None,
            link: eth0,
            table: 254,
            priority: 77,
            scope: 0,
            kind: 1,
            mtu: 1400,
        };
        kernel.apply(Change::AddRoute(plan.clone())).await.unwrap();
        let routes = kernel.routes().await.unwrap();
        let ours: Vec<_> = routes.iter().filter(|route| route.ours).collect();
        assert_eq!(ours.len(), 1);
        let status = &ours[0].status;
        assert_eq!((status.dst.unwrap().to_string(), status.priority, status.mtu), ("10.99.0.0/16".to_owned(), 77, 1400));
        assert!(routes.iter().any(|route| route.status.dst.is_none() && !route.ours), "the container's default route");

        kernel.apply(Change::RemoveRoute(plan.clone())).await.unwrap();
        kernel.apply(Change::RemoveRoute(plan)).await.unwrap();
        kernel.apply(Change::RemoveAddress { link: lo, address }).await.unwrap();
        kernel.apply(Change::RemoveAddress { link: lo, address }).await.unwrap();
        assert!(kernel.addresses().await.unwrap().iter().all(|have| !have.ours));
        assert!(kernel.routes().await.unwrap().iter().all(|have| !have.ours));
        let refused = kernel.apply(Change::SetLink { link: 4242, up: Some(true), mtu: None }).await.unwrap_err();
        assert!(refused.to_string().contains("4242"), "{refused}");
    });
}

#[test]
fn every_change_is_told() {
    if !own_network() {
        return;
    }
    runtime().block_on(async {
        let kernel = Rtnetlink::open().unwrap();
        let mut changes = kernel.changes();
        changes.mark_unchanged();
        kernel.apply(Change::SetLink { link: 1, up: Some(true), mtu: None }).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), changes.changed()).await.expect("in time").unwrap();
    });
}

/// Records instead of acting on the host name and files of the machine that runs the tests.
struct Quiet;

impl Hands for Quiet {
    fn set_hostname(&self, _: &str, _: &str) -> std::io::Result<()> {
        Ok(())
    }

    fn write(&self, _: &std::path::Path, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn clock_synced(&self) -> bool {
        true
    }
}

#[test]
fn a_container_node_comes_up_and_keeps_what_it_came_with() {
    if !own_network() {
        return;
    }
    runtime().block_on(async {
        container_network();
        let store = Store::new();
        let config = "apiVersion: v1alpha1\nkind: ResolverConfig\nhostDNS:\n  enabled: true\n  forwardKubeDNSToHost: true\n---\n\
                      apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: cp-1\n---\n\
                      apiVersion: v1alpha1\nkind: LinkConfig\nname: eth0\naddresses:\n  - address: 10.5.0.50/24\n";
        let configs = store.kind::<MachineConfig>();
        configs.create("v1alpha1", MachineConfig::new(config.as_bytes())).unwrap();
        for id in ["hosts", "resolv.conf"] {
            store.kind::<EtcFileStatus>().create(id, EtcFileStatus::default()).unwrap();
        }
        let kernel = Arc::new(Rtnetlink::open().unwrap());
        let room = Room { kernel: kernel.clone(), hands: Arc::new(Quiet), container: true, pod_resolv_conf: "/unused".into() };
        let running = net::register(Runtime::new(store.clone()), &room).start().unwrap();

        let status = store.kind::<NetworkStatus>();
        let ready =
            |status: &NetworkStatus| status.address_ready && status.connectivity_ready && status.hostname_ready && status.etc_files_ready;
        until("the network is ready", || status.get("status").filter(|status| ready(&status.spec))).await;
        let addresses = store.kind::<AddressStatus>();
        until("the address of host DNS", || addresses.get("lo/169.254.116.108/32")).await;
        until("the configured address", || addresses.get("eth0/10.5.0.50/24")).await;
        assert!(store.kind::<LinkStatus>().get("lo").unwrap().spec.flags.contains(LinkFlags::UP));
        assert!(store.kind::<RouteStatus>().get("inet4/10.5.0.1//0").is_some());
        let listen = store.kind::<HostDnsConfig>().get("config").unwrap().spec.listen_addresses.clone();
        assert_eq!(listen.len(), 2);
        until("the routed address", || {
            store.kind::<NodeAddress>().get("routed").filter(|list| list.spec.addresses.iter().any(|a| a.to_string() == "10.5.0.50/24"))
        })
        .await;

        // Without the configured address it goes; what the container came with stays.
        configs
            .modify("", "v1alpha1", |resource| resource.spec = MachineConfig::new(config.split("---\n").next().unwrap().as_bytes()))
            .unwrap();
        until("the configured address is gone", || addresses.get("eth0/10.5.0.50/24").is_none().then_some(())).await;
        assert!(addresses.get("eth0/10.5.0.2/24").is_some());
        running.stop(Duration::from_secs(2)).await;

        // A brain that starts again knows nothing at first, and takes nothing away.
        let fresh = Store::new();
        let running = net::register(Runtime::new(fresh.clone()), &room).start().unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(kernel.addresses().await.unwrap().iter().any(|have| have.status.address.unwrap().to_string() == "10.5.0.2/24"));
        running.stop(Duration::from_secs(2)).await;
    });
}
