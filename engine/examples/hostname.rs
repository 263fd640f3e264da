//! A complete controller: the most specific host name wins.
//!
//! Run it with `cargo run -p engine --example hostname`.

use engine::{Context, Controller, Inputs, Many, Outputs, Runtime, Start, Store, Wanted};
use resource::{Spec, resource};

/// A host name as somebody proposes it (in `network-config`), or as it is (in `network`).
#[resource(type = "HostnameSpecs.example.dev", namespace = "network", columns("Hostname" = "{.hostname}"))]
pub struct HostnameSpec {
    /// The name without a domain.
    #[field(1)]
    pub hostname: String,
    /// How much the proposal weighs.
    #[field(2)]
    pub layer: u32,
}

/// Merges the proposals.
struct HostnameMerge;

#[derive(Inputs)]
struct In {
    #[input(namespace = "network-config")]
    specs: Many<HostnameSpec>,
}

impl Controller for HostnameMerge {
    const NAME: &'static str = "network.HostnameMergeController";
    type In = In;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<HostnameSpec>()
    }

    async fn reconcile(&self, _: &Context, input: In) -> engine::Result<Wanted> {
        Ok(Wanted::new().maybe("hostname", winner(&input.specs).cloned()))
    }
}

/// The proposal that weighs most.
fn winner(specs: &Many<HostnameSpec>) -> Option<&HostnameSpec> {
    specs.specs().max_by_key(|s| s.layer)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::new();
    let running = Runtime::new(store.clone()).register(HostnameMerge).start()?;

    let proposals = store.kind_in::<HostnameSpec>("network-config");
    let mut watch = store.kind::<HostnameSpec>().watch(Start::Contents)?;
    proposals.create("default/hostname", HostnameSpec { hostname: "localhost".into(), layer: 0 })?;
    proposals.create("configuration/hostname", HostnameSpec { hostname: "node-1".into(), layer: 4 })?;
    loop {
        let seen = watch.next().await?;
        println!("{:?}", seen.what);
        if let engine::Happened::Created(r) | engine::Happened::Updated { new: r, .. } = &seen.what
            && r.spec.hostname == "node-1"
        {
            print!("{}", running.handle().explain(&r.key(), 2));
            break;
        }
    }
    running.stop(std::time::Duration::from_secs(1)).await;
    println!("{}", HostnameSpec::TYPE);
    Ok(())
}
