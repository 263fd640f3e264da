//! The cluster room: identity, discovery, membership, trust.
