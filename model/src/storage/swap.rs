//! Swap devices and compressed swap.

use resource::resource;

/// A swap device in use.
#[resource(
    type = "SwapStatuses.block.talos.dev",
    namespace = "runtime",
    aliases("swap", "swaps"),
    columns("Device" = "{.device}", "Size" = "{.sizeHuman}", "Used" = "{.usedHuman}", "Priority" = "{.priority}")
)]
pub struct SwapStatus {
    #[field(1)]
    pub device: String,
    #[field(7)]
    pub type_: String,
    #[field(2)]
    pub size: u64,
    #[field(3)]
    pub size_human: String,
    #[field(4)]
    pub used: u64,
    #[field(5)]
    pub used_human: String,
    #[field(6)]
    pub priority: i32,
}

/// How compressed swap fares.
#[resource(
    type = "ZswapStatuses.block.talos.dev",
    namespace = "runtime",
    columns(
        "Total Size" = "{.totalSizeHuman}",
        "Stored Pages" = "{.storedPages}",
        "Written Back" = "{.writtenBackPages}",
        "Pool Limit Hit" = "{.poolLimitHit}"
    ),
    ids("zswap")
)]
pub struct ZswapStatus {
    #[field(1)]
    pub total_size: u64,
    #[field(2)]
    pub total_size_human: String,
    #[field(3)]
    pub stored_pages: u64,
    #[field(4)]
    pub pool_limit_hit: u64,
    #[field(5)]
    pub reject_reclaim_fail: u64,
    #[field(6)]
    pub reject_alloc_fail: u64,
    #[field(7)]
    pub reject_kmemcache_fail: u64,
    #[field(8)]
    pub reject_compress_fail: u64,
    #[field(9)]
    pub reject_compress_poor: u64,
    #[field(10)]
    pub written_back_pages: u64,
}
