//! The network room: links, addresses, routes, names, time.
