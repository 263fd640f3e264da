//! The storage room: disks and volumes.
