//! What the machine is made of.

use resource::resource;

/// The machine, as its firmware describes it.
#[resource(
    type = "SystemInformations.hardware.talos.dev",
    namespace = "hardware",
    columns(
        "Manufacturer" = "{.manufacturer}",
        "ProductName" = "{.productName}",
        "Version" = "{.version}",
        "SerialNumber" = "{.serialnumber}",
        "UUID" = "{.uuid}",
        "WakeUpType" = "{.wakeUpType}",
        "SKUNumber" = "{.skuNumber}"
    ),
    ids("systeminformation")
)]
pub struct SystemInformation {
    #[field(1, omit_empty)]
    pub manufacturer: String,
    #[field(2, omit_empty)]
    pub product_name: String,
    #[field(3, omit_empty)]
    pub version: String,
    #[field(8, omit_empty)]
    pub bios_version: String,
    #[field(4, yaml = "serialnumber", omit_empty)]
    pub serial_number: String,
    #[field(5, omit_empty)]
    pub uuid: String,
    #[field(6, omit_empty)]
    pub wake_up_type: String,
    #[field(7, omit_empty)]
    pub sku_number: String,
}

/// A processor, as the firmware describes it.
#[resource(
    type = "Processors.hardware.talos.dev",
    namespace = "hardware",
    aliases("cpus", "cpu"),
    columns(
        "Manufacturer" = "{.manufacturer}",
        "Model" = "{.productName}",
        "Cores" = "{.coreCount}",
        "Threads" = "{.threadCount}"
    )
)]
pub struct Processor {
    #[field(1, omit_empty)]
    pub socket: String,
    #[field(2, omit_empty)]
    pub manufacturer: String,
    #[field(3, omit_empty)]
    pub product_name: String,
    #[field(4, omit_empty)]
    pub max_speed_mhz: u32,
    #[field(5, omit_empty)]
    pub boot_speed_mhz: u32,
    #[field(6, omit_empty)]
    pub status: u32,
    #[field(7, omit_empty)]
    pub serial_number: String,
    #[field(8, omit_empty)]
    pub asset_tag: String,
    #[field(9, omit_empty)]
    pub part_number: String,
    #[field(10, omit_empty)]
    pub core_count: u32,
    #[field(11, omit_empty)]
    pub core_enabled: u32,
    #[field(12, omit_empty)]
    pub thread_count: u32,
}

/// A processor core, as the kernel describes it.
#[resource(
    type = "CPUCores.hardware.talos.dev",
    namespace = "hardware",
    columns(
        "Socket" = "{.socket}",
        "Core" = "{.coreID}",
        "Model" = "{.modelName}",
        "Logical CPUs" = "{.logicalCPUs}"
    )
)]
pub struct CpuCore {
    #[field(1, omit_empty)]
    pub socket: String,
    #[field(2, yaml = "coreID", omit_empty)]
    pub core_id: String,
    #[field(3, yaml = "logicalCPUs", omit_empty)]
    pub logical_cpus: Vec<u32>,
    #[field(4, yaml = "vendorID", omit_empty)]
    pub vendor_id: String,
    #[field(5, omit_empty)]
    pub cpu_family: String,
    #[field(6, omit_empty)]
    pub model: String,
    #[field(7, omit_empty)]
    pub model_name: String,
    #[field(8, omit_empty)]
    pub stepping: String,
    #[field(9, omit_empty)]
    pub microcode: String,
    #[field(10, omit_empty)]
    pub cache_size: String,
    #[field(11, omit_empty)]
    pub cores_per_socket: u32,
    #[field(12, omit_empty)]
    pub threads_per_socket: u32,
    #[field(13, omit_empty)]
    pub flags: Vec<String>,
    #[field(14, omit_empty)]
    pub bugs: Vec<String>,
    #[field(15, omit_empty)]
    pub bogo_mips: f64,
    #[field(16, omit_empty)]
    pub address_sizes: String,
}

/// A memory module.
#[resource(
    type = "MemoryModules.hardware.talos.dev",
    namespace = "hardware",
    aliases("ram"),
    columns("Manufacturer" = "{.manufacturer}", "Model" = "{.productName}", "SizeMiB" = "{.sizeMiB}")
)]
pub struct MemoryModule {
    #[field(1, yaml = "sizeMiB", omit_empty)]
    pub size_mib: u32,
    #[field(2, omit_empty)]
    pub device_locator: String,
    #[field(3, omit_empty)]
    pub bank_locator: String,
    #[field(4, omit_empty)]
    pub speed: u32,
    #[field(5, omit_empty)]
    pub manufacturer: String,
    #[field(6, omit_empty)]
    pub serial_number: String,
    #[field(7, omit_empty)]
    pub asset_tag: String,
    #[field(8, omit_empty)]
    pub product_name: String,
}

/// A PCI device.
#[resource(
    type = "PCIDevices.hardware.talos.dev",
    namespace = "hardware",
    aliases("devices", "device"),
    columns("Class" = "{.class}", "Subclass" = "{.subclass}", "Vendor" = "{.vendor}", "Product" = "{.product}")
)]
pub struct PciDevice {
    #[field(1, omit_empty)]
    pub class: String,
    #[field(2, omit_empty)]
    pub subclass: String,
    #[field(3, omit_empty)]
    pub vendor: String,
    #[field(4, omit_empty)]
    pub product: String,
    #[field(5, yaml = "class_id")]
    pub class_id: String,
    #[field(6, yaml = "subclass_id")]
    pub subclass_id: String,
    #[field(7, yaml = "vendor_id")]
    pub vendor_id: String,
    #[field(8, yaml = "product_id")]
    pub product_id: String,
    #[field(9, omit_empty)]
    pub driver: String,
}

/// A PCI device that shall have another driver.
#[resource(
    type = "PCIDriverRebindConfigs.runtime.talos.dev",
    namespace = "hardware",
    columns("Name" = "{.name}", "PCI ID" = "{.pciID}", "TargetDriver" = "{.targetDriver}")
)]
pub struct PciDriverRebindConfig {
    #[field(1, yaml = "pciID")]
    pub pci_id: String,
    #[field(2)]
    pub target_driver: String,
}

/// A PCI device that has another driver.
#[resource(
    type = "PCIDriverRebindStatuses.runtime.talos.dev",
    namespace = "hardware",
    aliases("pcidriverrebinds"),
    columns("Name" = "{.name}", "PCI ID" = "{.pciID}", "TargetDriver" = "{.targetDriver}")
)]
pub struct PciDriverRebindStatus {
    #[field(1, yaml = "pciID")]
    pub pci_id: String,
    #[field(2)]
    pub target_driver: String,
}

/// The TPM's registers were extended.
#[resource(type = "PCRStatuses.hardware.talos.dev", namespace = "hardware")]
pub struct PcrStatus {}
