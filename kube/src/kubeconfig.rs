//! kubeconfig files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::yaml;

/// How the user of a kubeconfig proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A client certificate and its key, PEM, held in the file.
    Certificate {
        /// Certificate chain, PEM.
        certificate: Vec<u8>,
        /// Private key, PEM.
        key: Vec<u8>,
    },
    /// A client certificate and its key in another file (both in one), which may be replaced.
    CertificateFile {
        /// Its path.
        path: String,
    },
    /// A bearer token.
    Token {
        /// The token.
        token: String,
    },
    /// A file that holds a bearer token, which may be replaced.
    TokenFile {
        /// Its path.
        path: String,
    },
}

/// The certificate authorities that the server must come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorities {
    /// PEM bundle, held in the file.
    Pem(Vec<u8>),
    /// Path of a PEM bundle.
    File(String),
}

/// A kubeconfig with one cluster, one user and one context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the user; the context is `<user>@<cluster>`.
    pub user: String,
    /// URL of the API server.
    pub server: String,
    /// Name to expect in the server's certificate instead of the URL's host; empty: the URL's.
    pub tls_server_name: String,
    /// Who must have signed the server's certificate.
    pub authorities: Authorities,
    /// Who the user is.
    pub credentials: Credentials,
}

impl Kubeconfig {
    /// The file's text, YAML.
    pub fn to_yaml(&self) -> String {
        yaml::to_string(&self.to_value())
    }

    fn to_value(&self) -> Value {
        let user = format!("{}@{}", self.user, self.cluster);
        let mut cluster = json!({"server": self.server});
        match &self.authorities {
            Authorities::Pem(pem) => {
                cluster["certificate-authority-data"] = json!(STANDARD.encode(pem));
            }
            Authorities::File(path) => cluster["certificate-authority"] = json!(path),
        }
        if !self.tls_server_name.is_empty() {
            cluster["tls-server-name"] = json!(self.tls_server_name);
        }
        let credentials = match &self.credentials {
            Credentials::Certificate { certificate, key } => json!({
                "client-certificate-data": STANDARD.encode(certificate),
                "client-key-data": STANDARD.encode(key),
            }),
            Credentials::CertificateFile { path } => {
                json!({"client-certificate": path, "client-key": path})
            }
            Credentials::Token { token } => json!({"token": token}),
            Credentials::TokenFile { path } => json!({"tokenFile": path}),
        };
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.cluster, "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{
                "name": user,
                "context": {"cluster": self.cluster, "namespace": "default", "user": user},
            }],
            "current-context": user,
        })
    }
}

/// A kubeconfig for a server whose certificate is not checked, with a client certificate (PEM). With an
/// authority, since without one the client would read the machine's whole list of them each time.
pub fn insecure(server: &str, authority: &[u8], certificate: &[u8], key: &[u8]) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(authority),
            "insecure-skip-tls-verify": true,
        }}],
        "users": [{"name": "u", "user": {
            "client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key),
        }}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    yaml::to_string(&config)
}

/// The certificate and key held in a kubeconfig, PEM; `None` when it holds none.
pub fn certificate_of(kubeconfig: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let value = |key: &str| {
        let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(key))?;
        STANDARD.decode(line.trim()).ok()
    };
    Some((value("client-certificate-data:")?, value("client-key-data:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin() {
        let config = Kubeconfig {
            cluster: "demo".into(),
            user: "admin".into(),
            server: "https://10.5.0.2:6443".into(),
            tls_server_name: String::new(),
            authorities: Authorities::Pem(b"ca\n".to_vec()),
            credentials: Credentials::Certificate { certificate: b"crt\n".to_vec(), key: b"key\n".to_vec() },
        };
        assert_eq!(certificate_of(&config.to_yaml()), Some((b"crt\n".to_vec(), b"key\n".to_vec())));
        assert_eq!(certificate_of("apiVersion: v1"), None);
        assert_eq!(
            config.to_yaml(),
            "\
apiVersion: v1
clusters:
    - cluster:
        certificate-authority-data: Y2EK
        server: https://10.5.0.2:6443
      name: demo
contexts:
    - context:
        cluster: demo
        namespace: default
        user: admin@demo
      name: admin@demo
current-context: admin@demo
kind: Config
users:
    - name: admin@demo
      user:
        client-certificate-data: Y3J0Cg==
        client-key-data: a2V5Cg==
"
        );
    }

    #[test]
    fn kubelet_forms() {
        let mut config = Kubeconfig {
            cluster: "local".into(),
            user: "kubelet".into(),
            server: "https://127.0.0.1:7445".into(),
            tls_server_name: "kubernetes".into(),
            authorities: Authorities::File("/etc/kubernetes/pki/ca.crt".into()),
            credentials: Credentials::Token { token: "abcdef.0123456789abcdef".into() },
        };
        let text = config.to_yaml();
        assert!(text.contains("token: abcdef.0123456789abcdef"), "{text}");
        assert!(text.contains("tls-server-name: kubernetes"), "{text}");
        assert!(text.contains("certificate-authority: /etc/kubernetes/pki/ca.crt"), "{text}");
        config.credentials = Credentials::CertificateFile { path: "/c.pem".into() };
        let text = config.to_yaml();
        assert!(text.contains("client-certificate: /c.pem") && text.contains("client-key: /c.pem"));
    }
}
