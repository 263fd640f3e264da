//! What a node without a usable configuration says on its console: why, and how to give it one.

use engine::{Happened, Start, Store};
use host::acquire::DIAGNOSTIC;
use model::cluster::ApiCertificate;
use model::host::Diagnostic;
use model::net::NodeAddress;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Tells until the process ends.
pub(crate) async fn tell(store: Store) {
    tokio::join!(tell_why(&store), tell_how(&store));
}

async fn tell_why(store: &Store) {
    loop {
        let Ok(mut watch) = store.kind::<Diagnostic>().watch(Start::Contents) else { return };
        // A watch that fell behind starts anew.
        while let Ok(seen) = watch.next().await {
            let (Happened::Created(found) | Happened::Updated { new: found, .. }) = seen.what else { continue };
            if found.meta.id.as_str() == DIAGNOSTIC {
                tracing::error!("{}", found.spec.message);
                found.spec.details.iter().for_each(|line| tracing::error!("  {line}"));
            }
        }
    }
}

/// The certificate is made anew with each boot and when addresses come; only this console proves which one is the node's.
async fn tell_how(store: &Store) {
    loop {
        let Ok(mut watch) = store.kind::<ApiCertificate>().watch(Start::Contents) else { return };
        while let Ok(seen) = watch.next().await {
            let (Happened::Created(found) | Happened::Updated { new: found, .. }) = seen.what else { continue };
            if !found.spec.skip_verifying_client_cert {
                continue;
            }
            let addresses = store.kind::<NodeAddress>().get("current");
            let address =
                addresses.and_then(|a| a.spec.addresses.first().map(|a| a.addr().to_string())).unwrap_or_else(|| "ADDRESS".into());
            match fingerprint(&found.spec) {
                Ok(print) => tracing::info!(
                    "give this node a configuration: orlopctl apply-config --insecure --nodes {address} --cert-fingerprint {print} \
                     --file FILE"
                ),
                Err(error) => tracing::error!(%error, "the maintenance API's certificate"),
            }
        }
    }
}

fn fingerprint(certificate: &ApiCertificate) -> Result<String, String> {
    let server = certificate.server.as_ref().ok_or("there is none")?;
    let der = CertificateDer::from_pem_slice(&server.crt.0).map_err(|e| e.to_string())?;
    ::api::tls::fingerprint(&der).map_err(|e| e.to_string())
}
