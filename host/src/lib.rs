//! The host room: services, files, logs, the container runtime, platforms.
