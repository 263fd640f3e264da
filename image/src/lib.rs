//! Disk layouts, unified kernel images, installer.
