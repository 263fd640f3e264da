//! Certificate authorities, certificates, requests, roles and the secrets bundle.
