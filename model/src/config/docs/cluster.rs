//! Documents about membership of a cluster and its management plane.

use crate::config::schema::section;
use crate::config::types::{Secret, Url};

section! {
    /// One discovery service endpoint.
    pub struct DiscoveryServiceConfig {
        "name" name: String [required()] = "Name of the service.";
        "endpoint" endpoint: Url [required()] = "URL of the service: http (plaintext), https or grpc.";
    }

    /// Cluster id and secret, for discovery and KubeSpan.
    pub struct DiscoveryIdentityConfig {
        "clusterID" cluster_id: String [required()] = "Id of the cluster: 32 random bytes in base64, used as text.";
        "clusterSecret" cluster_secret: Secret [required()] = "Key of the cluster: 32 random bytes in base64.";
    }

    /// URL of the management plane.
    pub struct SideroLinkConfig {
        "apiUrl" api_url: Url [required()] = "URL of the management plane, with the join token in its query.";
        "uniqueToken" unique_token: Secret = "Token that names this machine alone.";
    }
}
