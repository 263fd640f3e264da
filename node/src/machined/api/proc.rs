//! What `/proc` says about the node, in the API's messages. Parsing is the `procfs` crate's.

use api::machine as pb;
use procfs::prelude::*;

/// Clock ticks a second in `/proc/stat` as the kernel reports them to user space on every architecture we run on.
const TICKS: f64 = 100.0;

/// Memory, in KiB as the kernel prints it.
pub(super) fn memory() -> procfs::ProcResult<pb::MemInfo> {
    let m = procfs::Meminfo::current()?;
    let kib = |bytes: u64| bytes / 1024;
    let opt = |bytes: Option<u64>| bytes.map(kib).unwrap_or_default();
    let count = |pages: Option<u64>| pages.unwrap_or_default();
    Ok(pb::MemInfo {
        memtotal: kib(m.mem_total),
        memfree: kib(m.mem_free),
        memavailable: opt(m.mem_available),
        buffers: kib(m.buffers),
        cached: kib(m.cached),
        swapcached: kib(m.swap_cached),
        active: kib(m.active),
        inactive: kib(m.inactive),
        activeanon: opt(m.active_anon),
        inactiveanon: opt(m.inactive_anon),
        activefile: opt(m.active_file),
        inactivefile: opt(m.inactive_file),
        unevictable: opt(m.unevictable),
        mlocked: opt(m.mlocked),
        swaptotal: kib(m.swap_total),
        swapfree: kib(m.swap_free),
        dirty: kib(m.dirty),
        writeback: kib(m.writeback),
        anonpages: opt(m.anon_pages),
        mapped: kib(m.mapped),
        shmem: opt(m.shmem),
        slab: kib(m.slab),
        sreclaimable: opt(m.s_reclaimable),
        sunreclaim: opt(m.s_unreclaim),
        kernelstack: opt(m.kernel_stack),
        pagetables: opt(m.page_tables),
        nfsunstable: opt(m.nfs_unstable),
        bounce: opt(m.bounce),
        writebacktmp: opt(m.writeback_tmp),
        commitlimit: opt(m.commit_limit),
        committedas: kib(m.committed_as),
        vmalloctotal: kib(m.vmalloc_total),
        vmallocused: kib(m.vmalloc_used),
        vmallocchunk: kib(m.vmalloc_chunk),
        hardwarecorrupted: opt(m.hardware_corrupted),
        anonhugepages: opt(m.anon_hugepages),
        shmemhugepages: opt(m.shmem_hugepages),
        shmempmdmapped: opt(m.shmem_pmd_mapped),
        cmatotal: opt(m.cma_total),
        cmafree: opt(m.cma_free),
        hugepagestotal: count(m.hugepages_total),
        hugepagesfree: count(m.hugepages_free),
        hugepagesrsvd: count(m.hugepages_rsvd),
        hugepagessurp: count(m.hugepages_surp),
        hugepagesize: opt(m.hugepagesize),
        directmap4k: opt(m.direct_map_4k),
        directmap2m: opt(m.direct_map_2M),
        directmap1g: opt(m.direct_map_1G),
    })
}

/// The load averages.
pub(super) fn load() -> procfs::ProcResult<pb::LoadAvg> {
    let load = procfs::LoadAverage::current()?;
    Ok(pb::LoadAvg { metadata: None, load1: load.one.into(), load5: load.five.into(), load15: load.fifteen.into() })
}

#[expect(clippy::cast_precision_loss, reason = "ticks fit in 52 bits for some million years")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS
}

fn cpu_stat(t: &procfs::CpuTime) -> pb::CpuStat {
    let opt = |ticks: Option<u64>| seconds(ticks.unwrap_or_default());
    pb::CpuStat {
        user: seconds(t.user),
        nice: seconds(t.nice),
        system: seconds(t.system),
        idle: seconds(t.idle),
        iowait: opt(t.iowait),
        irq: opt(t.irq),
        soft_irq: opt(t.softirq),
        steal: opt(t.steal),
        guest: opt(t.guest),
        guest_nice: opt(t.guest_nice),
    }
}

/// The lines of `/proc/stat` that the crate leaves out: the total and the single counts of `intr` and `softirq`.
fn interrupts(text: &str, key: &str) -> (u64, Vec<u64>) {
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    (numbers.next().unwrap_or_default(), numbers.collect())
}

/// CPU time and interrupts since boot.
pub(super) fn system_stat() -> procfs::ProcResult<pb::SystemStat> {
    let stat = procfs::KernelStats::current()?;
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let (irq_total, irq) = interrupts(&text, "intr ");
    let (soft_irq_total, soft) = interrupts(&text, "softirq ");
    let soft = |index: usize| soft.get(index).copied().unwrap_or_default();
    Ok(pb::SystemStat {
        metadata: None,
        boot_time: stat.btime,
        cpu_total: Some(cpu_stat(&stat.total)),
        cpu: stat.cpu_time.iter().map(cpu_stat).collect(),
        irq_total,
        irq,
        context_switches: stat.ctxt,
        process_created: stat.processes,
        process_running: stat.procs_running.unwrap_or_default().into(),
        process_blocked: stat.procs_blocked.unwrap_or_default().into(),
        soft_irq_total,
        soft_irq: Some(pb::SoftIrqStat {
            hi: soft(0),
            timer: soft(1),
            net_tx: soft(2),
            net_rx: soft(3),
            block: soft(4),
            block_io_poll: soft(5),
            tasklet: soft(6),
            sched: soft(7),
            hrtimer: soft(8),
            rcu: soft(9),
        }),
    })
}

/// The processors as `/proc/cpuinfo` describes them.
pub(super) fn cpu_info() -> procfs::ProcResult<pb::CpUsInfo> {
    let info = procfs::CpuInfo::current()?;
    let cpus = (0..info.num_cores()).filter_map(|n| info.get_info(n).map(|fields| (n, fields)));
    let cpu_info = cpus
        .map(|(n, fields)| {
            let text = |key: &str| fields.get(key).map(|v| (*v).to_owned()).unwrap_or_default();
            let number = |key: &str| text(key).parse().unwrap_or_default();
            let float = |key: &str| text(key).parse().unwrap_or_default();
            let words = |key: &str| text(key).split_whitespace().map(str::to_owned).collect();
            pb::CpuInfo {
                processor: u32::try_from(n).unwrap_or_default(),
                vendor_id: text("vendor_id"),
                cpu_family: text("cpu family"),
                model: text("model"),
                model_name: text("model name"),
                stepping: text("stepping"),
                microcode: text("microcode"),
                cpu_mhz: float("cpu MHz"),
                cache_size: text("cache size"),
                physical_id: text("physical id"),
                siblings: number("siblings"),
                core_id: text("core id"),
                cpu_cores: number("cpu cores"),
                apic_id: text("apicid"),
                initial_apic_id: text("initial apicid"),
                fpu: text("fpu"),
                fpu_exception: text("fpu_exception"),
                cpu_id_level: number("cpuid level"),
                wp: text("wp"),
                flags: words("flags"),
                bugs: words("bugs"),
                bogo_mips: float("bogomips"),
                cl_flush_size: number("clflush size"),
                cache_alignment: number("cache_alignment"),
                address_sizes: text("address sizes"),
                power_management: text("power management"),
            }
        })
        .collect();
    Ok(pb::CpUsInfo { metadata: None, cpu_info })
}

/// Traffic of each link and of all but the loopback together.
pub(super) fn network_device_stats() -> procfs::ProcResult<pb::NetworkDeviceStats> {
    let mut devices: Vec<pb::NetDev> = procfs::net::InterfaceDeviceStatus::current()?
        .0
        .into_values()
        .map(|d| pb::NetDev {
            name: d.name,
            rx_bytes: d.recv_bytes,
            rx_packets: d.recv_packets,
            rx_errors: d.recv_errs,
            rx_dropped: d.recv_drop,
            rx_fifo: d.recv_fifo,
            rx_frame: d.recv_frame,
            rx_compressed: d.recv_compressed,
            rx_multicast: d.recv_multicast,
            tx_bytes: d.sent_bytes,
            tx_packets: d.sent_packets,
            tx_errors: d.sent_errs,
            tx_dropped: d.sent_drop,
            tx_fifo: d.sent_fifo,
            tx_collisions: d.sent_colls,
            tx_carrier: d.sent_carrier,
            tx_compressed: d.sent_compressed,
        })
        .collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    let mut total = pb::NetDev { name: "total".into(), ..pb::NetDev::default() };
    for d in devices.iter().filter(|d| d.name != "lo") {
        total.rx_bytes += d.rx_bytes;
        total.rx_packets += d.rx_packets;
        total.rx_errors += d.rx_errors;
        total.rx_dropped += d.rx_dropped;
        total.tx_bytes += d.tx_bytes;
        total.tx_packets += d.tx_packets;
        total.tx_errors += d.tx_errors;
        total.tx_dropped += d.tx_dropped;
    }
    Ok(pb::NetworkDeviceStats { metadata: None, total: Some(total), devices })
}

/// Reads and writes of each disk and of all together.
pub(super) fn disk_stats() -> procfs::ProcResult<pb::DiskStats> {
    let devices: Vec<pb::DiskStat> = procfs::diskstats()?
        .into_iter()
        .map(|d| pb::DiskStat {
            name: d.name,
            read_completed: d.reads,
            read_merged: d.merged,
            read_sectors: d.sectors_read,
            read_time_ms: d.time_reading,
            write_completed: d.writes,
            write_merged: d.writes_merged,
            write_sectors: d.sectors_written,
            write_time_ms: d.time_writing,
            io_in_progress: d.in_progress,
            io_time_ms: d.time_in_progress,
            io_time_weighted_ms: d.weighted_time_in_progress,
            discard_completed: d.discards.unwrap_or_default(),
            discard_merged: d.discards_merged.unwrap_or_default(),
            discard_sectors: d.sectors_discarded.unwrap_or_default(),
            discard_time_ms: d.time_discarding.unwrap_or_default(),
        })
        .collect();
    let mut total = pb::DiskStat { name: "total".into(), ..pb::DiskStat::default() };
    for d in &devices {
        total.read_completed += d.read_completed;
        total.read_sectors += d.read_sectors;
        total.read_time_ms += d.read_time_ms;
        total.write_completed += d.write_completed;
        total.write_sectors += d.write_sectors;
        total.write_time_ms += d.write_time_ms;
        total.io_in_progress += d.io_in_progress;
        total.io_time_ms += d.io_time_ms;
    }
    Ok(pb::DiskStats { metadata: None, total: Some(total), devices })
}

/// Every process of the node. One that ends while it is looked at is left out.
pub(super) fn processes() -> procfs::ProcResult<Vec<pb::ProcessInfo>> {
    let page = procfs::page_size();
    let mut all: Vec<pb::ProcessInfo> = procfs::process::all_processes()?
        .filter_map(Result::ok)
        .filter_map(|process| {
            let stat = process.stat().ok()?;
            let executable = process.exe().map(|path| path.display().to_string()).unwrap_or_default();
            let args = process.cmdline().unwrap_or_default().join(" ");
            Some(pb::ProcessInfo {
                pid: stat.pid,
                ppid: stat.ppid,
                state: stat.state.to_string(),
                threads: i32::try_from(stat.num_threads).unwrap_or(i32::MAX),
                cpu_time: seconds(stat.utime + stat.stime),
                virtual_memory: stat.vsize,
                resident_memory: stat.rss * page,
                command: stat.comm,
                executable,
                args,
                label: String::new(),
            })
        })
        .collect();
    all.sort_by_key(|p| p.pid);
    Ok(all)
}

/// Every mount with the size of its file system, in bytes. One that cannot be asked counts as empty.
pub(super) fn mounts() -> procfs::ProcResult<Vec<pb::MountStat>> {
    let all = procfs::process::Process::myself()?.mountinfo()?;
    let stat = |m: &procfs::process::MountInfo| {
        let found = nix::sys::statvfs::statvfs(&m.mount_point).ok();
        let bytes = |blocks: Option<u64>| blocks.unwrap_or_default() * found.as_ref().map_or(0, nix::sys::statvfs::Statvfs::fragment_size);
        pb::MountStat {
            filesystem: m.mount_source.clone().unwrap_or_else(|| m.fs_type.clone()),
            size: bytes(found.as_ref().map(nix::sys::statvfs::Statvfs::blocks)),
            available: bytes(found.as_ref().map(nix::sys::statvfs::Statvfs::blocks_available)),
            mounted_on: m.mount_point.display().to_string(),
        }
    };
    Ok(all.0.iter().map(stat).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupt_lines_give_total_and_parts() {
        let text = "cpu  1 2 3\nintr 100 7 0 93\nsoftirq 10 1 2 3 4\n";
        assert_eq!(interrupts(text, "intr "), (100, vec![7, 0, 93]));
        assert_eq!(interrupts(text, "softirq "), (10, vec![1, 2, 3, 4]));
        assert_eq!(interrupts("", "intr "), (0, vec![]));
    }

    #[test]
    fn memory_is_in_kib_like_proc() {
        let line = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total: u64 = line.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(memory().unwrap().memtotal, total);
    }

    #[test]
    fn we_are_among_the_processes() {
        let own = i32::try_from(std::process::id()).unwrap();
        let all = processes().unwrap();
        let us = all.iter().find(|p| p.pid == own).unwrap();
        assert!(us.resident_memory > 1 << 20 && us.threads >= 1);
    }
}
